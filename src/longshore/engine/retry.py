"""Which failures pass, how long to wait for that, and how often to try: the only retries in
longshore."""

from __future__ import annotations

import random
from typing import Final

from longshore.errors import Code

PRESSURE: Final = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
"""Codes by which a store says, or shows, that it is asked for too much."""

TRANSIENT: Final = PRESSURE | {Code.INTERNAL, Code.UNKNOWN}
"""Codes after which the same call may well succeed; its effect is unknown until looked at."""

FIRST_DELAY_SECONDS: Final = 0.1
MAX_DELAY_SECONDS: Final = 10.0

RESERVE: Final = 3.0
"""How many batches in a row a shard may try again before it has to wait for the store."""
RETRIED_SHARE: Final = 0.1
"""How much of a batch each batch that goes well allows to be tried again: in the long run no more
than a tenth of what is asked of a store is repeated."""
LONE_SHARE: Final = 0.01
"""Where no more of a call fails than this, or one object, the fault is the objects' own."""

READ_TRIES: Final = 5
"""How often one read of the many that a batch comes to is made again when it is turned away: were
all of them lost for one, a store at its limit would let no batch through."""
ANSWERED_SECONDS: Final = 5.0
"""Where a store has answered nothing for so long it is down, and its shards wait as a whole."""

PATIENCE_SECONDS: Final = 3600.0
"""How long a shard waits for a source, a store or a disk that makes no progress at all; for a store
that answers but turns every object away, up to twice as long."""
CANCELLED_PATIENCE_SECONDS: Final = 60.0
"""The same once its job is being cancelled: an open intent can only be settled by looking."""


def delay(failures: int, dice: random.Random | None = None) -> float:
    """How long to wait after so many failures in a row: exponential, with full jitter."""
    longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10))
    uniform = dice.uniform if dice else random.uniform
    return uniform(longest / 10, longest)


class Retries:
    """What a shard may try again, so that an outage does not become a storm.

    Calls that go well fill a reserve, those that fail draw on it. When it is spent the shard is
    ``probing``: it takes no new objects, and repeats one call, with growing pauses, until that goes
    well. Kept over all runs of a shard in a worker.

    Few refusals among many answers are no reason to stand still: they are how the limit of a store
    is known, at which the gate keeps all calls together.
    """

    def __init__(self, dice: random.Random | None = None) -> None:
        self._dice = dice
        self._reserve = RESERVE
        self._failures = self._tries = 0

    @property
    def probing(self) -> bool:
        """Whether the shard waits for its store: one call after each pause, nothing new."""
        return self._reserve <= 0

    def ended(self, done: int, failed: int, tries: int = 0) -> None:
        """A call has ended; ``failed`` of its objects failed in a way that passes, ``done`` were
        answered. A call that failed as a whole has done nothing, and failed once. ``tries``: how
        often any of the objects has failed by now, where that was held against it."""
        share = failed / max(1, done + failed)
        gained = RETRIED_SHARE * (1 - share)
        if self.probing and done > failed:
            gained = RESERVE / 2
        self._reserve = min(RESERVE, max(0.0, self._reserve + gained - share))
        self._failures = self._failures + 1 if share > RETRIED_SHARE else 0
        self._tries = tries if failed and tries > 1 else 0

    def pause(self) -> float:
        """How many seconds to wait before the next call: longer with each in a row of which much
        failed, or with each try of an object that keeps failing; else 0."""
        worst = max(self._failures, self._tries)
        return delay(worst, self._dice) if worst else 0.0


def is_their_own(code: Code, done: int, failed: int) -> bool:
    """Whether a failure that passes counts as a try of the objects that it befell. A store that
    turns away many says nothing about any of them: they are tried until patience ends."""
    return code not in PRESSURE or (done > 0 and failed <= max(1, LONE_SHARE * (done + failed)))
