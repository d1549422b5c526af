"""How much may be asked of a store: interim form, caps of objects only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType

from longshore.clock import Clock
from longshore.database.leases import Leased
from longshore.errors import Code
from longshore.settings import StoreSettings
from longshore.store import PAGE_SIZE

BATCHES_PER_SECOND = 20


class Limits:
    """The gates of one worker, one for each bucket of each store."""

    def __init__(
        self, settings_of: Callable[[str], StoreSettings], owner: str, clock: Clock
    ) -> None:
        self._settings_of = settings_of
        self._owner = owner
        self._clock = clock
        self._gates: dict[str, Gate] = {}

    def gate(self, store: str, bucket: str) -> Gate:
        """Where calls to a bucket wait for their turn."""
        if store not in self._gates:
            rate = self._settings_of(store).max_objects_per_second
            self._gates[store] = Gate(rate, self._clock)
        return self._gates[store]

    def divide(self, leased: Iterable[Leased]) -> None:
        """Learn who has how many shards: each worker has that part of a cap."""
        counts: dict[str, list[int]] = {}
        for store, _, owner, shards in leased:
            count = counts.setdefault(store, [0, 0])
            count[0] += shards * (owner == self._owner)
            count[1] += shards
        for store, gate in self._gates.items():
            mine, everybody = counts.get(store, (1, 1))
            gate.share = max(mine, 1) / max(everybody, 1)


class Gate:
    """A cap of objects per second, kept by spacing calls."""

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._next = clock.monotonic()
        self.share = 1.0

    @property
    def batch_size(self) -> int:
        """How many objects a call may be of, so that progress under a cap is smooth."""
        if self._rate is None:
            return PAGE_SIZE
        return max(1, min(PAGE_SIZE, int(self._rate * self.share / BATCHES_PER_SECOND)))

    def call(self, objects: int, stop: asyncio.Event) -> Call:
        """A permit for one call."""
        return Call(self, objects, stop)

    async def wait(self, objects: int, stop: asyncio.Event) -> bool:
        if self._rate is not None and objects:
            rate = self._rate * self.share
            now = self._clock.monotonic()
            start = max(self._next, now - objects / rate)
            self._next = start + objects / rate
            if start > now:
                await self._clock.wait(stop, start - now)
        return not stop.is_set()


class Call:
    """One call's turn; ``permitted``: whether it may be made."""

    def __init__(self, gate: Gate, objects: int, stop: asyncio.Event) -> None:
        self._gate, self._objects, self._stop = gate, objects, stop
        self.permitted = False

    async def __aenter__(self) -> Call:
        self.permitted = await self._gate.wait(self._objects, self._stop)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def ended(self, code: Code | None) -> None:
        """How it ended, where not well."""
