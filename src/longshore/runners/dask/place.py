"""A worker's process in the cluster: one of Dask's workers, in whose event loop one of ours carries
shards."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections.abc import Mapping, Set
from contextlib import suppress
from typing import Any, Final, NamedTuple

import distributed

from longshore import telemetry
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, schema
from longshore.engine.worker import Worker
from longshore.errors import Error
from longshore.model import FORMAT
from longshore.runners.dask.rules import apply, find, listens_on, security
from longshore.settings import Settings
from longshore.store import Stores
from longshore.supervisor import Heart

AGAIN_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 1.0
OVERDUE_SECONDS: Final = 0.5
"""How long a call may outlive its lease: one that was awaited while the process stood still ends by
its own timer as soon as that goes on."""
KIND: Final = "longshore"
"""Under which name a worker tells the scheduler its ``terms``."""


class Terms(NamedTuple):
    """What a worker can be dealt: up to which format it reads shards, and how many of each store
    it carries at once. What it tells is a table with these names, of which others may have more."""

    reads: int
    at_once: int

    @staticmethod
    def told(by: Mapping[str, Any]) -> Terms | None:
        """Those of a worker that the scheduler knows; None: it is none of longshore's."""
        table = by.get(KIND)
        if not isinstance(table, dict) or not table.keys() >= set(Terms._fields):
            return None
        return Terms(*(table[name] for name in Terms._fields))


class Place(distributed.Worker):
    """A worker of Dask that carries shards."""

    engine: Worker


async def carry(shard: int, attempt: int) -> None:
    """What Dask runs as a task: an attempt at a shard, if it is still this worker's."""
    await _engine(distributed.get_worker()).carry(shard, attempt)


async def hand_back(shards: Set[tuple[int, int]], dask_worker: distributed.Worker) -> None:
    """What Dask runs beside tasks: leases that others are to have."""
    _engine(dask_worker).hand_back(shards)


def _engine(place: distributed.Worker) -> Worker:
    if not isinstance(place, Place):
        raise TypeError(f"{place.address} is no worker of longshore: start `longshore worker`.")
    return place.engine


async def work(name: str, settings: Settings, heart: Heart) -> None:
    """The body of a worker of the cluster."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = Database.open(settings, patience_seconds=math.inf)
    stores = Stores(settings)
    telemetry.count_worker_up()
    heart.start()
    apply()
    try:
        stores.prepare()
        await database.read(schema.check)
        engine = Worker(name, settings, database, stores, SYSTEM_CLOCK, dealt=True)
        threading.Thread(target=_end_when_overdue, args=(name, engine), daemon=True).start()
        async with asyncio.TaskGroup() as group:
            group.create_task(_stay_in_the_cluster(name, settings, engine, stop))
            group.create_task(engine.run(stop))
    except* Error as errors:
        telemetry.warning("worker ends", worker=name, why=errors.exceptions[0])
        raise SystemExit(1) from errors
    finally:
        heart.beat()
        await stores.close()
        await database.close()


def _end_when_overdue(name: str, engine: Worker) -> None:
    """End this process once a call has outlived its lease: one of a store on this machine may wait
    for a lock, in a thread that cannot be ended, and nobody else here ends it for that. A thread
    of its own, since the event loop may be what stands still."""
    was = False
    while True:
        time.sleep(OVERDUE_SECONDS)
        is_now = engine.overdue()
        if was and is_now:
            telemetry.warning("worker ends", worker=name, why="a call has outlived its lease")
            os._exit(1)
        was = is_now


async def _stay_in_the_cluster(
    name: str, settings: Settings, engine: Worker, stop: asyncio.Event
) -> None:
    """Be a worker of Dask until ``stop`` is set: a new one whenever the last was closed, for
    whatever reason. What is carried goes on meanwhile."""
    missed = False
    while not stop.is_set():
        try:
            await find(settings.dask)
        except ConnectionError as error:
            if not missed:
                telemetry.warning("scheduler not reached", worker=name, why=error)
            missed = True
            await SYSTEM_CLOCK.wait(stop, AGAIN_SECONDS)
            continue
        missed = False
        place = _place(name, settings, engine)
        there = asyncio.create_task(_be_there(place, name))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({there, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            there.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * CLOSE_SECONDS):
                    await place.close(timeout=CLOSE_SECONDS, executor_wait=False)
        if not stop.is_set():
            failure = None if there.cancelled() else there.exception()
            telemetry.warning("left the cluster", worker=name, why=failure or "it was closed")
            await SYSTEM_CLOCK.wait(stop, AGAIN_SECONDS)


def _place(name: str, settings: Settings, engine: Worker) -> Place:
    kinds_of_work = len(settings.stores) + 2  # those, the embedded store, and planning
    terms = Terms(FORMAT, settings.shards_at_once)._asdict()
    place = Place(
        settings.dask.scheduler,
        name=name,
        host=listens_on(settings.dask),
        nthreads=settings.shards_at_once * kinds_of_work,
        security=security(settings.dask),
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        local_directory=str(settings.data_dir / "dask"),
        startup_information={KIND: lambda _worker: terms},
    )
    place.engine = engine
    return place


async def _be_there(place: Place, name: str) -> None:
    async with place:
        telemetry.event("joined the cluster", worker=name)
        await place.finished()  # type: ignore[no-untyped-call]
