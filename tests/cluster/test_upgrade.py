"""Upgrades of a cluster that goes on working: processes of two versions side by side."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.cluster import versions
from tests.cluster.conftest import EVERYTHING, Start
from tests.cluster.harbour import START_SECONDS, Cluster, Program
from tests.harbour import counters

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

OBJECTS = 800
RATE = 200.0


class Jobs:
    """Jobs over all objects of a cluster, one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.operations: list[str] = []

    def begin(self) -> str:
        value = "UNSET" if len(self.operations) % 2 else "SET"
        what = {"putObjectHold": {"temporaryHold": value}}
        self.operations.append(self.cluster.create(EVERYTHING, what))
        return self.operations[-1]

    def end(self) -> None:
        """All have ended, with each object counted once."""
        for operation in self.operations:
            job = self.cluster.done(operation)
            assert job["state"] == "SUCCEEDED", (job, self.cluster.logs())
            found = counters(job)
            assert (found["totalObjectCount"], found["succeededObjectCount"]) == (OBJECTS, OBJECTS)
        assert self.cluster.held() == OBJECTS * (len(self.operations) % 2)

    def until_carried_by(self, machine: Program) -> None:
        """A worker of the machine has got a shard; of a new job, if the last one has ended."""

        def carries() -> bool:
            time.sleep(0.25)  # each look connects anew
            owners = re.findall(r"worker started worker=(\S+)", machine.log())
            carried = self.cluster.carried()
            if not carried and self.cluster.done_by(self.operations[-1]) == OBJECTS:
                self.begin()
            return bool(owners) and carried.get(owners[-1], 0) > 0

        self.cluster.until(carries, 2 * START_SECONDS, "get a shard")


def replace_service(cluster: Cluster, sources: Path | None = None) -> None:
    """Another service, of these sources, coordinates."""
    old = cluster.services[0]
    new = cluster.add_service(sources)
    assert old.stop() == 0
    cluster.services.remove(old)
    cluster.until(lambda: " coordinating " in new.log(), START_SECONDS, "coordinate")


def test_the_commit_before_and_this_one_side_by_side(start: Start, tmp_path: Path) -> None:
    """Database, workers, services; and back, as far as the workers before can read."""
    before = versions.before(tmp_path / "before")
    cluster = start(OBJECTS, rate=RATE, sources=before)
    old_machine = cluster.machines[0]
    jobs = Jobs(cluster)
    jobs.begin()
    jobs.until_carried_by(old_machine)
    upgraded = cluster.run("database", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    jobs.until_carried_by(cluster.add_machine())
    assert old_machine.stop() == 0
    jobs.until_carried_by(cluster.machines[1])
    replace_service(cluster)
    jobs.until_carried_by(cluster.machines[1])
    if versions.format_of(before) == versions.format_of(versions.SOURCES):
        old_machine.start()
        jobs.until_carried_by(old_machine)
    jobs.end()


def test_a_version_to_come(start: Start, tmp_path: Path) -> None:
    """It expands the schema while this one works; its shards wait for its workers; and it contracts
    the schema once nobody of this one is left, who then does not start."""
    newer = versions.after(tmp_path / "newer", "expand", "contract")
    cluster = start(OBJECTS, rate=RATE)
    machine = cluster.machines[0]
    jobs = Jobs(cluster)
    jobs.begin()
    jobs.until_carried_by(machine)
    upgraded = cluster.run("database", "upgrade", sources=newer)
    assert upgraded.returncode == 0, upgraded.stderr
    assert "longshore serve, process" in upgraded.stdout
    assert "longshore worker, process" in upgraded.stdout
    jobs.end()

    replace_service(cluster, newer)
    operation = jobs.begin()

    def unread() -> bool:
        status = cluster.run("cluster", "status", "--seconds", "1", "--format", "json")
        shards = json.loads(status.stdout)["shards"]
        assert shards["carried"] == 0, "this worker carries what it cannot read"
        return bool(shards["waiting"] == shards["unread"] == 1)

    cluster.until(unread, START_SECONDS, "see what nobody can read")
    assert cluster.done_by(operation) == 0
    jobs.until_carried_by(cluster.add_machine(newer))
    jobs.end()

    refused = cluster.run("database", "upgrade", sources=newer)
    assert refused.returncode == 1
    assert f"longshore worker, process {machine.pid} on " in refused.stderr
    assert machine.stop() == 0
    upgraded = cluster.run("database", "upgrade", sources=newer)
    assert upgraded.returncode == 0, upgraded.stderr
    machine.start()
    cluster.until(lambda: not machine.running(), START_SECONDS, "end")
    assert "of a newer longshore" in machine.log()
