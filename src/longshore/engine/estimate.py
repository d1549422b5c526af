"""How many calls at once a bucket of a store takes, found out by asking for more until it balks."""

from __future__ import annotations

import math
from typing import Final

FIRST: Final = 4.0
"""Calls at once to begin with, by all workers together."""
FEW: Final = 16.0
"""To be slow alone takes an estimate no lower: so many waiting calls are a burden to no store, and
with fewer, where calls are short, a worker would be busier with waking up than with calling."""
MOST: Final = 4096.0
GROWTH: Final = 0.05
"""Near the limit the estimate grows by this part of itself a second, for each second that has
passed since the last back-off: it comes back to the limit in two, and passes it in four."""
FAST_GROWTH: Final = 10.0
"""Elsewhere it doubles with every round trip, but grows by no more than e in a tenth of a second: a
store may have a reserve, and shows only when that is spent that it was too much."""
GROWTH_PER_CALL: Final = 0.001
SLOW_GROWTH_PER_CALL: Final = 0.004
"""The most that one call adds near a limit, so that probing a slow store costs few refusals; where
it only gets slow, that costs nobody anything."""
BACK_OFF: Final = 0.95
DEPTH: Final = 0.25
"""An estimate falls to no less than this part of itself in a second, however many refusals come
together: a store that counts by the second refuses all calls for the rest of it."""
LASTING_SECONDS: Final = 0.2
"""After refusals alone for so long the knee is lowered, since it was found with a fresh reserve."""
BLEND: Final = 0.25
"""How far an estimate goes, by factors, towards that of another worker."""
NEAR: Final = 0.9
PASSED: Final = 1.2
"""Growth is slow from so much of the knee on; past so much of it what was refused no longer is, so
that the limit is another one."""
RESOLUTION_SECONDS: Final = 1e-6
UNKNOWN_SECONDS: Final = 0.1
"""The least that a call takes, and what one is taken to take before any has succeeded."""
QUEUED: Final = 1.5
CROWDED: Final = 2.0
"""Calls that take so many times as long as they need wait inside the store: no more of them, or
fewer."""
BLOCKS: Final = 4
"""Calls are slow if they are in so many blocks in a row, each of half of what is under way: where
this process, its machine or the network stands still for a moment, that fills three at most."""
SAMPLE: Final = 16
STEP: Final = 4
"""How many calls make a block, at least: at first, and while it is tried what helps."""

LEARNED: Final = 8
"""So many calls of a kind show what it needs."""

LAG_BLEND: Final = 0.125
"""How far the lag that is known goes towards the last that was seen."""

Kind = tuple[str, int]
"""What calls are alike in the time that they need: the verb, and the objects in powers of two."""


class Lag:
    """How long whatever this worker waits for waits for it: a busy worker must not take its own
    slowness for a store's, or it would ask for ever less of a store that is quick."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def woke(self, late: float) -> None:
        """Something that was due was begun so much later."""
        self.seconds += (max(0.0, late) - self.seconds) * LAG_BLEND


class Estimate:
    """Calls at once that all workers together may have under way, as a number that adapts.

    It doubles with every round trip until something is refused. Each refusal says that one call of
    those under way was too many; a first one after successes also lowers the estimate a little, and
    is the *knee*: from then on growth is slow near it, and fast below it. It may be less than 1
    where a store is quick: then calls are spaced by ``latency / concurrency``; so they are while
    all is refused, since a refusal comes so soon that a number at once would be any rate.
    """

    def __init__(self) -> None:
        self.concurrency = FIRST
        self.latency = 0.0  # until a call has succeeded
        self.answered = -math.inf
        """When one has, the last time."""
        self._knee = math.inf
        self._grown = 0.0
        self._backed_off = -math.inf
        self.proven = True
        """By a success that began after the last back-off."""
        self._lasts = False
        self.refuses = False
        """Whether the limit found last was one of refusals rather than of slowness."""
        self._floor, self._floor_set = 0.0, -math.inf
        self._before = 0.0
        self._suspected = 0.0
        """Where calls were last found to be slow; 0 since a refusal, or since that was passed."""
        self._times = _Times()

    def succeeded(
        self, now: float, began: float, kind: Kind, mine: float, busy: float, lag: float = 0.0
    ) -> None:
        """A call was answered. ``mine``: what this worker had of the estimate; ``busy``: the part
        of it in use; ``lag``: the part of its time that this worker was to blame for."""
        self.answered = now
        took = max(now - began, RESOLUTION_SECONDS)
        self.latency += (took - self.latency) / 16 if self.latency else took
        if not self.proven and began > self._backed_off:
            self.proven = True
            if self._lasts:
                self.concurrency = max(self.concurrency, min(FIRST, DEPTH * self._knee))
        if self._times.add(began, took, lag, kind):
            factor = self._times.judge(now, mine * min(1.0, busy))
            if factor != 1.0:
                self._adjust(now, factor, min(1.0, busy))
        if busy >= 0.5 and not self._times.queued and self.concurrency < MOST:
            self._grow(now, mine)

    def refused(self, now: float, began: float, mine: float) -> None:
        """A call was turned away, or not answered in time."""
        concurrency = self.concurrency
        if began > self._backed_off and self.proven:
            self._knee, self._backed_off, self.refuses = concurrency, now, True
            self.proven = self._lasts = False
            self._floor, self._floor_set = concurrency * DEPTH, now
            self._suspected = 0.0
            concurrency *= BACK_OFF
        elif now - self._floor_set > 1.0:
            self._floor, self._floor_set = concurrency * DEPTH, now
        if not (self.proven or self._lasts):
            self._lasts = now - self._backed_off > max(LASTING_SECONDS, 4 * self.latency)
            self._knee *= 0.7 if self._lasts else 1.0
        lower = concurrency * (1 - min(0.25, 1 / max(mine, 1.0)))
        self.concurrency = max(lower, min(concurrency, self._floor), self._least)
        self._grown = now

    def heard(self, concurrency: float) -> None:
        """Another worker's estimate. One that is much higher knows more; anything else is met a
        part of the way, since each worker meets refusals of its own soon enough."""
        apart = concurrency / self.concurrency
        self.concurrency *= apart if apart > 2.0 else apart**BLEND
        if self._knee < math.inf:
            self._knee = max(self._knee, concurrency)

    @property
    def is_slow(self) -> bool:
        """Whether calls have waited inside the store of late."""
        return self._times.queued

    @property
    def seconds(self) -> float:
        """What a call takes."""
        return self.latency or UNKNOWN_SECONDS

    @property
    def _least(self) -> float:
        """One call a second, which is how a store that is down is asked whether it is back."""
        return self.seconds

    def _adjust(self, now: float, factor: float, busy: float) -> None:
        """Ask for less, to see whether that is quicker; infinity takes it back."""
        before = self.concurrency
        if factor == math.inf:
            self.concurrency = max(before, self._before)
            return
        self.concurrency = max(before * busy * factor, min(before, FEW))
        if self._times.steps == 1:
            again = before < PASSED * self._suspected
            self._before = self._suspected = before
            # What is slow once may be slow for another reason, so it comes back fast to see.
            self._knee = self.concurrency if again else before
        self._knee = min(self._knee, before)
        self._backed_off, self.refuses = now, False

    def _grow(self, now: float, mine: float) -> None:
        if self.concurrency < NEAR * self._knee:
            step = min(1 / max(2.0, mine), FAST_GROWTH * (now - self._grown))
            grown = self.concurrency * (1 + step)
            self.concurrency = min(grown, MOST, max(self.concurrency, NEAR * self._knee))
        else:
            speed = GROWTH * min(10.0, now - self._backed_off)
            most = GROWTH_PER_CALL if self.refuses else SLOW_GROWTH_PER_CALL
            self.concurrency *= 1 + min(most, speed * (now - self._grown))
            if self.concurrency > PASSED * max(self._knee, self._suspected):
                self._knee = math.inf if self.refuses else 2 * self.concurrency
                self._suspected = 0.0
        self._grown = now


class _Times:
    """Whether calls wait inside the store: what they take against what they need.

    What a call needs goes by its kind. Whether longer times are of our making is
    found by asking for less: if that does not help they are what calls now need.
    """

    def __init__(self) -> None:
        self.queued = False
        self._needs: dict[Kind, _Need] = {}
        self._ratio = 1.0
        self._since = -math.inf
        self._wanted: float = SAMPLE
        self._blocks: list[float] = []
        self._begin()
        self.steps = 0
        self._first_ratio = 1.0

    def _begin(self) -> None:
        self._took = 0.0
        self._need = 0.0
        self._calls = 0

    def add(self, began: float, took: float, lag: float, kind: Kind) -> bool:
        """Whether there are enough calls for a judgement."""
        if began < self._since:
            return False
        need = self._needs.get(kind)
        if need is None:
            need = self._needs[kind] = _Need()
        if need.learned < LEARNED:
            need.learned += 1
            need.seconds += (took / self._ratio - need.seconds) / need.learned
        need.took += took
        need.calls += 1
        self._took += took - lag if took > lag else 0.0
        self._need += need.seconds
        self._calls += 1
        if self._calls >= self._wanted:
            ratio = self._took / self._need
            self._blocks.append(ratio)
            self._ratio, self.queued = max(1.0, ratio), ratio > QUEUED
            self._begin()
        return len(self._blocks) == BLOCKS

    def judge(self, now: float, at_once: float) -> float:
        """By what to multiply the estimate, or infinity to take back what was done to it since
        calls became slow; ``at_once``: calls that are under way."""
        ratio = min(self._blocks)
        self._blocks.clear()
        self._since = now
        if ratio <= CROWDED:
            self.steps = 0
            self._wanted = max(at_once / 2, SAMPLE)
            for need in self._needs.values():
                need.follow()
            return 1.0
        self._first_ratio = self._first_ratio if self.steps else ratio
        self.steps += 1
        factor = max(0.25, 1.2 / ratio)
        self._wanted = max(at_once * factor / 2, STEP)
        if self.steps > 2 and ratio > 0.85 * self._first_ratio:
            self._scale(ratio)
            self.steps, self._ratio, self.queued = 0, 1.0, False
            return math.inf
        return factor

    def _scale(self, factor: float) -> None:
        for need in self._needs.values():
            need.seconds *= factor


class _Need:
    """What calls of one kind need: the mean of the first, and no more than others took, with all
    that this worker added to that."""

    __slots__ = ("calls", "learned", "seconds", "took")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.learned = 0
        self.took = 0.0
        self.calls = 0

    def follow(self) -> None:
        """Go some of the way to what calls have taken of late, if that was less."""
        if self.calls:
            self.seconds += min(0.0, self.took / self.calls - self.seconds) / 8
            self.took, self.calls = 0.0, 0
