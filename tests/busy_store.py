"""A store as a queue: what it does when it is asked for more than it can."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from longshore.errors import Code

REFUSED_SECONDS = 0.002


@dataclass(slots=True, kw_only=True)
class BusyStore:
    """Answers calls in virtual time. What is None has no limit; all may change at run time.

    ``servers``: so many calls are worked on at once, the others queue. ``most``: calls at once
    above which it refuses. ``rate``: requests a second above which it refuses, with ``burst``
    seconds' worth in reserve, or with ``windows`` counted anew each whole second.
    """

    seconds: float
    seconds_per_object: float = 0.0
    jitter: float = 0.2
    servers: int | None = None
    most: int | None = None
    rate: float | None = None
    burst: float = 0.1
    windows: bool = False
    down: bool = False
    random: random.Random = field(default_factory=lambda: random.Random(1))
    log: list[tuple[float, float, int, bool]] = field(default_factory=list)
    """Each call that has ended: when it began, how long it took, its objects, was it refused."""
    inside: int = 0
    peak: int = 0
    _queue: deque[asyncio.Future[None]] = field(default_factory=deque)
    _busy: int = 0
    _tokens: float = 0.0
    _at: float = -1e9

    async def call(self, objects: int = 1) -> Code | None:
        """One request; gives the code that it fails with, or None."""
        now = asyncio.get_running_loop().time()
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            refused = self._refuses(now)
            if refused:
                await asyncio.sleep(REFUSED_SECONDS)
            else:
                await self._serve(objects)
        finally:
            self.inside -= 1
        took = asyncio.get_running_loop().time() - now
        self.log.append((now, took, objects, refused))
        return Code.UNAVAILABLE if refused else None

    def _refuses(self, now: float) -> bool:
        if self.down or (self.most is not None and self.inside > self.most):
            return True
        if self.rate is None:
            return False
        if self.windows:
            if int(now) != int(self._at):
                self._tokens = self.rate
        else:
            earned = self._tokens + (now - self._at) * self.rate
            self._tokens = min(max(1.0, self.burst * self.rate), earned)
        self._at = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    async def _serve(self, objects: int) -> None:
        if self.servers is not None:
            if self._busy < self.servers:
                self._busy += 1
            else:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._queue.append(turn)
                await turn
        spread = self.random.lognormvariate(-(self.jitter**2) / 2, self.jitter)
        await asyncio.sleep((self.seconds + self.seconds_per_object * objects) * spread)
        if self.servers is not None:
            self._busy -= 1
            while self._queue and self._busy < self.servers:
                self._busy += 1
                self._queue.popleft().set_result(None)

    def between(self, begin: float, end: float) -> list[tuple[float, float, int, bool]]:
        return [one for one in self.log if begin <= one[0] < end]


def refused_share(calls: list[Any]) -> float:
    return sum(one[3] for one in calls) / max(1, len(calls))
