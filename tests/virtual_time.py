"""An event loop whose time passes only when nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from longshore.clock import SystemClock

T = TypeVar("T")


class _Idle(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Instead of waiting for a timer, let its time have come."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self.skipped += timeout
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._idle = _Idle()
        super().__init__(self._idle)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._idle.skipped


class VirtualClock(SystemClock):
    """The time of the virtual loop that runs."""

    def now_us(self) -> int:
        return int(self.monotonic() * 1e6)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in virtual time, from 0 on."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(main)
