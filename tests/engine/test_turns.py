"""Who is served next: a small job never waits for a large one, and all go on side by side."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import event, select

from longshore.clock import SYSTEM_CLOCK
from longshore.database import leases, shards
from longshore.database import tables as t
from longshore.engine import worker as worker_module
from longshore.engine.worker import Worker
from longshore.model import State
from longshore.store import Bucket, NewObject
from tests.house import BUCKET, House

HOLD = ("put_object_hold", {"temporary_hold": True})


def prefixes(number: int, name: str = "") -> tuple[str, dict[str, Any]]:
    return "prefix_list", {"prefixes": [f"{name}{n:03d}/" for n in range(number)]}


async def _planned(house: House, ranges: int) -> int:
    """A job whose shards are all free."""
    job = await house.create(HOLD, prefixes(ranges))
    taken = await house.outside.write(leases.claim, "planner", {"main": 1}, 1, 1)
    (planning,) = [shard for shard in taken if shard.job == job]
    new = [{"prefix": f"{n:03d}/", "after": "", "before": None} for n in range(ranges)]
    await house.outside.write(shards.finish_plan, planning, new, "main", 1)
    await house.outside.write(leases.release, "planner")
    return job


async def _claim(house: House, owner: str, carried: dict[Any, int], at_once: int) -> list[int]:
    taken = await house.outside.write(leases.claim, owner, carried, at_once, 1)
    return [shard.job for shard in taken]


async def test_a_job_that_nobody_carries_comes_first(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    large = await _planned(house, 30)
    assert await _claim(house, "a", {}, 4) == [large] * 4
    small = await _planned(house, 1)
    other = await _planned(house, 3)
    # By then the first worker has four of the large job: the others catch up before it gets more.
    assert Counter(await _claim(house, "b", {}, 4)) == {small: 1, other: 3}
    await house.close()


async def test_a_full_worker_hears_of_jobs_that_nobody_carries(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    await _planned(house, 6)
    await _claim(house, "a", {}, 4)
    full = {"main": 4}
    news = await house.outside.read(leases.poll, full, 4)
    assert (news.free, news.starved) == (False, ())  # what waits is more of the same job
    await _planned(house, 2)
    news = await house.outside.read(leases.poll, full, 4)
    assert (news.free, news.starved) == (False, ("main",))
    news = await house.outside.read(leases.poll, {"main": 3}, 4)
    assert (news.free, news.starved) == (True, ())
    await house.close()


async def test_of_what_waits_equally_the_least_served_comes_first(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    first = await _planned(house, 1)
    second = await _planned(house, 1)
    # The planning was a turn, too; each further one sends a job behind the other.
    order = []
    for _ in range(4):
        order += await _claim(house, "a", {}, 1)
        await house.outside.write(leases.release, "a")
    assert order == [first, second, first, second]
    await house.close()


async def test_many_jobs_go_on_side_by_side(tmp_path: Path, monkeypatch: Any) -> None:
    """One worker with room for two shards, and six jobs: each has progress long before any ends."""
    monkeypatch.setattr(worker_module, "TURN_SECONDS", 0.05)
    house = House(tmp_path, batch=2)
    await house.open()
    for number in range(60):
        await house.write(f"000/{number:03d}")
    jobs = [await house.create(HOLD, prefixes(1)) for _ in range(6)]
    narrow = replace(house.settings, shards_at_once=2)
    worker = Worker("w", narrow, house.outside, house.stores, house.clock)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    ended: dict[int, int] = {}
    seen: dict[int, int] = {}
    while len(ended) < len(jobs):
        for job in jobs:
            row, (counters, _) = await house.job(job)
            seen[job] = counters.total
            if not State(row.state).open and job not in ended:
                ended[job] = min(seen.values()) if len(seen) == len(jobs) else 0
        await asyncio.sleep(0.002)
    stop.set()
    await running
    assert min(ended.values()) > 0, "a job ended before another had begun"
    states = select(t.jobs.c.state)
    found = await house.outside.read(lambda one: one.execute(states).scalars().all())
    assert set(found) == {"SUCCEEDED"}
    await house.close()


async def test_an_idle_worker_writes_nothing_where_nothing_runs(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.0)
    house = House(tmp_path)
    await house.open()
    begun: Counter[str] = Counter()
    for kind, kept in (("read", house.outside._reader), ("write", house.outside._writer)):
        event.listen(kept.engine, "begin", lambda _, kind=kind: begun.update([kind]))
    stop = asyncio.Event()
    worker = Worker("w", house.settings, house.outside, house.stores, house.clock)
    running = asyncio.create_task(worker.run(stop))
    while begun["read"] < 40 and not running.done():
        await asyncio.sleep(0.002)
    stop.set()
    await running
    assert begun["write"] == 0
    await house.close()


async def test_an_idle_worker_gets_half_of_what_another_has_left(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.0)
    house = House(tmp_path, batch=50)  # 1,000 objects a second: it lasts until both have been seen
    await house.open()
    new = [NewObject(name=f"000/{number:06d}", content=b"") for number in range(30_000)]
    await house.store.write_objects(BUCKET, new)
    job = await house.create(HOLD, prefixes(1))
    workers = [
        Worker(f"w{n}", house.settings, house.outside, house.stores, SYSTEM_CLOCK) for n in range(2)
    ]
    stop = asyncio.Event()
    running = [asyncio.create_task(one.run(stop)) for one in workers]
    owners: set[str] = set()
    carried = select(t.shards.c.owner).where(t.shards.c.owner.is_not(None))
    while owners != {"w0", "w1"}:
        assert State((await house.job(job))[0].state).open, "nobody took a half"
        owners |= set(await house.outside.read(lambda one: one.execute(carried).scalars().all()))
        await asyncio.sleep(0.02)
    await house.cancel(job)
    while State((row := (await house.job(job))[0]).state).open:
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*running)
    counters = (await house.job(job))[1][0]
    held = house.store.list_objects(BUCKET, columns=("temporary_hold",))
    done = sum([sum(page.columns["temporary_hold"]) async for page in held])
    assert row.state == "CANCELED"
    assert (counters.succeeded, counters.failed) == (done, 0)
    await house.close()


async def test_planning_many_buckets_fills_no_more_places_than_there_are(tmp_path: Path) -> None:
    house = House(tmp_path, batch=2)
    await house.open()
    buckets = tuple(f"bucket-{number}" for number in range(12))
    for bucket in buckets:
        await house.store.create_bucket(Bucket(name=bucket, create_time_us=0))
        new = [NewObject(name=f"000/{number}", content=b"") for number in range(40)]
        await house.store.write_objects(bucket, new)
    job = await house.create(HOLD, prefixes(1), buckets=buckets)
    narrow = replace(house.settings, shards_at_once=3)
    worker = Worker("w", narrow, house.outside, house.stores, house.clock)
    stop, most = asyncio.Event(), 0
    running = asyncio.create_task(worker.run(stop))
    while State((row := (await house.job(job))[0]).state).open:
        most = max(most, sum(one.store == "main" for one in worker._running.values()))
        await asyncio.sleep(0.002)
    stop.set()
    await running
    assert (row.state, most) == ("SUCCEEDED", 3)
    await house.close()
