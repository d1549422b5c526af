"""How soon a cluster goes on when the coordinator, the scheduler, a worker or PostgreSQL is gone.

The bounds are for slow and busy machines; what was measured on a quiet one is in bench/README.md.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time

import pytest

from tests.cluster.conftest import EVERYTHING, Start, end
from tests.cluster.leases import Record, Row
from tests.harbour import HOLD
from tests.services.postgresql import Postgresql

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_another_service_coordinates_within_ten_seconds(start: Start, how: str) -> None:
    cluster = start(services=2, machines=1, workers=2, rate=1_000, cuttable=how == "cut off")
    first = cluster.until(cluster.coordinating, 60, "elect one")
    (other,) = (one for one in cluster.services if one is not first)
    if how == "killed":
        first.kill()
    elif how == "stopped":
        first.suspend()
    else:
        for way in cluster.forwarders[first.name]:
            way.cut()
    began = time.monotonic()
    cluster.services = [other, first]
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: " coordinating " in other.log(), 30, "take over")
    took = time.monotonic() - began
    print(f"{how}: another coordinates after {took:.1f} s")
    assert took < 10
    cluster.until(lambda: cluster.done_by(operation) > 0, 60, "begin")
    if how == "stopped":
        first.resume()
    for way in cluster.forwarders.get(first.name, ()):
        way.heal()
    if how != "killed":
        cluster.until(lambda: "not coordinating" in first.log(), 30, "notice that it is deposed")
    if how == "stopped":
        assert re.search(r'not coordinating .*why="the term is no longer \d', first.log())
    end(cluster, operation)


def test_work_goes_on_when_postgresql_is_back(start: Start, postgresql: Postgresql) -> None:
    """After more than 5 s, so that nobody has a term any more."""
    cluster = start(services=2, machines=1, workers=2, rate=1_000)
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: cluster.done_by(operation) > 500, 60, "make progress")
    postgresql.stop("immediate")
    time.sleep(6)
    postgresql.start()
    began = time.monotonic()
    another = cluster.create(["d/1/"], HOLD)
    cluster.until(lambda: cluster.done_by(another) > 0, 30, "begin another job")
    took = time.monotonic() - began
    print(f"another job began {took:.1f} s after PostgreSQL was back")
    assert took < 15
    end(cluster, operation)


def test_shards_are_begun_again_soon(start: Start) -> None:
    """Those of a worker that was killed, and what waits for a scheduler."""
    cluster = start(4_000, machines=2, workers=1, shards_at_once=16, rate=1_000)
    record = Record(cluster.database)
    there = re.compile("Register worker addr")
    cluster.until(lambda: len(there.findall(cluster.scheduler.log())) == 2, 60, "see both workers")
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: len(cluster.carried()) == 2, 60, "share")
    (victim,) = cluster.machines[0].children()
    killed = time.time()
    os.kill(victim, signal.SIGKILL)
    rows: list[Row] = []

    def again() -> float | None:
        rows.extend(record.taken())
        return _accepted(rows, cluster.place(cluster.machines[0]), killed)

    accepted = cluster.until(again, 30, "go on elsewhere")
    print(f"accepted by others {accepted - killed:.2f} s after a SIGKILL")
    assert accepted - killed < 5
    end(cluster, operation, 4_000)

    cluster.scheduler.kill()
    another = cluster.create(EVERYTHING, {"putObjectHold": {"temporaryHold": "UNSET"}})
    cluster.scheduler.start()
    cluster.until(lambda: _listens(cluster.scheduler_address), 60, "listen")
    began = time.monotonic()
    cluster.until(lambda: cluster.done_by(another) > 0, 30, "begin")
    took = time.monotonic() - began
    print(f"begun {took:.2f} s after the scheduler listens")
    assert took < 10
    cluster.done(another)


def _accepted(rows: list[Row], place: str, killed: float) -> float | None:
    """When those shards that were carried at ``place`` and dealt again were accepted."""
    had: dict[int, Row] = {}
    dealt: dict[int, Row] = {}
    accepted: dict[int, float] = {}
    for row in rows:
        if row.at <= killed:
            had.pop(row.shard, None)
            if row.owner is not None and row.owner.startswith(place):
                had[row.shard] = row
        elif row.shard in had and row.attempt > had[row.shard].attempt:
            if row.shard not in dealt or row.attempt > dealt[row.shard].attempt:
                dealt[row.shard] = row
            elif row.checkpoint > dealt[row.shard].checkpoint:
                accepted.setdefault(row.shard, row.at)
    return max(accepted.values()) if dealt and accepted.keys() == dealt.keys() else None


def _listens(address: str) -> bool:
    host, _, port = address.rpartition("//")[2].partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False
