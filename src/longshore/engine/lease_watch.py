"""Which leases have run out: judged in one place, by one monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable

from longshore.clock import Clock
from longshore.database.leases import Lease


class LeaseWatch:
    """Sees a lease end when its checkpoint has stood still for the lease's whole time.

    Wall clocks, and those of the workers, have no say: only how long this process has seen a lease
    just as it is.
    """

    def __init__(self, clock: Clock, lease_seconds: float) -> None:
        """``lease_seconds``: of leases that do not say how long they last."""
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._since: dict[Lease, float] = {}  # that a lease was first seen just as it is

    def forget(self) -> None:
        """Begin anew: no lease can move while the database is down, so that time counts for
        nobody."""
        self._since.clear()

    def expired(self, leases: Iterable[Lease]) -> list[Lease]:
        """Those of ``leases``, which are all there are now, that have run out."""
        now = self._clock.monotonic()
        self._since = {lease: self._since.get(lease, now) for lease in leases}
        return [
            lease
            for lease, since in self._since.items()
            if now - since > (lease.seconds or self._lease_seconds)
        ]
