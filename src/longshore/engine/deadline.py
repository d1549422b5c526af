"""The moment after which a shard sends nothing more."""

from __future__ import annotations

from longshore.clock import Clock
from longshore.database.shards import LeaseLost


class Deadline:
    """Until when a shard may send calls that change objects, by this process's own clock.

    Fencing protects the database from a worker whose lease is gone, but not the store: so nothing
    is sent past the deadline, which lies ``call_seconds`` before the lease can run out.
    """

    def __init__(
        self, clock: Clock, lease_seconds: float, call_seconds: float, taken: float
    ) -> None:
        """``taken``: the monotonic time just before the lease was asked for."""
        self._clock = clock
        self._lasts = lease_seconds - call_seconds
        self._lease_seconds = lease_seconds
        self.confirmed_at = taken

    def confirm(self, asked: float) -> None:
        """The database has confirmed the lease; ``asked``: the time just before it was asked."""
        self.confirmed_at = max(self.confirmed_at, asked)

    def check(self) -> None:
        """Raises LeaseLost past the deadline; no I/O."""
        if self._clock.monotonic() > self.confirmed_at + self._lasts:
            raise LeaseLost("the lease was not confirmed in time")

    def over(self) -> bool:
        """Whether the lease may have ended."""
        return self._clock.monotonic() > self.confirmed_at + self._lease_seconds
