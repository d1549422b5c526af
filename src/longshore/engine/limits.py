"""How much is asked of a store: no more than the settings allow, nor than it is found to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from longshore.clock import Clock
from longshore.database.estimates import Found
from longshore.database.quotas import WHOLE_STORE, Quota
from longshore.database.ramps import Taken
from longshore.engine.caps import Cap, Held
from longshore.engine.estimate import Lag
from longshore.engine.gate import Gate
from longshore.settings import Ramp, StoreSettings


class Limits:
    """The gates of one worker: one for each bucket of each store, or for each shard that it
    carries where a store refuses by ranges of names; then the estimate is the shard's own.

    Workers share caps by their shards, of which ``divide`` tells, and what they find out by
    ``news`` and ``heard``. Nothing here waits for another worker, or for the database.
    """

    def __init__(self, settings_of: Callable[[str], StoreSettings], clock: Clock) -> None:
        """``settings_of`` gives a store's settings by its name."""
        self._settings_of = settings_of
        self._clock = clock
        self._stores: dict[str, Cap[Gate]] = {}
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._held: dict[tuple[str, str], Held] = {}
        self._ended: set[tuple[str, str]] = set()  # and nothing has begun since
        self._asked, self.lag = -math.inf, Lag()

    def gate(
        self, store: str, bucket: str, *, shard: int | None = None, ramp: Ramp | None = None
    ) -> Gate:
        """Where the calls to a bucket wait for their turn; always the same one, or the same for
        each ``shard``, until that ``ended``. ``ramp`` is the store's."""
        self.began(store, bucket)
        found = self._buckets.get((store, bucket)) or self._meet(store, bucket, ramp)
        if shard not in found.gates:
            gate = Gate(self._clock, found.cap, self._stores[store], self.lag)
            found.gates[shard] = gate
            found.learn(self._held.get((store, bucket), Held()), self._asked)
        return found.gates[shard]

    def _meet(self, store: str, bucket: str, ramp: Ramp | None) -> _Bucket:
        """A bucket, with what is known of who has its shards."""
        settings = self._settings_of(store)
        if store not in self._stores:
            self._stores[store] = Cap(settings)
            self._stores[store].learn(self._held.get((store, WHOLE_STORE), Held()), self._asked)
        met = _Bucket(Cap(settings.caps_of(bucket), ramp))
        self._buckets[store, bucket] = met
        return met

    def divide(self, quotas: Iterable[Quota], asked: float) -> None:
        """Learn this worker's quotas: with a third of the shards it has a third of the cap, of a
        bucket as of a store.

        To be told after each claim and, under a cap, at least every quarter of a second; ``asked``:
        the monotonic time just before the database was. Under a cap nothing is sent if this is
        older than GRACE_SECONDS but reads, nor by a worker without shards of the bucket.
        """
        if asked < self._asked:
            return  # the answer to an older question
        self._asked = asked
        self._held = {
            (one.store, one.bucket): Held(one.before, one.mine, one.everybody, one.new)
            for one in quotas
            if (one.store, one.bucket) not in self._ended
        }
        for store, cap in self._stores.items():
            cap.learn(self._held.get((store, WHOLE_STORE), Held()), asked)
        for key, known in self._buckets.items():
            known.learn(self._held.get(key, Held()), asked)

    def is_capped(self, store: str, bucket: str) -> bool:
        """Whether what is asked of a bucket that is in use is capped, so that quotas get old."""
        known = self._buckets.get((store, bucket))
        return known is not None and (known.cap.is_set or self._stores[store].is_set)

    def has_quota(self, store: str, bucket: str) -> bool:
        """Whether this worker knows of a quota of its own."""
        return (store, bucket) in self._held

    def began(self, store: str, bucket: str) -> None:
        """This worker carries a shard of a bucket, so what it is told of its quotas counts."""
        self._ended -= {(store, bucket), (store, WHOLE_STORE)}

    def left(self, store: str, bucket: str, *, whole_store: bool) -> None:
        """This worker has ended its last shard of a bucket, or of the ``whole_store``; to be told
        at once, since a worker that is left alone takes the whole of a cap without asking. Quotas
        from before that, which are read for a while, count no more."""
        self._ended |= {(store, bucket), (store, WHOLE_STORE if whole_store else bucket)}
        self._held = {key: held for key, held in self._held.items() if key not in self._ended}
        if known := self._buckets.get((store, bucket)):
            known.learn(Held(), self._asked)
        if whole_store and store in self._stores:
            self._stores[store].learn(Held(), self._asked)

    def ended(self, shard: int) -> None:
        """This worker carries the shard no more."""
        for known in self._buckets.values():
            known.gates.pop(shard, None)

    def news(self) -> list[Found]:
        """Estimates that other workers should hear, each once: at once where one fell by a fifth or
        doubled, once a second where it moved by a tenth, and every 30 seconds while it is in use.
        To be written where the others read, for a minute."""
        now = self._clock.monotonic()
        return [
            Found(*key, gate.estimate.concurrency)
            for key, known in self._buckets.items()
            if (gate := known.gates.get(None)) and gate.is_news(now)
        ]

    def at_work(self) -> Iterator[tuple[str, str, float]]:
        """Store, bucket and how many calls at once this worker may have, where it has any."""
        for (store, bucket), known in self._buckets.items():
            working = [gate.allowed for gate in known.gates.values() if gate.busy or gate.waiting]
            if working:
                yield store, bucket, sum(working)

    def heard(self, found: Found) -> None:
        """Follow an estimate that a worker wrote; one that was heard before changes nothing."""
        known = self._buckets.get((found.store, found.bucket))
        if known and (gate := known.gates.get(None)):
            gate.heard(found.concurrency)

    def ramped(self) -> list[tuple[str, str]]:
        """Store and bucket of what is asked for more by and by."""
        return [key for key, known in self._buckets.items() if known.is_ramped]

    def taken(self) -> list[Taken]:
        """What ramped buckets have taken, each once when it has become more, and now and then
        while it is in use. To be kept for whoever asks one of them for something next."""
        now = self._clock.monotonic()
        return [
            Taken(*key, ramp.cap)
            for key, known in self._buckets.items()
            if (ramp := known.cap.ramp) and ramp.is_news(now)
        ]

    def remember(self, taken: Taken) -> None:
        """Ask a bucket for as much as was kept of it."""
        known = self._buckets.get((taken.store, taken.bucket))
        if known and known.cap.ramp:
            known.cap.ramp.heard(taken.writes_per_second)


class _Bucket:
    """The caps of a bucket and the gates under them, by shard; None: the one of all shards."""

    def __init__(self, cap: Cap[Gate]) -> None:
        self.cap = cap
        self.gates: dict[int | None, Gate] = {}

    @property
    def is_ramped(self) -> bool:
        """Whether a ramp holds, and there is somebody for whom it does."""
        return self.cap.ramp is not None and bool(self.gates)

    def learn(self, held: Held, asked: float) -> None:
        """Who has how many shards of the bucket, as of ``asked``."""
        self.cap.learn(held, asked)
        for shard, gate in self.gates.items():
            gate.learn(held.share if shard is None else float(held.mine > 0), asked)
