"""Time, behind one seam: tests pass their own clock and never sleep."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol


class Clock(Protocol):
    """What the engine knows of time."""

    def now_us(self) -> int:
        """Wall-clock microseconds since 1970, for times that users see."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, for deadlines and rates."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return when ``event`` is set, or after ``seconds``; whether it is set."""


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
        return event.is_set()


SYSTEM_CLOCK = SystemClock()
