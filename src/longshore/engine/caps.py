"""Hard caps of a store or a bucket, of which each worker has a part."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum, auto
from typing import Final, Generic, NamedTuple, TypeVar

from longshore.settings import Caps, Ramp

AHEAD_SECONDS: Final = 0.05
"""A rate is exceeded by no more than what so many seconds allow, or one call, however long one
looks: what comes late by less is caught up on, other time that nobody used is lost."""
GRACE_SECONDS: Final = 1.0
"""A part of a cap is good for so long after it was asked for, and grows only so long after: then
whoever had it before knows of the change, or stands still."""

KEPT_SECONDS: Final = 600.0
"""How often it is told anew what a bucket takes, while that is in use."""

T = TypeVar("T")


class Unit(Enum):
    """What a rate counts. OBJECTS are those that are changed or, in a dry run, looked at."""

    OBJECTS = auto()
    CHANGES = auto()
    REQUESTS = auto()


class Held(NamedTuple):
    """Shards of a store or a bucket: this worker's, everybody's, and those of workers that come
    before this one in an order on which all agree; ``new`` if nobody had any before."""

    before: int = 0
    mine: int = 0
    everybody: int = 0
    new: bool = False

    @property
    def share(self) -> float:
        """This worker's part of the whole."""
        return self.mine / self.everybody if self.everybody else 0.0

    def permits(self, most: int) -> int:
        """This worker's part of so many permits; those of all workers add up to them."""
        if not self.everybody:
            return 0
        end = most * (self.before + self.mine) // self.everybody
        return end - most * self.before // self.everybody

    @property
    def alone(self) -> bool:
        """Whether nobody else can be using any of what is this worker's."""
        return self.new or 0 < self.mine == self.everybody


class Part:
    """A part of a cap as a number: it falls at once, and grows after GRACE_SECONDS."""

    __slots__ = ("_grows_to", "_since", "value")

    def __init__(self, value: float = 0.0) -> None:
        self.value = value
        self._grows_to = 0.0
        self._since: float | None = None

    def learn(self, value: float, asked: float, alone: bool) -> None:
        """The part is now ``value``; ``alone``: nobody else can be using any of it."""
        if alone or value <= self.value:
            self.value, self._since = value, None
            return
        if self._since is None:
            self._grows_to, self._since = value, asked
        self._grows_to = min(self._grows_to, value)
        if asked - self._since >= GRACE_SECONDS:
            self.value, self._since = self._grows_to, None


class Rate(Part):
    """So many units a second, kept by spacing what takes them."""

    __slots__ = ("_opens", "_start", "_units", "cap")

    def __init__(self, cap: float, value: float = 0.0) -> None:
        """``cap`` is that of all workers, ``value`` this one's part."""
        super().__init__(value)
        self.cap = cap
        self._start = -math.inf
        self._units = 0.0
        self._opens = -math.inf

    def opens(self, units: float, now: float) -> float:
        """The moment from which on so many units may be taken; infinity without a part."""
        if self.value <= 0:
            return math.inf
        ahead = AHEAD_SECONDS - units / self.value
        earliest = now - ahead if ahead > 0 else now
        after = self._start + self._units / self.value
        self._opens = after if after > earliest else earliest
        return self._opens

    def take(self, units: float, start: float, now: float) -> None:
        """Take the units that were just asked for, at ``start``. If that is now, they count from
        when the rate had opened for them: what comes a little late delays nothing behind it."""
        self._start = start if start > now else self._opens
        self._units = units

    def give_back(self, units: float) -> None:
        """Units that were taken and are not used."""
        self._units -= units


class Rising(Rate):
    """A rate that rises as a store's ``Ramp`` says: to twice what was in use."""

    __slots__ = ("_at", "_due", "_ramp", "_told", "_told_at", "_used", "_window", "doubted")

    def __init__(self, ramp: Ramp) -> None:
        super().__init__(ramp.writes_per_second)
        self._ramp = ramp
        self._told, self._told_at = self.cap, -math.inf
        self.doubted = False
        """Whether something was refused, or slow, of late."""
        self._begin(-math.inf)

    def _begin(self, now: float) -> None:
        self._at = self._window = now
        self._used = self._due = 0.0
        self.doubted = False

    def take(self, units: float, start: float, now: float) -> None:
        super().take(units, start, now)
        self._used += units

    def give_back(self, units: float) -> None:
        super().give_back(units)
        self._used -= units

    def learn(self, value: float, asked: float, alone: bool) -> None:
        """The part is now ``value``; this is also when it is seen how much of it was used."""
        self._look(asked)
        super().learn(value, asked, alone)

    def _look(self, now: float) -> None:
        if self._used <= 0 or self.value <= 0:
            self._begin(now)
            return
        if now <= self._at:
            return
        self._due += self.value * (now - self._at)
        self._at, seconds = now, now - self._window
        if seconds < self._ramp.prove_seconds:
            return
        # Whoever uses all of its part takes the others to do the same.
        rises = 2 * min(1.0, self._used / self._due)
        if self.doubted:
            rises = min(rises, 2 ** (seconds / self._ramp.double_seconds))
        self.cap *= max(1.0, rises)
        self._begin(now)

    def heard(self, cap: float) -> None:
        """Another worker, or an earlier one, has seen so much being taken."""
        self._told = max(self._told, cap)
        if cap > self.cap:
            self.cap = cap
            self._begin(self._at)  # what was taken of less proves nothing of more than this

    def is_news(self, now: float) -> bool:
        """Whether it should be told, and kept, how much is taken; once, and again while it is in
        use."""
        old = now - self._told_at >= KEPT_SECONDS and self._used > 0
        if self.cap <= self._ramp.writes_per_second or not (self.cap > self._told or old):
            return False
        self._told, self._told_at = self.cap, now
        return True


class Cap(Generic[T]):
    """The caps of one store or bucket. Callers are served in turn where permits are short."""

    def __init__(self, caps: Caps, ramp: Ramp | None = None) -> None:
        self.rates: list[tuple[Rate, Unit]] = []
        if caps.max_objects_per_second is not None:
            self.rates.append((Rate(caps.max_objects_per_second), Unit.OBJECTS))
        if caps.max_requests_per_second is not None:
            self.rates.append((Rate(caps.max_requests_per_second), Unit.REQUESTS))
        self.ramp = Rising(ramp) if ramp is not None else None
        if self.ramp is not None:
            self.rates.append((self.ramp, Unit.CHANGES))
        self._most = caps.max_concurrency
        self._permits = Part()
        self._line: deque[T] = deque()
        self.busy = 0

    @property
    def is_set(self) -> bool:
        """Whether anything is capped."""
        return bool(self.rates) or self.has_permits

    @property
    def has_permits(self) -> bool:
        """Whether calls at once are capped."""
        return self._most is not None

    @property
    def has_part(self) -> bool:
        """Whether this worker has some of everything that is capped."""
        permits = self._most is None or self._permits.value > 0
        return permits and all(rate.value > 0 for rate, _ in self.rates)

    def learn(self, held: Held, asked: float) -> None:
        """Who has how many shards, as of ``asked``."""
        for rate, _ in self.rates:
            rate.learn(rate.cap * held.share, asked, held.alone)
        if self._most is not None:
            self._permits.learn(held.permits(self._most), asked, held.alone)

    def has_permit(self, caller: T) -> bool:
        """Whether ``caller`` may have a permit; if not it is in line for one."""
        first = not self._line or self._line[0] is caller
        if first and self.busy < self._permits.value:
            return True
        if caller not in self._line:
            self._line.append(caller)
        return False

    def leave_line(self, caller: T) -> None:
        """``caller`` has its permit, or cannot use one."""
        if self._line and caller in self._line:
            self._line.remove(caller)

    def next_in_line(self) -> T | None:
        """Who gets a permit that is free."""
        return self._line[0] if self._line and self.busy < self._permits.value else None
