"""Which failures pass, and how long to wait for that: the only retries in longshore."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from longshore.clock import Clock
from longshore.errors import Code, Error

T = TypeVar("T")

TRANSIENT = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNKNOWN}
)
"""Codes after which the same call may well succeed; its effect is unknown until looked at."""

MAX_CALLS = 8
FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 10.0


async def retrying(call: Callable[[], Awaitable[T]], stop: asyncio.Event, clock: Clock) -> T:
    """What ``call()`` gives, called at most MAX_CALLS times while its failures are TRANSIENT.

    Waits between calls grow exponentially with full jitter; when ``stop`` is set nothing is waited
    for. Raises the last failure. Only for calls that change nothing.
    """
    for number in range(MAX_CALLS):
        try:
            return await call()
        except Error as error:
            if error.code not in TRANSIENT or stop.is_set() or number + 1 == MAX_CALLS:
                raise
        longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**number)
        await clock.wait(stop, random.uniform(0, longest))  # noqa: S311 - jitter, no secret
    raise AssertionError("unreachable: the last call returned or raised")
