"""Waiting for the end of jobs, which other processes bring about: one question to the database for
everybody who waits for the same, every LOOK_SECONDS while somebody does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from longshore.clock import Clock
from longshore.database import Database
from longshore.errors import Unavailable

LOOK_SECONDS = 0.1

StillOpen = Callable[[Connection, Sequence[int]], frozenset[int]]
"""The question: for which of these rows of jobs is there still something to wait for?"""


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event


class JobWatch:
    """The one who looks, for waiters of any event loop of the process."""

    def __init__(self, database: Database, clock: Clock, still_open: StillOpen) -> None:
        self._database = database
        self._clock = clock
        self._still_open = still_open
        self._lock = threading.Lock()
        self._waiters: dict[int, list[_Waiter]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def ended(self, job: int, seconds: float) -> None:
        """Return when the job with this row is no longer among the open ones, or after ``seconds``,
        or earlier where nobody can look any more: ask for it then."""
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
                    still_open = await self._database.read(self._still_open, ids)
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
