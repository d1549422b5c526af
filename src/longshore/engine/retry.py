"""Which failures pass, and how long to wait for that: the only retries in longshore."""

from __future__ import annotations

import random

from longshore.errors import Code

TRANSIENT = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNKNOWN}
)
"""Codes after which the same call may well succeed; its effect is unknown until looked at."""

FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 10.0


def delay(failures: int) -> float:
    """How long to wait after so many failures in a row: exponential, with full jitter."""
    longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10))
    return random.uniform(longest / 10, longest)  # noqa: S311 - jitter, no secret
