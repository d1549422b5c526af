"""When a lease has run out: by one clock, and by the lease's own time."""

from __future__ import annotations

from longshore.clock import SystemClock
from longshore.database.leases import Lease
from longshore.engine.lease_watch import LeaseWatch


class Hand(SystemClock):
    """A clock that is moved by hand."""

    at = 100.0

    def monotonic(self) -> float:
        return self.at


def test_each_lease_lasts_as_long_as_its_worker_believes() -> None:
    """Whoever judges has settings of its own; a worker of others sends until its own deadline."""
    clock = Hand()
    watch = LeaseWatch(clock, 30)
    short, own, long = (
        Lease(one, 1, "w", 5, seconds) for one, seconds in enumerate((21, None, 60))
    )
    ended = []
    for seconds in (0, 21, 22, 30, 31, 60, 61):
        clock.at = 100.0 + seconds
        ended.append([lease.shard for lease in watch.expired([short, own, long])])
    assert ended == [[], [], [0], [0], [0, 1], [0, 1], [0, 1, 2]]


def test_a_lease_that_moved_has_all_its_time_again() -> None:
    clock = Hand()
    watch = LeaseWatch(clock, 30)
    lease = Lease(1, 1, "w", 5, 40)
    assert watch.expired([lease]) == []
    clock.at += 39
    moved = lease._replace(checkpoint=6)
    assert watch.expired([moved]) == []
    clock.at += 40
    assert watch.expired([moved]) == []
    clock.at += 1
    assert watch.expired([moved]) == [moved]
