"""What is good for a while, such as keys and tokens, and is renewed before it ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from longshore import telemetry
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import Error

CHECK_SECONDS = 60.0
"""How often it is seen whether it ends soon."""
_RETRY_SECONDS = 2.0

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Renewable(Protocol[T_co]):
    """Something that blocks while it gets what is good, and gets another when that ends soon."""

    def load(self) -> T_co:
        """What is good now. Raises Unauthenticated if there is none, and Unavailable if what gives
        it does not answer."""

    def lasts(self) -> bool:
        """Whether that never ends."""

    def has_ended(self) -> bool:
        """Whether it is good no more."""


class Renewed(Generic[T]):
    """What is renewed before it ends: by one thread, however many requests wait for it, and while
    these go on with what they have. ``event`` tells in the log of a renewal that failed."""

    def __init__(self, source: Renewable[T], event: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._source = source
        self._event = event
        self._clock = clock
        self._current: T | None = None
        self._error: Error | None = None
        self._check_at = self._discard_at = -math.inf
        self._renewal: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """What is good now, the same until there is another; raises as ``Renewable.load`` does."""
        if self._clock.monotonic() < self._check_at:
            if self._error is not None:
                raise type(self._error)(self._error.message)
            if self._current is not None:
                return self._current
        renewal = self._begin()
        if self._current is not None and not self._source.has_ended():
            return self._current
        # Whoever gives up waiting does not take it from the others.
        return await asyncio.shield(renewal)

    async def instead_of(self, refused: T, discard: Callable[[], None]) -> T | None:
        """Another than ``refused``, which nobody takes though it has not ended; one for all who ask
        for it. None: there is no other, or one was had so a minute ago. ``discard`` tells the
        source that it is no good. Raises as ``Renewable.load`` does."""
        while self._current == refused:
            if self._renewal is None:
                if self._clock.monotonic() < self._discard_at:
                    return None
                self._discard_at = self._clock.monotonic() + CHECK_SECONDS
                discard()
            await asyncio.shield(self._begin())
        return self._current

    def _begin(self) -> asyncio.Task[T]:
        """The renewal that is under way."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(_seen)
        return self._renewal

    async def _renew(self) -> T:
        self._error = None
        wait_seconds = _RETRY_SECONDS
        try:
            found = await asyncio.to_thread(self._source.load)
            if self._current is None or found != self._current:
                self._current = found
            wait_seconds = math.inf if self._source.lasts() else CHECK_SECONDS
        except Error as error:
            if self._current is None or self._source.has_ended():
                self._error = error
                raise
            telemetry.warning(self._event, error=error.message)
        finally:
            self._check_at = self._clock.monotonic() + wait_seconds
            self._renewal = None
        return self._current


def _seen(renewal: asyncio.Task[T]) -> None:
    """Nobody need have waited for a renewal that failed."""
    if not renewal.cancelled():
        renewal.exception()
