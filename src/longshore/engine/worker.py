"""A worker: leases free shards, or is given them, carries them side by side, and tells them when to
stop."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Set
from contextlib import suppress
from typing import Final

from longshore import telemetry
from longshore.clock import Clock
from longshore.database import Database, deals, estimates, leases, quotas, ramps, shards
from longshore.database.notices import CANCELLED
from longshore.database.shards import LeaseLost
from longshore.engine.carry import carry
from longshore.engine.deadline import Deadline
from longshore.engine.limits import Limits
from longshore.engine.running import Running, Tools
from longshore.engine.sinks import Sinks
from longshore.errors import Unavailable
from longshore.model import Shard
from longshore.settings import Settings
from longshore.store import Stores

POLL_SECONDS: Final = 0.05
"""How often a worker asks the database, in one query, for cancelled jobs and free shards."""
SHARDS_WANTED: Final = 2
"""With fewer than these a worker asks others for half of theirs."""
IDLE_SECONDS: Final = 0.15
"""How long it waits before that: what is nearly done is not worth halving."""
TURN_SECONDS: Final = 0.5
"""How long a shard is carried at least before it makes room for a job that has no shard carried."""
STUCK_SECONDS: Final = 30.0
"""How long a shard is carried all of whose range is refused, before it makes room for another range
of a store that refuses by ranges."""
DIVIDE_SECONDS: Final = 0.25
"""How often a worker learns its parts of the caps of stores."""
LOOK_SECONDS: Final = 1.0
"""How often a worker of a cluster asks for news."""
SOON_SECONDS: Final = 0.1
"""How often it asks for its quotas while it has none of something of which it carries shards."""
ESTIMATE_GOOD_US: Final = 60_000_000
"""How old what another worker found out about a bucket may be; clocks of machines may differ."""
WARM_US: Final = 24 * 3_600_000_000
"""How long it is believed that a bucket takes what it took. Cloud Storage asks to begin low again
after days: docs.cloud.google.com/storage/docs/request-rate."""


class Worker:
    """Carries shards of one database until it is told to stop."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        database: Database,
        stores: Stores,
        clock: Clock,
        *,
        dealt: bool = False,
    ) -> None:
        """``name`` is the owner of its leases; never reused by another worker. ``dealt``: it takes
        nothing by itself, but carries what it is given."""
        self._name = name
        self._settings = settings
        self._at_once = settings.shards_at_once
        self._database = database
        self._clock = clock
        self._running: dict[tuple[int, int], Running] = {}  # by shard and attempt
        self._tasks: set[asyncio.Task[None]] = set()
        self._given: set[tuple[int, int]] = set()
        self._found: set[asyncio.Task[None]] = set()
        self._dealt = dealt
        self._limits = Limits(stores.settings_of, clock)
        self._tools = Tools(
            database=database,
            stores=stores,
            may_use=settings.may_use,
            has_room=self._has_room,
            limits=self._limits,
            clock=clock,
            sink=Sinks(settings, stores, clock).of,
        )
        self._looked = self._divided = -math.inf
        self._busy = clock.monotonic()
        self._shown: set[tuple[str, str]] = set()
        self._broken = self._over = False

    async def run(self, stop: asyncio.Event) -> None:
        """Lease what is free and work until ``stop`` is set; then hand every shard back, counted up
        to its last batch.

        Raises Unavailable when the database fails: its state is sound, so a new worker goes on.
        """
        if not self._dealt:
            await self._go_on(stop, self._poll)
            return
        listening = asyncio.create_task(self._database.listen(CANCELLED, self._hear))
        try:
            await self._go_on(stop, self._attend)
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def carry(self, shard: int, attempt: int) -> None:
        """Carry a shard that was dealt to this worker until its lease has ended; does nothing where
        it was dealt to another one since, or is carried: who waited for it may have been cancelled,
        and told again."""
        if self._over or (shard, attempt) in self._given | self._running.keys():
            return  # whoever keeps a worker that ends also ends its leases
        self._given.add((shard, attempt))
        try:
            asked = self._clock.monotonic()
            seconds = self._settings.lease_seconds
            accepted = await self._database.write(deals.accept, self._name, shard, attempt, seconds)
            if accepted is not None:
                # Not ended with whoever waits for it: only its lease says how long it runs.
                await asyncio.wait({self._begin(accepted, asked)})
        finally:
            self._given.discard((shard, attempt))

    def _begin(self, accepted: deals.Accepted, asked: float) -> asyncio.Task[None]:
        shard = accepted.shard
        if shard.store is not None:
            self._limits.began(shard.store, shard.bucket)
        self._limits.divide(accepted.quotas, asked)
        return self._start(shard, asked)

    def hand_back(self, shards: Set[tuple[int, int]]) -> None:
        """Give up the leases of these shards, by id and attempt, each after its batch."""
        for shard in shards & self._running.keys():
            self._running[shard].give_up_lease()

    def overdue(self) -> bool:
        """Whether a call that changes objects is under way whose lease may be somebody else's by
        now. Any thread may ask."""
        carried = list(self._running.values())
        return any(running.sending and running.deadline.over() for running in carried)

    async def _go_on(self, stop: asyncio.Event, look: Callable[[], Awaitable[int]]) -> None:
        try:
            while not stop.is_set() and not self._broken:
                if not await look():
                    due = self._clock.monotonic() + POLL_SECONDS
                    if not await self._clock.wait(stop, POLL_SECONDS):
                        self._limits.lag.woke(self._clock.monotonic() - due)
        finally:
            self._over = True
            for running in self._running.values():
                running.give_up_lease()
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._broken:
            raise Unavailable("The database failed under a shard; a new worker goes on.")

    async def _attend(self) -> int:
        """Keep leases alive, and learn what is new: once a second, as most of it is told; quotas
        more often, where something is capped."""
        await self._renew()
        now = self._clock.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = self._divided = now
            since_us = self._clock.now_us() - ESTIMATE_GOOD_US
            news = await self._database.read(deals.news, self._name, since_us)
            self._cancel(news.cancelled)
            for shard, attempt in news.dealt:
                self._find(shard, attempt)
            self._limits.divide(news.quotas, now)
            await self._learn(news.found)
        elif now - self._divided >= self._quotas_last():
            self._divided = now
            self._limits.divide(await self._database.read(quotas.of, self._name), now)
        return 0

    def _quotas_last(self) -> float:
        """After how many seconds to ask for this worker's quotas alone."""
        buckets = {
            (shard.store, shard.bucket)
            for shard in (running.shard for running in self._running.values())
            if shard.store is not None
        }
        if not all(self._limits.has_quota(*one) for one in buckets):
            return SOON_SECONDS
        return DIVIDE_SECONDS if any(self._limits.is_capped(*one) for one in buckets) else math.inf

    def _hear(self, job: str | None) -> None:
        """A job is cancelled, or nobody knows which ones are: then it is time to ask."""
        if job is not None:
            self._cancel({int(job)})
        else:
            self._looked = -math.inf

    def _find(self, shard: int, attempt: int) -> None:
        """Carry what this worker was dealt without being told: word of it may have been lost."""
        if (shard, attempt) not in self._running:
            task = asyncio.create_task(self.carry(shard, attempt))
            self._found.add(task)
            task.add_done_callback(self._found.discard)

    def _cancel(self, jobs: Set[int]) -> None:
        for running in self._running.values():
            if running.shard.job in jobs:
                running.stop.set()

    async def _poll(self) -> int:
        """Pass cancellations on, keep leases alive, take what is free; gives how much was taken."""
        carried = Counter(running.store for running in self._running.values())
        news = await self._database.read(leases.poll, carried, self._at_once)
        self._cancel(news.cancelled)
        await self._renew()
        for store in news.starved:
            self._make_room(store)
        await self._pass_on(carried)
        taken = await self._claim(carried) if news.free else 0
        await self._ask_for_more(carried, idle=not news.free)
        if taken or self._clock.monotonic() - self._looked >= DIVIDE_SECONDS:
            await self._divide()
        return taken

    async def _claim(self, carried: Counter[str | None]) -> int:
        asked = self._clock.monotonic()
        claimed = await self._database.write(
            leases.claim,
            self._name,
            carried,
            self._at_once,
            self._clock.now_us(),
            self._settings.lease_seconds,
        )
        for shard in claimed:
            self._start(shard, asked)
        return len(claimed)

    def _has_room(self, store: str) -> bool:
        carried = sum(running.store == store for running in self._running.values())
        return carried < self._at_once

    def _make_room(self, store: str | None) -> None:
        """Have a shard of ``store`` give its place to a job that has none: of the job that has most
        places here, the one that was carried longest."""
        now = self._clock.monotonic()
        jobs = Counter(running.shard.job for running in self._running.values())
        done = [
            running
            for running in self._running.values()
            if running.store == store
            and not running.stop.is_set()
            and now - running.since >= TURN_SECONDS
        ]
        if done:
            first = max(done, key=lambda one: (jobs[one.shard.job], -one.since))
            first.give_up_lease()

    async def _pass_on(self, carried: Counter[str | None]) -> None:
        """Have a shard whose range is refused give its place to one whose range may not be, where
        all places are taken and one is free: or those that are refused would soon have them all."""
        now = self._clock.monotonic()
        for running in list(self._running.values()):
            if not running.retries.probing or now - running.since < STUCK_SECONDS:
                continue
            store = running.store
            if store is None or carried[store] < self._at_once or running.stop.is_set():
                continue
            by_range = self._tools.stores.open(store).capabilities.by_range
            if by_range and await self._database.read(leases.is_awaited, store):
                running.give_up_lease()
                return

    async def _ask_for_more(self, carried: Counter[str | None], *, idle: bool) -> None:
        """Ask for half of somebody's range where nothing is free and too little is carried."""
        now = self._clock.monotonic()
        if not idle or len(self._running) >= SHARDS_WANTED:
            self._busy = now
        elif now - self._busy >= IDLE_SECONDS:
            self._busy = now
            found = await self._database.read(leases.worth_halving, carried, self._at_once)
            if found:  # a write is not free, and most of the time nothing runs
                await self._database.write(leases.ask_to_halve, found)

    async def _divide(self) -> None:
        """Learn which part of each store's caps is this worker's, and what others have found."""
        self._looked = self._clock.monotonic()
        if not self._running:
            return
        leased = await self._database.read(leases.who_leases)
        self._limits.divide(quotas.own(leased, self._name), self._looked)
        since_us = self._clock.now_us() - ESTIMATE_GOOD_US
        await self._learn(await self._database.read(estimates.hear, since_us))

    async def _learn(self, found: Iterable[estimates.Found]) -> None:
        """Share what is found out about stores with the other workers."""
        if not self._running:
            return
        if news := self._limits.news():
            await self._database.write(estimates.tell, news, self._clock.now_us())
        for one in found:
            self._limits.heard(one)
        if buckets := self._limits.ramped():
            await self._share_ramps(buckets)
        self._show_limits()

    async def _share_ramps(self, buckets: list[tuple[str, str]]) -> None:
        now_us = self._clock.now_us()
        for taken in await self._database.read(ramps.recall, buckets, now_us - WARM_US):
            self._limits.remember(taken)
        if taken_here := self._limits.taken():
            await self._database.write(ramps.keep, taken_here, now_us)

    def _show_limits(self) -> None:
        shown, self._shown = self._shown, set()
        for store, bucket, calls in self._limits.at_work():
            telemetry.set_limit(store, bucket, "concurrency", calls)
            self._shown.add((store, bucket))
        for store, bucket in shown - self._shown:
            telemetry.set_limit(store, bucket, "concurrency", None)

    def _start(self, shard: Shard, asked: float) -> asyncio.Task[None]:
        lasts, call = self._settings.lease_seconds, self._settings.call_seconds
        deadline = Deadline(self._clock, lasts, call, asked)
        running = Running(shard=shard, store=shard.store, deadline=deadline, since=asked)
        self._running[shard.id, shard.attempt] = running
        if self._over:
            running.give_up_lease()
        task = asyncio.create_task(self._carry(running), name=f"shard-{shard.id}-{shard.attempt}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (broken := task.exception()) is not None:
            telemetry.warning("shard left", task=task.get_name(), why=repr(broken))
            self._broken = True

    async def _carry(self, running: Running) -> None:
        try:
            await carry(running, self._tools)
        except LeaseLost as lost:
            shard = running.shard
            telemetry.event("lease lost", shard=shard.id, attempt=shard.attempt, why=lost)
            # If only its own deadline has passed, somebody else may begin at once.
            with suppress(LeaseLost):
                await self._database.write(shards.let_go, shard)
        finally:
            del self._running[running.shard.id, running.shard.attempt]
            if all(shard != running.shard.id for shard, _ in self._running):
                self._limits.ended(running.shard.id)
            self._left(running.shard)

    def _left(self, shard: Shard) -> None:
        """Give up this worker's parts of caps if the shard was its last one under them."""
        if shard.store is None:
            return
        carried = {(one.shard.store, one.shard.bucket) for one in self._running.values()}
        if (shard.store, shard.bucket) not in carried:
            whole_store = all(store != shard.store for store, _ in carried)
            self._limits.left(shard.store, shard.bucket, whole_store=whole_store)

    async def _renew(self) -> None:
        """Confirm leases that no checkpoint has confirmed for a while: its batch is slow."""
        now = self._clock.monotonic()
        due = [
            running
            for running in self._running.values()
            if now - running.deadline.confirmed_at > self._settings.lease_seconds / 10
        ]
        if not due:
            return
        # Of a shard that this worker has lost and then taken again, the newest attempt counts.
        attempts = {running.shard.id: running.shard.attempt for running in due}
        alive = await self._database.write(leases.renew, attempts)
        for running in due:
            shard = running.shard
            if shard.id in alive and shard.attempt == attempts[shard.id]:
                running.deadline.confirm(now)
            else:
                running.give_up_lease()
