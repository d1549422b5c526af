"""How much is asked of a store: no more than the settings allow, nor than it is found to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from longshore.clock import Clock
from longshore.database.estimates import Found
from longshore.database.leases import Leased
from longshore.engine.caps import Cap, Held
from longshore.engine.estimate import Lag
from longshore.engine.gate import Gate
from longshore.settings import StoreSettings


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
