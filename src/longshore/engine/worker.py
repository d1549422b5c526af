"""A worker: leases free shards, carries them side by side, and tells them when to stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Final

from longshore.clock import Clock
from longshore.database import Database, shards
from longshore.database.shards import LeaseLost
from longshore.engine.carry import carry
from longshore.engine.deadline import Deadline
from longshore.engine.pace import Pace
from longshore.engine.running import Running, Tools
from longshore.errors import Unavailable
from longshore.model import Shard
from longshore.settings import Settings
from longshore.store import Stores
from longshore.telemetry import event, warning

POLL_SECONDS: Final = 0.05
"""How often a worker asks the database, in one query, for cancelled jobs and free shards."""
SHARDS_AT_ONCE: Final = 4
"""How many shards of one store a worker carries at the same time, and how many it plans; bounds
its memory, and keeps a slow store from holding up the others."""


class Worker:
    """Carries shards of one database until it is told to stop."""

    def __init__(
        self, name: str, settings: Settings, database: Database, stores: Stores, clock: Clock
    ) -> None:
        """``name`` is the owner of its leases; never reused by another worker."""
        self._name = name
        self._settings = settings
        self._database = database
        self._stores = stores
        self._clock = clock
        self._running: dict[int, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._paces: dict[str | None, Pace] = {}
        self._broken = False

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then hand every shard back, counted up to its last batch.

        Raises Unavailable when the database fails: its state is sound, so a new worker goes on.
        """
        try:
            while not stop.is_set() and not self._broken:
                if not await self._poll():
                    await self._clock.wait(stop, POLL_SECONDS)
        finally:
            for running in self._running.values():
                running.give_up_lease()
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._broken:
            raise Unavailable("The database failed under a shard; a new worker goes on.")

    async def _poll(self) -> int:
        """Pass cancellations on, keep leases alive, take what is free; gives how much was taken."""
        carried = Counter(running.store for running in self._running.values())
        news = await self._database.read(shards.poll, carried, SHARDS_AT_ONCE)
        for running in self._running.values():
            if running.shard.job in news.cancelled:
                running.stop.set()
        await self._renew()
        if not news.free:
            return 0
        asked = self._clock.monotonic()
        claimed = await self._database.write(
            shards.claim, self._name, carried, SHARDS_AT_ONCE, self._clock.now_us()
        )
        for shard in claimed:
            self._start(shard, asked)
        return len(claimed)

    def _start(self, shard: Shard, asked: float) -> None:
        deadline = Deadline(self._clock, self._settings.lease_seconds, asked)
        running = Running(shard=shard, store=shard.store, deadline=deadline)
        self._running[shard.id] = running
        task = asyncio.create_task(self._carry(running), name=f"shard-{shard.id}-{shard.attempt}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (broken := task.exception()) is not None:
            warning("shard left", task=task.get_name(), why=repr(broken))
            self._broken = True

    async def _carry(self, running: Running) -> None:
        shard = running.shard
        tools = Tools(
            database=self._database,
            stores=self._stores,
            pace=self._pace(shard.store),
            clock=self._clock,
            logs_dir=self._settings.logs_dir,
            logs=self._settings.logs,
        )
        try:
            await carry(running, tools)
        except LeaseLost as lost:
            event("lease lost", shard=shard.id, attempt=shard.attempt, why=lost)
            # If only its own deadline has passed, somebody else may begin at once.
            with suppress(LeaseLost):
                await self._database.write(shards.let_go, shard)
        finally:
            del self._running[shard.id]

    def _pace(self, store: str | None) -> Pace:
        """The pace of a store's shards: each worker keeps its part of the cap."""
        if store not in self._paces:
            rate = self._stores.settings_of(store).max_objects_per_second if store else None
            self._paces[store] = Pace(rate and rate / self._settings.workers, self._clock)
        return self._paces[store]

    async def _renew(self) -> None:
        """Confirm leases that no checkpoint has confirmed for a while: its batch is slow."""
        now = self._clock.monotonic()
        due = {
            running.shard.id: running
            for running in self._running.values()
            if now - running.deadline.confirmed_at > self._settings.lease_seconds / 10
        }
        if not due:
            return
        attempts = {shard: running.shard.attempt for shard, running in due.items()}
        alive = await self._database.write(shards.renew, attempts)
        for shard, running in due.items():
            if shard in alive:
                running.deadline.confirm(now)
            else:
                running.give_up_lease()
