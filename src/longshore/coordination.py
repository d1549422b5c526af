"""One process of many coordinates: it is elected, holds its term, and is replaced when it stands
still."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from longshore import data_dir, telemetry
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, coordinator, deals, leases
from longshore.database.coordinator import Deposed, Seat
from longshore.engine.lease_watch import LeaseWatch
from longshore.errors import Unavailable
from longshore.settings import Settings

BEAT_SECONDS: Final = 1.0
TERM_SECONDS: Final = 5.0
"""How long a coordinator's beat may stand still before another takes over."""
AGAIN_SECONDS: Final = 0.5
LOOKS_A_LEASE: Final = 10
"""How often who waits to coordinate looks at all leases while one lasts: there may be many."""
PAUSE_SECONDS: Final = 3.0
"""How long who was hindered leaves the term to others, who look for it every AGAIN_SECONDS."""

InTerm = Callable[[int, asyncio.Event], Coroutine[Any, Any, None]]
"""What is done in a term, whose number every write of it gives to ``coordinator.check``, until an
event is set."""


class Hindered(Exception):
    """Who coordinates cannot do what that is for, and another may be able to."""


class Candidate:
    """A process that coordinates whenever no other does.

    The term is judged as leases of shards are: by how long the others have seen it just as it is,
    each by its own monotonic clock. Two may think for a moment that they hold one, but only writes
    of the newer take effect.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._name = f"{data_dir.identity(settings.data_dir)}/{uuid.uuid4().hex[:12]}"
        self._lease_seconds = settings.lease_seconds
        self._leases = LeaseWatch(SYSTEM_CLOCK, settings.lease_seconds)
        self._database = database
        self.reached = False
        """Whether it holds a term, or would notice if it were needed."""

    async def run(self, stop: asyncio.Event, *duties: InTerm) -> None:
        """Wait to be elected, and do the ``duties`` for as long as the term lasts, again and again
        until ``stop`` is set. A duty that raises Hindered ends the term."""
        while not stop.is_set():
            try:
                term = await self._election(stop)
            except Unavailable as error:
                telemetry.warning("database failed", while_waiting="to coordinate", why=error)
                self._leases.forget()  # nobody could renew one meanwhile
                self.reached = False
                await SYSTEM_CLOCK.wait(stop, AGAIN_SECONDS)
            else:
                if term is not None:
                    await self._hold(term, stop, duties)

    async def _election(self, stop: asyncio.Event) -> int | None:
        """The term that this process has won; None: it is to stop."""
        watch, looked = LeaseWatch(SYSTEM_CLOCK, TERM_SECONDS), -math.inf
        while not await SYSTEM_CLOCK.wait(stop, AGAIN_SECONDS):
            asked = SYSTEM_CLOCK.monotonic()
            seat = await self._database.read(coordinator.seat)
            self.reached = True
            if SYSTEM_CLOCK.monotonic() - asked > BEAT_SECONDS:
                watch.forget()  # where the database stood still, no beat could move
            if asked - looked >= self._lease_seconds / LOOKS_A_LEASE:
                looked = asked
                # Seen while waiting, so that what is dead need not be watched anew after a change.
                await self._expired()
            if _is_free(seat, watch):
                term = await self._database.write(coordinator.take, self._name, seat)
                if term is not None:
                    return term
        return None

    async def _hold(self, term: int, stop: asyncio.Event, duties: tuple[InTerm, ...]) -> None:
        telemetry.event("coordinating", coordinator=self._name, term=term)
        over = asyncio.Event()
        pause = 0.0
        try:
            async with asyncio.TaskGroup() as group:
                for duty in (self._beat, self._judge, *duties):
                    group.create_task(duty(term, over))
                await stop.wait()
                over.set()
        except* (Deposed, Unavailable, Hindered) as errors:
            why = errors.exceptions[0]
            telemetry.warning("not coordinating", coordinator=self._name, term=term, why=why)
            if isinstance(why, Unavailable):
                self._leases.forget()  # nobody could renew one meanwhile
            pause = PAUSE_SECONDS if isinstance(why, Hindered) else 0.0
        finally:
            with suppress(Unavailable):
                await self._database.write(coordinator.resign, term)
        await SYSTEM_CLOCK.wait(stop, pause)

    async def _beat(self, term: int, over: asyncio.Event) -> None:
        while not await SYSTEM_CLOCK.wait(over, BEAT_SECONDS):
            await self._database.write(coordinator.beat, term)

    async def _judge(self, term: int, over: asyncio.Event) -> None:
        """End leases that have stood still for all their time: whoever has them stopped sending
        well before."""
        while not await SYSTEM_CLOCK.wait(over, BEAT_SECONDS):
            for lease in await self._expired():
                if await self._database.write(deals.end, term, lease):
                    telemetry.warning("lease ended", shard=lease.shard, worker=lease.owner)

    async def _expired(self) -> list[leases.Lease]:
        asked = SYSTEM_CLOCK.monotonic()
        held = await self._database.read(leases.leases)
        if SYSTEM_CLOCK.monotonic() - asked > BEAT_SECONDS:
            self._leases.forget()  # where the database stood still, no lease could move
        return self._leases.expired(held)


def _is_free(seat: Seat | None, watch: LeaseWatch) -> bool:
    if seat is None or seat.owner is None:
        return True
    return bool(watch.expired([leases.Lease(0, seat.term, seat.owner, seat.beat)]))
