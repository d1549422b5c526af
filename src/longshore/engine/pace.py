"""How fast a worker may go through the objects of one store."""

from __future__ import annotations

import asyncio

from longshore.clock import Clock
from longshore.store import PAGE_SIZE

BATCHES_PER_SECOND = 20
"""Under a cap batches shrink to this rate, so that progress is smooth and a cancel is quick."""


class Pace:
    """A cap of objects per second, kept by spacing batches; no cap where ``rate`` is None.

    Shared by all shards of a worker that act on one store. Time that nobody used is lost: the cap
    is never exceeded to catch up, but for the length of one batch.
    """

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._next = clock.monotonic()
        self.batch_size = PAGE_SIZE
        if rate is not None:
            self.batch_size = max(1, min(PAGE_SIZE, int(rate / BATCHES_PER_SECOND)))

    async def reserve(self, stop: asyncio.Event) -> None:
        """Return when a whole batch may be done, or at once when ``stop`` is set."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        # A batch that came late by less than its own length does not slow those behind it down.
        start = max(self._next, now - self.batch_size / self._rate)
        self._next = start + self.batch_size / self._rate
        if start > now:
            await self._clock.wait(stop, start - now)

    def give_back(self, objects: int) -> None:
        """Say that a reserved batch came out smaller, by so many objects."""
        if self._rate is not None:
            self._next -= objects / self._rate
