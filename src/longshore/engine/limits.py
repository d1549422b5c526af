"""How much is asked of a store: no more than the settings allow, nor than it is found to take."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final

from longshore.clock import Clock
from longshore.database.estimates import Found
from longshore.database.leases import Leased
from longshore.engine.caps import GRACE_SECONDS, Cap, Held, Rate
from longshore.engine.estimate import Estimate, Lag
from longshore.engine.retry import PRESSURE, TRANSIENT
from longshore.errors import Code, Error
from longshore.settings import StoreSettings
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


class Limits:
    """The gates of one worker, one for each bucket of each store.

    Workers share caps by their shards, of which ``divide`` tells, and what they find out by
    ``news`` and ``heard``. Nothing here waits for another worker, or for the database.
    """

    def __init__(
        self, settings_of: Callable[[str], StoreSettings], owner: str, clock: Clock
    ) -> None:
        """``settings_of`` gives a store's settings by its name; ``owner`` is the name under which
        this worker leases shards."""
        self._settings_of = settings_of
        self._owner = owner
        self._clock = clock
        self._stores: dict[str, Cap[Gate]] = {}
        self._gates: dict[tuple[str, str], Gate] = {}
        self._held: dict[tuple[str, str], Held] = {}
        self._held_of_store: dict[str, Held] = {}
        self._asked, self.lag = -math.inf, Lag()

    def gate(self, store: str, bucket: str) -> Gate:
        """Where the calls to a bucket wait for their turn; always the same one."""
        key = store, bucket
        if key not in self._gates:
            settings = self._settings_of(store)
            if store not in self._stores:
                self._stores[store] = Cap(settings)
                self._stores[store].learn(self._held_of_store.get(store, Held()), self._asked)
            own = Cap[Gate](settings.caps_of(bucket))
            gate = Gate(self._clock, own, self._stores[store], self.lag)
            gate.learn(self._held.get(key, Held()), self._asked)
            self._gates[key] = gate
        return self._gates[key]

    def divide(self, leased: Iterable[Leased], asked: float) -> None:
        """Learn how many shards of every bucket each worker has leased: a worker with a third of
        the shards has a third of the cap, of a bucket as of a store.
        To be told after each claim and at least every quarter of a second; ``asked``: the
        monotonic time just before the database was. Under a cap nothing is sent if this is older
        than GRACE_SECONDS but reads, nor by a worker without shards of the bucket.
        """
        self._held, self._held_of_store, self._asked = {}, {}, asked
        for store, bucket, owner, shards in leased:
            before = shards if owner < self._owner else 0
            mine = shards if owner == self._owner else 0
            of_store = self._held_of_store.get(store, Held())
            of_bucket = self._held.get((store, bucket), Held())
            self._held_of_store[store] = of_store.plus(before, mine, shards)
            self._held[store, bucket] = of_bucket.plus(before, mine, shards)
        for store, cap in self._stores.items():
            cap.learn(self._held_of_store.get(store, Held()), asked)
        for key, gate in self._gates.items():
            gate.learn(self._held.get(key, Held()), asked)

    def left(self, store: str, bucket: str, *, whole_store: bool) -> None:
        """This worker has ended its last shard of a bucket, or of the ``whole_store``; to be told
        at once, since a worker that is left alone takes the whole of a cap without asking."""
        self.gate(store, bucket).learn(Held(), self._asked)
        if whole_store:
            self._stores[store].learn(Held(), self._asked)

    def news(self) -> list[Found]:
        """Estimates that other workers should hear, each once: at once where one fell by a fifth or
        doubled, once a second where it moved by a tenth, and every 30 seconds while it is in use.
        To be written where the others read, for a minute."""
        now = self._clock.monotonic()
        return [
            Found(*key, gate.estimate.concurrency)
            for key, gate in self._gates.items()
            if gate.is_news(now)
        ]

    def at_work(self) -> Iterator[tuple[str, str, float]]:
        """Store, bucket and how many calls at once this worker may have, where it has any."""
        for (store, bucket), gate in self._gates.items():
            if gate.busy or gate.waiting:
                yield store, bucket, gate.allowed

    def heard(self, found: Found) -> None:
        """Follow an estimate that a worker wrote; one that was heard before changes nothing."""
        if gate := self._gates.get((found.store, found.bucket)):
            gate.heard(found.concurrency)


class Gate:
    """Where the calls to one bucket wait, first come, first served, until they may be sent."""

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
        for rate, of_objects in self._rates:
            if of_objects:
                size = min(size, (rate.value or rate.cap) / BATCHES_PER_SECOND)
        return max(1, int(size))

    @property
    def allowed(self) -> float:
        """How many calls at once this worker may have, of what the store is found to take."""
        return self._mine

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

    def learn(self, held: Held, asked: float) -> None:
        """Who has how many shards of the bucket, as of ``asked``."""
        self._share = held.share
        self._bucket.learn(held, asked)
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
            start = self._pass_caps(call.objects, now, start)
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

    def _pass_caps(self, objects: int, now: float, start: float) -> float:
        """Take from the caps what a call needs that nothing else keeps beyond ``start``."""
        if now > self._good_until:
            start = math.inf
        for rate, of_objects in self._rates:
            opens = rate.opens(objects if of_objects else 1, now)
            if opens > start:
                start = opens
        for cap in self._permits:
            if start == math.inf:
                cap.leave_line(self)
            elif not cap.has_permit(self):
                start = math.inf
        if start < math.inf:
            for rate, of_objects in self._rates:
                rate.take(objects if of_objects else 1, start, now)
            for cap in self._permits:
                cap.busy += 1
                cap.leave_line(self)
        return start

    def _take_back(self, call: Call) -> None:
        """What was taken for a call that is not sent, or not yet."""
        if call.counts:
            for rate, of_objects in self._rates:
                rate.give_back(call.objects if of_objects else 1)
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
        *("_code", "_gate", "began", "counts", "objects"),
        *("permitted", "start", "stop", "turn", "verb"),
    )

    def __init__(self, gate: Gate, objects: int, stop: asyncio.Event, verb: str) -> None:
        self._gate = gate
        self._code: Code | None = None
        self.objects = objects
        self.stop = stop
        self.verb = verb
        self.permitted = False
        self.counts = False
        self.start = math.inf

    async def __aenter__(self) -> Call:
        gate = self._gate
        if self.stop.is_set():
            return self
        now = gate._clock.monotonic()
        if not gate._waiting:
            self.start = gate._take(self, now)
        if self.start > now:
            self.turn = asyncio.get_running_loop().create_future()
            gate._queue(self)
            try:
                self.permitted = await self.turn
            finally:
                if not self.permitted and self.start < math.inf:
                    gate._take_back(self)
                    gate._serve_all()
            now = gate._clock.monotonic()
        else:
            self.permitted = True
        self.began = now
        return self

    def ended(self, code: Code | None) -> None:
        """The call was answered, with this failure or none: what it says of the store."""
        self._code = code

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.permitted:
            return
        gate = self._gate
        code = self._code if error is None or not isinstance(error, Error) else error.code
        if error is None or isinstance(error, Error):
            gate._learn_from(self, code)
        gate._release(self)
