"""Where the calls to one bucket, or a range of its names, wait for their turn, and the calls
themselves."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from types import TracebackType
from typing import Final

from longshore.clock import Clock
from longshore.engine.caps import GRACE_SECONDS, Cap, Rate, Unit
from longshore.engine.estimate import Estimate, Lag
from longshore.engine.retry import PRESSURE, TRANSIENT
from longshore.errors import Code, Error
from longshore.store import PAGE_SIZE

BATCHES_PER_SECOND: Final = 25
"""Under a cap of objects batches shrink to this rate, so that progress is smooth."""
TICK_SECONDS: Final = 0.05
"""How soon a call that waits for its turn hears of its stop."""
NEWS_SECONDS: Final = 1.0
REPEAT_SECONDS: Final = 30.0
"""How often others hear of an estimate that moves slowly, or not at all."""
NOW_SECONDS: Final = 1e-6
"""What is no further off has come: a timer cannot be set to less."""
SPACED_BELOW: Final = 8.0
"""Where a store refuses calls, and a worker may have fewer at once than this, fractions count:
calls are spaced."""
_OBJECTS, _CHANGES, _REQUESTS = Unit  # an attribute of an Enum is slow to read
LOOK: Final = "look"
"""The verb of what a dry run does to objects."""


class Gate:
    """Where calls wait, first come, first served, until they may be sent: those to one bucket or,
    where a store refuses by ranges of names, those of one shard. ``bucket`` and ``store`` have the
    caps, which other gates share."""

    def __init__(self, clock: Clock, bucket: Cap[Gate], store: Cap[Gate], lag: Lag) -> None:
        self.estimate, self._lag = Estimate(), lag
        self._clock = clock
        self._bucket, self._store = bucket, store
        self._rates = [*bucket.rates, *store.rates]
        self._permits = [cap for cap in (bucket, store) if cap.has_permits]
        self._capped = bool(self._rates or self._permits)
        self._good_until = -math.inf
        self._spacing = Rate(math.inf)
        self._spaced = False
        self._mine = 1.0
        self._room, self._busy = 1, 0
        self._share = 0.0
        self._waiting: deque[Call] = deque()
        self._attendant: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._told: tuple[float, float] | None = None
        self._heard: float | None = None
        self._fit()

    @property
    def batch_size(self) -> int:
        """Of how many objects a call should be at most, so that progress under a cap is smooth."""
        size: float = PAGE_SIZE
        for rate, unit in self._rates:
            if unit is _OBJECTS:
                size = min(size, (rate.value or rate.cap) / BATCHES_PER_SECOND)
        return max(1, int(size))

    @property
    def allowed(self) -> float:
        """How many calls at once this worker may have, of what the store is found to take."""
        return self._mine

    @property
    def room(self) -> int:
        """The same as a whole number."""
        return self._room

    @property
    def busy(self) -> int:
        """Calls that are under way."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._waiting)

    def call(self, objects: int, stop: asyncio.Event, verb: str = "") -> Call:
        """A call that does something to so many objects (0: it only reads), to be entered before
        it is sent. What calls of another ``verb`` take says nothing about this one."""
        return Call(self, objects, stop, verb)

    def learn(self, share: float, asked: float) -> None:
        """This worker may use so much of the estimate, as of ``asked``."""
        self._share = share
        self._good_until = asked + GRACE_SECONDS
        self._fit()
        self._wake.set()

    def is_news(self, now: float) -> bool:
        """Whether the estimate has moved so far that other workers should hear of it; once."""
        concurrency = self.estimate.concurrency
        if self._told is not None:
            last, when = self._told
            jumped = not 0.8 * last <= concurrency <= 2.0 * last
            moved = not 0.9 * last <= concurrency <= 1.1 * last
            old = now - when >= REPEAT_SECONDS and self._busy > 0
            if not (jumped or old or (moved and now - when >= NEWS_SECONDS)):
                return False
        self._told = concurrency, now
        return True

    def heard(self, concurrency: float) -> None:
        """Follow another worker's estimate, once."""
        known = {self._heard, self._told[0] if self._told else None}
        if concurrency not in known:
            self._heard = concurrency
            self._told = concurrency, self._clock.monotonic()
            self.estimate.heard(concurrency)
            self._fit()
            self._wake.set()

    def _fit(self) -> None:
        """Let this worker's part follow the estimate; a worker without shards may send one call."""
        mine = self.estimate.concurrency * self._share if self._share else 1.0
        self._mine = mine
        self._room = math.ceil(mine)
        was_spaced = self._spaced
        self._spaced = self.estimate.refuses and (mine < SPACED_BELOW or not self.estimate.proven)
        if self._spaced:
            before, self._spacing.value = self._spacing.value, mine / self.estimate.seconds
            if was_spaced and self._spacing.value > 2 * before:
                self._hurry()

    def _hurry(self) -> None:
        """Calls may be sent much sooner than when the first that waits was given its time."""
        if self._waiting and self._waiting[0].start < math.inf:
            call = self._waiting[0]
            if not call.turn.done():
                self._take_back(call)
                call.start = math.inf
        self._wake.set()

    def _take(self, call: Call, now: float) -> float:
        """Take what a call needs; gives when it may be sent, infinity if nothing was taken."""
        start = now if self._busy < self._room else math.inf
        if self._spaced:
            start = max(start, self._spacing.opens(1, now))
        call.counts = self._capped and (call.objects > 0 or self._has_part(now))
        if call.counts:
            start = self._pass_caps(call, now, start)
        if start == math.inf:
            return start
        if self._spaced:
            self._spacing.take(1, start, now)
        self._busy += 1
        return start

    def _has_part(self, now: float) -> bool:
        """Whether this worker knows its parts of the caps. Without, it changes nothing, but reads:
        to plan shards before it has any, and to settle what is open when it hears no more."""
        held = self._bucket.has_part and self._store.has_part
        return held and self._share > 0 and now <= self._good_until

    def _pass_caps(self, call: Call, now: float, start: float) -> float:
        """Take from the caps what a call needs that nothing else keeps beyond ``start``."""
        if now > self._good_until:
            start = math.inf
        for rate, unit in self._rates:
            if unit is _CHANGES and not call.changes:
                continue
            opens = rate.opens(1 if unit is _REQUESTS else call.objects, now)
            if opens > start:
                start = opens
        for cap in self._permits:
            if start == math.inf:
                cap.leave_line(self)
            elif not cap.has_permit(self):
                start = math.inf
        if start < math.inf:
            for rate, unit in self._rates:
                if unit is not _CHANGES or call.changes:
                    rate.take(1 if unit is _REQUESTS else call.objects, start, now)
            for cap in self._permits:
                cap.busy += 1
                cap.leave_line(self)
        return start

    def _take_back(self, call: Call) -> None:
        """What was taken for a call that is not sent, or not yet."""
        if call.counts:
            for rate, unit in self._rates:
                if unit is not _CHANGES or call.changes:
                    rate.give_back(1 if unit is _REQUESTS else call.objects)
        self._spacing.give_back(1)
        self._free(call)

    def _free(self, call: Call) -> None:
        self._busy -= 1
        if call.counts:
            for cap in self._permits:
                cap.busy -= 1

    def _release(self, call: Call) -> None:
        """A call has ended: its place goes to whoever is next."""
        self._free(call)
        self._serve_all()

    def _serve_all(self) -> None:
        for cap in self._permits:
            if (other := cap.next_in_line()) is not None and other is not self:
                other._serve(self._clock.monotonic())
        if self._waiting:
            self._serve(self._clock.monotonic())

    def _learn_from(self, call: Call, code: Code | None) -> None:
        """Let the estimate follow how a call has ended."""
        now = self._clock.monotonic()
        if code is None or code not in TRANSIENT:
            busy = self._busy / self._room
            kind = call.verb, call.objects.bit_length()
            self.estimate.succeeded(now, call.began, kind, self._mine, busy, self._lag.seconds)
        elif code in PRESSURE:
            self.estimate.refused(now, call.began, self._mine)
        if (ramp := self._bucket.ramp) is not None and not ramp.doubted:
            ramp.doubted = code in PRESSURE or self.estimate.is_slow
        self._fit()

    def _serve(self, now: float) -> float:
        """Send on their way whose turn it is; gives after how long to look again."""
        while self._waiting:
            call = self._waiting[0]
            if not call.turn.done():
                if call.start == math.inf:
                    call.start = self._take(call, now)
                if call.start > now + NOW_SECONDS:
                    if call.start < now + TICK_SECONDS:
                        self._wake.set()
                    return min(TICK_SECONDS, call.start - now)
                call.turn.set_result(True)
            self._waiting.popleft()
        for cap in self._permits:
            cap.leave_line(self)
        return TICK_SECONDS

    def _queue(self, call: Call) -> None:
        self._waiting.append(call)
        if self._attendant is None:
            self._attendant = asyncio.get_running_loop().create_task(self._attend())

    async def _attend(self) -> None:
        """Look after the calls that wait, as long as there are any."""
        while self._waiting:
            for call in self._waiting:
                if call.stop.is_set() and not call.turn.done():
                    call.turn.set_result(False)
            seconds = self._serve(self._clock.monotonic())
            self._wake.clear()
            if self._waiting:
                await self._clock.wait(self._wake, seconds)
        self._attendant = None


class Call:
    """A request to a store: ``async with`` waits until it may be sent, and ends it.

    ``permitted`` is False inside if it was stopped before its turn came: then nothing may be sent.
    An errors.Error that leaves the block is the call's failure; one that stays inside is told by
    ``ended``.
    """

    __slots__ = (
        *("_gate", "began", "code", "counts", "objects"),
        *("permitted", "start", "stop", "turn", "verb"),
    )

    def __init__(self, gate: Gate, objects: int, stop: asyncio.Event, verb: str) -> None:
        self._gate = gate
        self.code: Code | None = None
        self.objects = objects
        self.stop = stop
        self.verb = verb
        self.permitted = False
        self.counts = False
        self.start = math.inf

    async def __aenter__(self) -> Call:
        if not self.begin():
            await self.wait()
        return self

    def begin(self) -> bool:
        """Take the turn if it has come; else ``wait`` for it, unless it has been stopped."""
        if self.stop.is_set():
            return True
        gate = self._gate
        now = self.began = gate._clock.monotonic()
        if not gate._waiting:
            self.start = gate._take(self, now)
        self.permitted = self.start <= now
        return self.permitted

    async def wait(self) -> None:
        """Wait until the turn comes, or is stopped."""
        gate = self._gate
        self.turn = asyncio.get_running_loop().create_future()
        gate._queue(self)
        try:
            self.permitted = await self.turn
        finally:
            if not self.permitted and self.start < math.inf:
                gate._take_back(self)
                gate._serve_all()
        self.began = gate._clock.monotonic()

    @property
    def changes(self) -> bool:
        """Whether it changes objects."""
        return self.objects > 0 and self.verb != LOOK

    def ended(self, code: Code | None) -> None:
        """The call was answered, with this failure or none: what it says of the store."""
        self.code = code

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None) -> None:
        """End the call, which this left."""
        if not self.permitted:
            return
        if isinstance(error, Error):
            self.code = error.code
        if error is None or isinstance(error, Error):
            self._gate._learn_from(self, self.code)
        self._gate._release(self)
