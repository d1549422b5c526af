"""A worker that carries what it is dealt, told of it once, twice or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from longshore.database import coordinator, deals, leases
from longshore.database.deals import Carrier
from longshore.dividing import Divider
from longshore.engine.worker import Worker
from longshore.model import State
from tests.house import House

OBJECTS = 60
DELETE = ("delete_object", {"permanent": True})
EVERYTHING = ("prefix_list", {"prefixes": ["d/"]})
WORKER = "machine/worker"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "memory", batch=5)
    await house.open()
    for number in range(OBJECTS):
        await house.write(f"d/{number:03d}")
    await house.outside.write(coordinator.take, "coordinator", None)
    yield house
    await house.close()


async def deal(house: House, divider: Divider) -> list[leases.Lease]:
    carried = await house.outside.read(deals.carried_by)
    carriers = {WORKER: Carrier(carried.get(WORKER, {}), 4)}
    now_us = house.clock.now_us()
    dealt = await house.outside.write(deals.deal, 1, carriers, now_us)
    await divider.divide(anew=bool(dealt))
    return dealt


async def attended(house: House, job: int, *, told: int) -> None:
    """Deal until the job has ended; the worker is told so often of each shard."""
    stop = asyncio.Event()
    worker = Worker(WORKER, house.settings, house.database, house.stores, house.clock, dealt=True)
    divider = Divider(1, house.outside)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run(stop))
        while (await house.job(job))[0].complete_us is None:
            for lease in await deal(house, divider):
                for _ in range(told):
                    group.create_task(worker.carry(lease.shard, lease.attempt))
            await asyncio.sleep(0.01)
        stop.set()


@pytest.mark.parametrize("told", [1, 2, 5, 0])
async def test_what_is_dealt_is_done_once_however_often_it_is_told(house: House, told: int) -> None:
    job = await house.create(DELETE, EVERYTHING)
    await attended(house, job, told=told)
    row, (counters, _) = await house.job(job)
    assert State(row.state) is State.SUCCEEDED
    assert (counters.total, counters.succeeded, counters.failed) == (OBJECTS, OBJECTS, 0)
    assert await house.names() == []


async def test_nothing_is_taken_that_was_not_dealt(house: House) -> None:
    job = await house.create(DELETE, EVERYTHING)
    stop = asyncio.Event()
    worker = Worker(WORKER, house.settings, house.database, house.stores, house.clock, dealt=True)
    attending = asyncio.create_task(worker.run(stop))
    await asyncio.sleep(0.2)
    await worker.carry(1, 1)
    assert (await house.job(job))[0].state == State.QUEUED.value
    stop.set()
    await attending


async def test_what_is_asked_back_is_handed_back_with_its_counts(house: House) -> None:
    job = await house.create(DELETE, EVERYTHING)
    stop = asyncio.Event()
    worker = Worker(WORKER, house.settings, house.database, house.stores, house.clock, dealt=True)
    attending = asyncio.create_task(worker.run(stop))
    divider = Divider(1, house.outside)
    async with asyncio.timeout(30):
        while not (await house.job(job))[1][0].succeeded:
            await deal(house, divider)
            await asyncio.sleep(0.005)
        carried = await house.outside.read(deals.dealt, WORKER)
        worker.hand_back({*carried, (12_345, 1)})
        while await house.outside.read(deals.dealt, WORKER):
            await asyncio.sleep(0.005)
    _, (counters, _) = await house.job(job)
    assert counters.succeeded == OBJECTS - len(await house.names()) > 0
    stop.set()
    await attending
    await attended(house, job, told=1)
    assert (await house.job(job))[1][0].succeeded == OBJECTS


class Stuck:
    """A store whose deletions wait until they are let go."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.met, self.free = asyncio.Event(), asyncio.Event()

    async def delete_objects(self, *args: Any, **options: Any) -> Any:
        self.met.set()
        await self.free.wait()
        return await self._store.delete_objects(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_call_that_outlives_its_lease_is_noticed(house: House) -> None:
    stuck = Stuck(house.mortal)
    house.stores._open["main"] = stuck  # type: ignore[assignment]
    await house.create(DELETE, EVERYTHING)
    stop = asyncio.Event()
    worker = Worker(WORKER, house.settings, house.database, house.stores, house.clock, dealt=True)
    divider = Divider(1, house.outside)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run(stop))
        while not stuck.met.is_set():
            for lease in await deal(house, divider):
                group.create_task(worker.carry(lease.shard, lease.attempt))
            await asyncio.sleep(0.01)
        await house.outside.write(leases.release, WORKER)
        while not worker.overdue():
            await asyncio.sleep(0.01)
        stuck.free.set()
        while worker.overdue():
            await asyncio.sleep(0.01)
        stop.set()


async def test_what_is_carried_is_not_begun_again_when_it_is_told_once_more(house: House) -> None:
    """As whoever waited for it was cancelled: Dask does that with a task that it runs anew."""
    stuck = Stuck(house.mortal)
    house.stores._open["main"] = stuck  # type: ignore[assignment]
    job = await house.create(DELETE, EVERYTHING)
    stop = asyncio.Event()
    worker = Worker(WORKER, house.settings, house.database, house.stores, house.clock, dealt=True)
    divider = Divider(1, house.outside)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run(stop))
        waiting: list[asyncio.Task[None]] = []
        while not stuck.met.is_set():
            for lease in await deal(house, divider):
                waiting.append(asyncio.create_task(worker.carry(lease.shard, lease.attempt)))
            await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        (one,) = await house.outside.read(leases.leases)
        again = group.create_task(worker.carry(one.shard, one.attempt))
        await asyncio.wait({again}, timeout=1)
        assert len(worker._tasks) == 1
        stuck.free.set()
        while (await house.job(job))[0].complete_us is None:
            await deal(house, divider)
            await asyncio.sleep(0.01)
        stop.set()
    assert (await house.job(job))[1][0].succeeded == OBJECTS
