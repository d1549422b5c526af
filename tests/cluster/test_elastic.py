"""Machines that come and go while a job runs: nothing is lost, and work is spread again soon."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cluster.conftest import Start
from tests.cluster.harbour import Cluster, Program
from tests.harbour import HOLD, counters

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

OBJECTS, FOLDERS = 12_000, 48


def worker_of(cluster: Cluster, machine: Program) -> str:
    """The name of a machine's only worker, once the scheduler has it."""
    pattern = re.compile(r"worker started worker=(\S+)")

    def there() -> Any:
        said = pattern.search(machine.log())
        return said and f"name: {said[1]}" in cluster.scheduler.log() and said[1]

    cluster.until(there, 60, "join")
    return str(there())


def test_work_is_spread_again_after_a_machine_came_and_one_went(start: Start) -> None:
    # So slow that one more machine comes in time.
    cluster = start(OBJECTS, FOLDERS, machines=2, workers=1, rate=300)
    first, second = (worker_of(cluster, machine) for machine in cluster.machines)
    operation = cluster.create([f"d/{folder}/" for folder in range(FOLDERS)], HOLD)
    cluster.until(lambda: cluster.carried() == {first: 4, second: 4}, 30, "be spread over two")
    third = worker_of(cluster, cluster.add_machine())
    three = {first: 4, second: 4, third: 4}
    cluster.until(lambda: cluster.carried() == three, 10, "be spread over three")
    assert cluster.machines[0].stop() == 0
    cluster.until(lambda: cluster.carried() == {second: 4, third: 4}, 10, "be spread over two")
    before = cluster.done_by(operation)
    cluster.until(lambda: cluster.done_by(operation) > before, 10, "go on")
    cluster.cancel(operation)
    job = cluster.done(operation)
    assert job["state"] == "CANCELED", (job, cluster.logs())
    assert counters(job)["succeededObjectCount"] == cluster.held() < OBJECTS
