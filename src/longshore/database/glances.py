"""Looks at few rows by their keys, without a transaction and for many who ask at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from sqlalchemy import Connection

from longshore.clock import Clock

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

ROUND_SECONDS = 0.002
"""How far apart rounds begin: a thousand questions a second come two at a time."""

Look = Callable[[Connection, Sequence[K]], Mapping[K, T]]
"""What there is for some of the keys."""


class Rounds(Generic[K, T]):
    """Answers together those who ask at about the same time: to hand a question to a thread and
    back, and to run a statement, costs several times what a row more in it does.

    Whoever asks when nobody has for ROUND_SECONDS is answered at once, and nobody waits for an
    answer that is under way: it may have to come from the disk. Those of one event loop: each has
    its own Rounds.
    """

    def __init__(
        self, clock: Clock, answer: Callable[[Sequence[K]], Awaitable[Mapping[K, T]]]
    ) -> None:
        self._clock = clock
        self._answer = answer
        self._next: tuple[set[K], asyncio.Task[Mapping[K, T]]] | None = None
        self._next_begins = -math.inf

    async def ask(self, key: K) -> T | None:
        """What the answer has for ``key``; raises what it does."""
        if self._next is None:
            keys: set[K] = set()
            self._next = (keys, asyncio.create_task(self._round(keys)))
        keys, answered = self._next
        keys.add(key)
        # Of those who wait for it, any may be cancelled.
        return (await asyncio.shield(answered)).get(key)

    async def _round(self, keys: set[K]) -> Mapping[K, T]:
        left = self._next_begins - self._clock.monotonic()
        if left > 0:
            await self._clock.wait(asyncio.Event(), left)
        self._next = None
        self._next_begins = self._clock.monotonic() + ROUND_SECONDS
        return await self._answer(list(keys))
