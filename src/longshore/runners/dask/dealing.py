"""What the coordinator does in its term: deal free shards to the workers that a scheduler knows."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Collection
from contextlib import suppress
from typing import Any, Final, TypeVar

import dask.config
import distributed

from longshore import telemetry
from longshore.clock import SYSTEM_CLOCK
from longshore.coordination import Hindered
from longshore.database import Database, coordinator, deals, leases
from longshore.database.coordinator import Present
from longshore.dividing import Divider
from longshore.engine.worker import IDLE_SECONDS, POLL_SECONDS, SHARDS_WANTED, TURN_SECONDS
from longshore.errors import FailedPrecondition
from longshore.runners.dask.place import Terms, carry, hand_back
from longshore.runners.dask.rules import RULES, find, security, wanted
from longshore.settings import Settings

LOOK_SECONDS: Final = 0.25
"""How often the coordinator asks the scheduler who is there."""
ACCEPT_SECONDS: Final = 2.0
"""How long a worker may take to accept what it was dealt; where leases are short, half of one."""
SPARED_SECONDS: Final = 30.0
"""How long one that accepts nothing is dealt nothing, at most; where leases are longer, for one."""
CALL_SECONDS: Final = 5.0
"""How long the scheduler may take to answer."""
AGAIN_SECONDS: Final = 0.5
IDLE_TIMES: Final = 4
"""Of its time, a coordinator that finds nothing to deal spends no more than a fifth on looking."""
HINDERED_SECONDS: Final = 15.0
"""How long the scheduler may not be reached until another coordinator is to try."""

T = TypeVar("T")


async def deal(term: int, settings: Settings, database: Database, over: asyncio.Event) -> None:
    """Deal shards until ``over`` is set, whenever there is a scheduler.

    Raises coordinator.Deposed, Hindered, and what the database raises.
    """
    reached, missed = SYSTEM_CLOCK.monotonic(), False
    while not over.is_set():
        pause = AGAIN_SECONDS
        try:
            await find(settings.dask)
            client = _client(settings)
            try:
                await _asked(client)
                await _require_rules(client, settings.dask.scheduler)
                telemetry.event("scheduler reached", at=settings.dask.scheduler)
                missed = False
                try:
                    await Dealer(term, settings, database, client).run(over)
                finally:
                    reached = SYSTEM_CLOCK.monotonic()
            finally:
                with suppress(ConnectionError):
                    await _asked(client.close(timeout=AGAIN_SECONDS))
        except ConnectionError as error:
            if not missed:
                telemetry.warning("scheduler not reached", why=error)
            missed = True
            silent = SYSTEM_CLOCK.monotonic() - reached
            if silent > HINDERED_SECONDS:
                why = f"the scheduler has not been reached for {silent:.0f} s"
                raise Hindered(why) from error
        except FailedPrecondition as error:
            telemetry.warning("scheduler not used", why=error)
            pause = CALL_SECONDS
        await SYSTEM_CLOCK.wait(over, pause)


def _client(settings: Settings) -> Any:
    """Connected once it has been awaited."""
    return distributed.Client(  # type: ignore[no-untyped-call]
        settings.dask.scheduler,
        security=security(settings.dask),
        asynchronous=True,
        set_as_default=False,
        timeout=CALL_SECONDS,
    )


async def _require_rules(client: Any, address: str) -> None:
    """Raises FailedPrecondition, naming it, where the scheduler is set otherwise than in RULES."""
    for name, value in wanted(address).items():
        found = await _asked(client.run_on_scheduler(dask.config.get, name, None))
        if found != value:
            raise FailedPrecondition(
                f"The scheduler at {address} runs with {name} = {found!r}; it must be {value!r}:"
                f" start it with DASK_CONFIG={RULES}."
            )


async def _asked(call: Awaitable[T]) -> T:
    """What Dask answers; raises ConnectionError where it does not, or not in time, or anything
    else: a call to a process that ends may fail in any way."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            return await call
    except Exception as error:
        raise _lost(error) from error


def _lost(error: Exception) -> ConnectionError:
    return ConnectionError(f"{type(error).__name__} {error}".rstrip())


class Dealer:
    """Deals shards to the workers of one scheduler, for as long as that lives."""

    def __init__(self, term: int, settings: Settings, database: Database, client: Any) -> None:
        """``client``: a distributed.Client that is connected."""
        self._term = term
        self._patience = min(ACCEPT_SECONDS, settings.lease_seconds / 2)
        self._longest = max(SPARED_SECONDS, settings.lease_seconds)
        self._database = database
        self._client = client
        self._workers: dict[str, str] = {}  # addresses by name
        self._futures: dict[str, Any] = {}  # Dask forgets a task with its future
        self._dealt: dict[leases.Lease, float] = {}
        self._terms: dict[str, Terms] = {}  # of those that are ours, by name
        self._others: frozenset[str] = frozenset()
        self._present = Present()
        self._lapses: Counter[str] = Counter()
        self._spared: dict[str, float] = {}
        self._asked_back: dict[str | None, float] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._busy = SYSTEM_CLOCK.monotonic()
        self._looked = -math.inf
        self._divider = Divider(term, database)

    async def run(self, over: asyncio.Event) -> None:
        """Deal until ``over`` is set; raises ConnectionError when the scheduler is lost."""
        await self._database.write(coordinator.note, self._term, self._present)
        while not over.is_set():
            began = SYSTEM_CLOCK.monotonic()
            if began - self._looked >= LOOK_SECONDS:
                await self._look()
                await self._take_back()
            if not await self._deal():
                # After what begins was dealt, so that all who have part in it begin together.
                await self._divider.divide()
                took = SYSTEM_CLOCK.monotonic() - began
                await SYSTEM_CLOCK.wait(over, max(POLL_SECONDS, IDLE_TIMES * took))

    async def _look(self) -> None:
        """Learn who is there, and who of them can be dealt to."""
        if self._client.status != "running":
            raise ConnectionError("the connection to the scheduler is closed")
        self._looked = SYSTEM_CLOCK.monotonic()
        scheduler = self._client.scheduler
        if set(await _asked(scheduler.ncores())) == set(self._workers.values()):
            return
        found = (await _asked(scheduler.identity()))["workers"]
        self._workers = {str(one["name"]): address for address, one in found.items()}
        told = {str(one["name"]): Terms.told(one) for one in found.values()}
        self._terms = {name: terms for name, terms in told.items() if terms is not None}
        others = self._workers.keys() - self._terms.keys()
        for name in others - self._others:
            telemetry.warning("worker gets nothing", worker=name, why="it is none of longshore's")
        self._others = frozenset(others)
        present = Present(
            len(self._terms),
            sum(terms.at_once for terms in self._terms.values()),
            max((terms.reads for terms in self._terms.values()), default=None),
        )
        if present != self._present:
            await self._database.write(coordinator.note, self._term, present)
            self._present = present

    async def _deal(self) -> int:
        """Lease what is free to whoever has places; gives how much that was."""
        now = SYSTEM_CLOCK.monotonic()
        able = {
            name: terms
            for name, terms in self._terms.items()
            if self._spared.get(name, -math.inf) <= now
        }
        if not able:
            return 0
        carried = await self._database.read(deals.carried_by)
        carriers = {
            name: deals.Carrier(carried.get(name, Counter()), terms.at_once, terms.reads)
            for name, terms in able.items()
        }
        together = deals.together(carriers.values())
        news = await self._database.read(leases.poll, *together)
        for store in news.starved:
            await self._make_room(store)
        dealt = []
        if news.free:
            now_us = SYSTEM_CLOCK.now_us()
            dealt = await self._database.write(deals.deal, self._term, carriers, now_us)
            await self._divider.divide(anew=bool(dealt))
        for lease in dealt:
            self._send(lease)
        if dealt:
            self._busy = SYSTEM_CLOCK.monotonic()
        else:
            await self._ask_for_more(carriers.values())
        return len(dealt)

    async def _take_back(self) -> None:
        """End leases that were dealt to workers who have gone, or have not accepted them in time:
        from then on they cannot. Who lets one lapse gets none for a second, and for twice as long
        each time that happens again in a row."""
        now = SYSTEM_CLOCK.monotonic()
        due = [
            lease
            for lease, since in self._dealt.items()
            if lease.owner not in self._workers or now - since > self._patience
        ]
        # Most have been accepted, and there may be many: a transaction for each would take long.
        unmoved = await self._database.read(deals.unmoved, due) if due else set()
        for lease in due:
            del self._dealt[lease]
            lapsed = lease in unmoved and await self._database.write(deals.end, self._term, lease)
            if lease.owner not in self._workers or not lapsed:
                self._lapses.pop(lease.owner, None)
            elif self._spared.get(lease.owner, -math.inf) <= now:
                seconds = min(self._longest, 2.0 ** self._lapses[lease.owner])
                self._lapses[lease.owner] += 1
                self._spared[lease.owner] = now + seconds
                telemetry.warning(
                    "dealt in vain", worker=lease.owner, shard=lease.shard, seconds=seconds
                )

    async def _make_room(self, store: str | None) -> None:
        """Have a worker hand back a shard of ``store`` for a job that has none."""
        now = SYSTEM_CLOCK.monotonic()
        if now - self._asked_back.get(store, -math.inf) < TURN_SECONDS:
            return
        self._asked_back[store] = now
        for one in await self._database.read(deals.crowding, store):
            address = self._workers.get(one.owner)
            if address is not None:
                errand = asyncio.create_task(self._ask_back(one.shard, one.attempt, address))
                self._errands.add(errand)
                errand.add_done_callback(self._errands.discard)
                return

    async def _ask_back(self, shard: int, attempt: int, address: str) -> None:
        with suppress(ConnectionError):  # it is asked for again, or its lease ends
            await _asked(self._client.run(hand_back, {(shard, attempt)}, workers=[address]))

    async def _ask_for_more(self, carriers: Collection[deals.Carrier]) -> None:
        """Ask for halves of what others carry where nothing is free, for each that is idle, and
        such as one of these can read."""
        now = SYSTEM_CLOCK.monotonic()
        idle = [one for one in carriers if sum(one.carried.values()) < SHARDS_WANTED]
        if not idle:
            self._busy = now
        elif now - self._busy >= IDLE_SECONDS:
            self._busy = now
            together = deals.together(carriers)._replace(reads=max(one.reads for one in idle))
            found = await self._database.read(leases.worth_halving, *together, len(idle))
            if found:
                await self._database.write(leases.ask_to_halve, found)

    def _send(self, lease: leases.Lease) -> None:
        """Tell a worker what it was dealt; it may hear of it late, twice or never."""
        key = f"shard-{lease.shard}-{lease.attempt}"
        where = {"workers": [self._workers[lease.owner]], "allow_other_workers": False}
        self._dealt[lease] = SYSTEM_CLOCK.monotonic()
        try:
            future = self._client.submit(
                carry, lease.shard, lease.attempt, key=key, pure=False, **where
            )
        except Exception as error:  # as in _asked
            raise _lost(error) from error
        self._futures[key] = future
        future.add_done_callback(lambda done: self._futures.pop(str(done.key), None))
