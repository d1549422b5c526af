"""How soon a cluster goes on when the coordinator or PostgreSQL is gone.

The bounds are for slow and busy machines; what was measured on a quiet one is in bench/README.md.
"""

from __future__ import annotations

import re
import time

import pytest

from tests.cluster.conftest import EVERYTHING, Start, end
from tests.cluster.harbour import HOLD, Cluster, Program
from tests.services.postgresql import Postgresql

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


def coordinating(cluster: Cluster) -> Program | None:
    """The service that coordinates, by its own account."""
    for one in cluster.services:
        said = re.findall(r" (not coordinating|coordinating) ", one.log())
        if said and said[-1] == "coordinating":
            return one
    return None


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_another_service_coordinates_within_ten_seconds(start: Start, how: str) -> None:
    cluster = start(services=2, machines=1, workers=2, rate=1_000, cuttable=how == "cut off")
    first = cluster.until(lambda: coordinating(cluster), 60, "elect one")
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
