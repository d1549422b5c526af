"""Waiting for the end of jobs, which other processes bring about: one question to the database for
everybody who waits, every LOOK_SECONDS while somebody does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import NamedTuple

from longshore.clock import Clock
from longshore.database import Database
from longshore.database import jobs as statements
from longshore.errors import Unavailable

LOOK_SECONDS = 0.1


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event


class JobWatch:
    """The one who looks, for waiters of any event loop of the process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._waiters: dict[int, list[_Waiter]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def ended(self, job: int, seconds: float) -> None:
        """Return when the operation of the job with this row is done or deleted, or after
        ``seconds``, or earlier where nobody can look any more: ask for it then."""
        waiter = _Waiter(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiters.setdefault(job, []).append(waiter)
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
        try:
            await self._clock.wait(waiter.event, seconds)
        finally:
            self._remove(job, waiter)

    def _remove(self, job: int, waiter: _Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(job, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[job]

    async def _look(self) -> None:
        try:
            while ids := self._waited_for():
                try:
                    still_open = await self._database.read(statements.open_operations, ids)
                except Unavailable:  # it has been told; who waits goes on waiting
                    still_open = frozenset(ids)
                self._wake(set(ids) - still_open)
                await self._clock.wait(asyncio.Event(), LOOK_SECONDS)
        finally:
            self._stop_looking()

    def _stop_looking(self) -> None:
        """After a failure, or at the end of the loop: whoever waits asks for itself."""
        with self._lock:
            if self._looking is not asyncio.current_task():
                return
            self._looking = None
            left = list(self._waiters)
        self._wake(left)

    def _waited_for(self) -> list[int]:
        with self._lock:
            if not self._waiters:
                self._looking = None
            return list(self._waiters)

    def _wake(self, ids: Iterable[int]) -> None:
        with self._lock:
            woken = [waiter for job in ids for waiter in self._waiters.pop(job, ())]
        for waiter in woken:
            waiter.loop.call_soon_threadsafe(waiter.event.set)
