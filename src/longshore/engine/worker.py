"""A worker: leases free shards, runs them side by side, and tells them when to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from longshore.clock import Clock
from longshore.database import Database, shards
from longshore.database.shards import LeaseLost
from longshore.engine.action_log import ActionLog
from longshore.engine.lease import Lease
from longshore.engine.pace import Pace
from longshore.engine.planning import plan
from longshore.engine.shard import Running, ShardRun
from longshore.errors import Error, Internal, Unavailable
from longshore.model import Shard
from longshore.settings import Settings
from longshore.store import Stores
from longshore.telemetry import event, failure, warning

POLL_SECONDS: Final = 0.05
"""How often a worker asks the database, in one query, for cancelled jobs and free shards."""
SHARDS_AT_ONCE: Final = 4
"""How many shards a worker carries at the same time; bounds its memory."""


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
        self._paces: dict[str, Pace] = {}
        self._broken = False

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then hand every shard back, counted up to its last batch.

        Raises Unavailable when the database fails: its state is sound, so a new worker goes on.
        """
        while not stop.is_set():
            if not await self._poll():
                await self._clock.wait(stop, POLL_SECONDS)
            if self._broken:
                raise Unavailable("The database failed under a shard; a new worker goes on.")
        for running in self._running.values():
            running.handing_back = True
            running.stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _poll(self) -> int:
        """Pass cancellations on, keep leases alive, take what is free; gives how much was taken."""
        news = await self._database.read(shards.poll)
        for running in self._running.values():
            if running.shard.job in news.cancelled:
                running.stop.set()
        await self._renew()
        room = SHARDS_AT_ONCE - len(self._tasks)
        if not news.free or room <= 0:
            return 0
        asked = self._clock.monotonic()
        claimed = await self._database.write(shards.claim, self._name, room, self._clock.now_us())
        for shard in claimed:
            self._start(shard, asked)
        return len(claimed)

    def _start(self, shard: Shard, asked: float) -> None:
        running = Running(
            shard=shard,
            lease=Lease(self._clock, self._settings.lease_seconds, asked),
            stop=asyncio.Event(),
        )
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
        log = ActionLog(self._settings.logs_dir, self._settings.logs, shard)
        try:
            if shard.range is None:
                await plan(shard, self._database, self._stores, running.stop, self._clock)
            else:
                pace = self._pace(shard.bucket)
                run = ShardRun(running, self._database, self._stores, pace, log, self._clock)
                await run.run()
        except LeaseLost as lost:
            event("lease lost", shard=shard.id, attempt=shard.attempt, why=lost)
        except SQLAlchemyError:
            raise  # the worker ends; what it had is in the last checkpoint
        except Exception as bug:
            failure("shard failed", shard=shard.id, job=shard.job_id, bucket=shard.bucket)
            await self._give_up(shard, bug)
        finally:
            log.close()
            self._running.pop(shard.id, None)

    async def _give_up(self, shard: Shard, bug: Exception) -> None:
        what = f"The shard stopped by a fault of longshore: {type(bug).__name__}: {bug}"
        error = bug if isinstance(bug, Error) else Internal(what)
        try:
            await self._database.write(shards.give_up, shard, error, self._clock.now_us())
        except LeaseLost as lost:
            event("lease lost", shard=shard.id, attempt=shard.attempt, why=lost)

    def _pace(self, bucket: str) -> Pace:
        name = self._stores.name_for(bucket)
        if name not in self._paces:
            rate = self._stores.settings_of(name).max_objects_per_second
            # Each worker keeps its part of the cap.
            self._paces[name] = Pace(rate and rate / self._settings.workers, self._clock)
        return self._paces[name]

    async def _renew(self) -> None:
        """Confirm leases that no checkpoint has confirmed for a while: its batch is slow."""
        now = self._clock.monotonic()
        due: Mapping[int, Running] = {
            running.shard.id: running
            for running in self._running.values()
            if now - running.lease.confirmed_at > self._settings.lease_seconds / 10
        }
        if not due:
            return
        attempts = {shard: running.shard.attempt for shard, running in due.items()}
        alive = await self._database.write(shards.renew, attempts)
        for shard, running in due.items():
            if shard in alive:
                running.lease.confirm(now)
            else:
                running.lease.lost = True
                running.stop.set()
