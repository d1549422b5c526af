"""The caps of a store hold over a whole cluster, whose workers come and go meanwhile."""

from __future__ import annotations

import time

import pytest

from tests.cluster.conftest import EVERYTHING, Start, end
from tests.harbour import HOLD

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

RATE = 500.0
OBJECTS = 7_500
WINDOW_SECONDS = 4.0
Mark = tuple[float, int]


def fastest(marks: list[Mark]) -> float:
    """The most objects a second that were done within any WINDOW_SECONDS or a little more."""
    return max(
        (late[1] - early[1]) / (late[0] - early[0])
        for number, early in enumerate(marks)
        for late in marks[number + 1 :]
        if late[0] - early[0] >= WINDOW_SECONDS
    )


def test_no_more_is_asked_than_the_cap_while_machines_come_and_go(start: Start) -> None:
    cluster = start(OBJECTS, services=2, machines=2, shards_at_once=2, rate=RATE)
    operation = cluster.create(EVERYTHING, HOLD)
    marks: list[Mark] = []

    def watch(until: float) -> None:
        while not marks or marks[-1][1] < until * OBJECTS:
            marks.append((time.monotonic(), cluster.done_by(operation)))
            time.sleep(0.05)

    watch(0.3)
    cluster.add_machine()
    watch(0.6)
    cluster.machines[0].kill()
    watch(0.8)
    cluster.services[0].kill()
    watch(1.0)
    end(cluster, operation, OBJECTS)
    assert fastest(marks) <= 1.1 * RATE, marks
