"""Jobs that find their buckets by themselves: found once, whatever crashes and whoever cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from longshore.database import jobs as statements
from longshore.database import lists
from longshore.database.tables import bucket_operations, shards
from longshore.patch import dump_map
from longshore.settings import ProjectSettings
from longshore.store import Bucket, NewObject
from tests.faults import Crash
from tests.filters import project_source
from tests.house import BUCKET, House

DELETE = ("delete_object", {"permanent": False})
HOLD = ("put_object_hold", {"temporary_hold": True})
NOWHERE = ("",)
"""The buckets of a new job that is to find them."""
LOGS = project_source(buckets="name.startsWith('dock-')", objects="name.endsWith('.log')")


@pytest.fixture(params=["memory", "local"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, request.param, batch=5)
    await house.open()
    yield house
    await house.close()


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "memory", batch=5)
    await house.open()
    yield house
    await house.close()


async def docks(house: House, count: int = 3, objects: int = 12) -> list[str]:
    """Buckets with as many logs as other objects."""
    names = [f"dock-{number}" for number in range(count)]
    for name in names:
        await house.store.create_bucket(Bucket(name=name, create_time_us=0))
    for name in (*names, BUCKET):
        files = [f"{n:03}.{kind}" for n in range(objects) for kind in ("log", "txt")]
        await house.store.write_objects(name, [NewObject(one, b"cargo") for one in files])
    return names


async def names_in(house: House, bucket: str) -> list[str]:
    return [name async for page in house.store.list_objects(bucket) for name in page.names]


async def parts(house: House, job: int) -> list[Any]:
    """The bucket operations that a user sees."""

    def read(connection: Any) -> Any:
        page = lists.Page(keys=[lists.Key(bucket_operations.c.position)], limit=10_000)
        return [one.row for one in lists.list_bucket_operations(connection, job, page).rows]

    return list(await house.outside.read(read))


async def every_part(house: House, job: int) -> list[str]:
    """The buckets of all rows, with those that nobody is shown."""
    columns = bucket_operations.c
    query = select(columns.bucket).where(columns.job == job).order_by(columns.id)
    return list(await house.outside.read(lambda c: c.execute(query).scalars().all()))


async def test_objects_of_several_buckets_are_chosen_by_filters(house: House) -> None:
    buckets = await docks(house)
    job = await house.create(DELETE, LOGS, buckets=NOWHERE)
    assert await parts(house, job) == []
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.multi_bucket) == ("SUCCEEDED", True)
    assert (counters.total, counters.succeeded, counters.bytes_found) == (36, 36, 0)
    for bucket in buckets:
        assert all(name.endswith(".txt") for name in await names_in(house, bucket))
    assert len(await names_in(house, BUCKET)) == 24
    found = await parts(house, job)
    assert [(one.bucket, one.state) for one in found] == [(one, "SUCCEEDED") for one in buckets]
    assert [one.total for one in found] == [12, 12, 12]
    assert await every_part(house, job) == buckets


async def test_one_bucket_makes_no_multi_bucket_job(house: House) -> None:
    await docks(house)
    source = project_source(buckets="name == 'dock-1'")
    job = await house.create(HOLD, source, buckets=NOWHERE)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.multi_bucket, counters.succeeded) == ("SUCCEEDED", False, 24)


async def test_no_bucket_makes_a_job_that_succeeds_with_nothing(house: House) -> None:
    await docks(house)
    source = project_source(buckets="name == 'elsewhere'")
    job = await house.create(DELETE, source, buckets=NOWHERE)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.total, await parts(house, job)) == ("SUCCEEDED", 0, [])


async def test_more_than_a_thousand_buckets_end_the_job(memory: House) -> None:
    for number in range(1001):
        await memory.store.create_bucket(Bucket(name=f"dock-{number:04}", create_time_us=0))
    job = await memory.create(DELETE, LOGS, buckets=NOWHERE)
    assert await memory.run(job)
    row, _ = await memory.job(job)
    assert (row.state, row.error_code) == ("FAILED", "INVALID_ARGUMENT")
    assert "more than 1000 buckets" in row.error_message
    assert await parts(memory, job) == []

    async def cancel(boundary: str) -> None:
        if boundary == "after finish_search":
            await memory.cancel(job)

    await memory.store.delete_bucket("dock-0500")
    memory.fate.at_boundary = cancel
    job = await memory.create(DELETE, LOGS, buckets=NOWHERE)
    assert await memory.run(job)
    row, _ = await memory.job(job)
    assert (row.state, len(await parts(memory, job))) == ("CANCELED", 1000)


async def test_only_buckets_that_the_project_may_use_are_found(house: House) -> None:
    await docks(house)
    rules = {"p": ProjectSettings(buckets=("dock-[12]",)), "q": ProjectSettings()}
    house.settings = replace(house.settings, projects=rules)
    job = await house.create(DELETE, project_source(), buckets=NOWHERE)
    assert await house.run(job)
    assert [one.bucket for one in await parts(house, job)] == ["dock-1", "dock-2"]
    assert len(await names_in(house, "dock-0")) == 24


async def test_buckets_by_what_their_store_knows_of_them(memory: House) -> None:
    known = {"location": "EUROPE-WEST1", "labels": dump_map({"env": "prod"})}
    await memory.store.create_bucket(Bucket(name="a", create_time_us=0, **known))
    await memory.store.create_bucket(Bucket(name="b", create_time_us=0, location="US"))
    await memory.store.create_bucket(Bucket(name="c", create_time_us=0, autoclass=True))
    for source, expected in (
        (project_source(locations=("europe-west1",)), ["a"]),
        (project_source(locations=("us", "EUROPE-WEST1")), ["a", "b"]),
        (project_source(buckets="labels.exists(l, l.key == 'env' && l.value == 'prod')"), ["a"]),
        (project_source(buckets="location != 'US'"), ["a"]),
        (project_source(buckets="!(location == 'US')"), ["a"]),
        (project_source(buckets="!autoclass.enabled"), ["a", "b", BUCKET]),
        (project_source(buckets="softDeletePolicy.retentionDurationSeconds < 100"), []),
        (project_source(buckets="timeCreated > timestamp('2020-01-01T00:00:00Z')"), None),
    ):
        job = await memory.create(HOLD, source, buckets=NOWHERE)
        assert await memory.run(job)
        found = [one.bucket for one in await parts(memory, job)]
        assert found == (["a", "b", "c", BUCKET] if expected is None else expected)


@pytest.mark.parametrize(
    ("where", "left"), [("claim", 1), ("finish_search", 1), ("finish_plan", 1), ("finish_plan", 2)]
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_anywhere_makes_each_bucket_operation_once(
    memory: House, when: str, where: str, left: int
) -> None:
    await docks(memory, objects=2)

    async def die(boundary: str) -> None:
        nonlocal left
        left -= boundary == f"{when} {where}" and left > 0
        if left == 0:
            memory.fate.at_boundary = None
            memory.fate.dead = True
            raise Crash(boundary)

    memory.fate.at_boundary = die
    job = await memory.create(HOLD, LOGS, buckets=NOWHERE)
    await memory.run(job)  # unless what dies has been the last to do its part, it does not end
    assert left == 0
    assert await memory.run(job)
    row, (counters, _) = await memory.job(job)
    assert (row.state, row.multi_bucket, counters.total) == ("SUCCEEDED", True, 6)
    assert await every_part(memory, job) == ["dock-0", "dock-1", "dock-2"]


@pytest.mark.parametrize("where", ["before finish_search", "after finish_search"])
async def test_a_job_can_be_cancelled_while_it_looks_for_buckets(memory: House, where: str) -> None:
    await docks(memory)

    async def cancel(boundary: str) -> None:
        if boundary == where:
            await memory.cancel(job)

    memory.fate.at_boundary = cancel
    job = await memory.create(DELETE, LOGS, buckets=NOWHERE)
    assert await memory.run(job)
    row, _ = await memory.job(job)
    assert (row.state, row.error_code) == ("CANCELED", "CANCELLED")
    assert len(await parts(memory, job)) == (0 if where.startswith("before") else 3)


async def test_a_job_can_be_cancelled_before_and_deleted_after_it_looks(memory: House) -> None:
    job = await memory.create(DELETE, LOGS, buckets=NOWHERE)
    await memory.cancel(job)
    row, _ = await memory.job(job) if await memory.run(job) else (None, None)
    assert row.state == "CANCELED"
    await memory.outside.write(statements.delete_job, row, 9)
    assert await every_part(memory, job) == []


async def no_end_of_buckets(begun: Callable[[], Awaitable[None]]) -> AsyncIterator[Bucket]:
    """A listing that ends when nobody reads it any more."""
    await begun()
    while True:
        await asyncio.sleep(0)
        yield Bucket(name="elsewhere", create_time_us=0)


async def test_a_search_hears_a_cancel_and_that_its_worker_drains(memory: House) -> None:
    await docks(memory)

    async def drain() -> None:
        memory.stop.set()

    memory.mortal.list_buckets = lambda: no_end_of_buckets(drain)  # type: ignore[method-assign]
    job = await memory.create(DELETE, LOGS, buckets=NOWHERE)
    assert not await memory.run(job)
    query = select(shards.c.owner, shards.c.state)
    rows = await memory.outside.read(lambda c: c.execute(query).all())
    assert rows == [(None, "RUNNING")]

    memory.mortal.list_buckets = lambda: no_end_of_buckets(  # type: ignore[method-assign]
        lambda: memory.cancel(job)
    )
    assert await memory.run(job)
    row, _ = await memory.job(job)
    assert row.state == "CANCELED"
    assert await every_part(memory, job) == [""]


async def test_a_filter_that_lets_nothing_through_moves_the_cursor(memory: House) -> None:
    """So that its lease and its progress do not wait for something to be found."""
    await memory.store.create_bucket(Bucket(name="dock-0", create_time_us=0))
    objects = [NewObject(f"{number:05}", b"") for number in range(3500)]
    await memory.store.write_objects("dock-0", objects)
    cursors = set()

    async def look(boundary: str) -> None:
        if boundary == "after checkpoint":
            query = select(shards.c.cursor)
            for cursor in await memory.outside.read(lambda c: c.execute(query).scalars().all()):
                cursors.add(cursor["after"])

    memory.fate.at_boundary = look
    source = project_source(buckets="name == 'dock-0'", objects="size > 0")
    job = await memory.create(DELETE, source, buckets=NOWHERE)
    assert await memory.run(job)
    _, (counters, _) = await memory.job(job)
    assert counters.total == 0
    assert cursors >= {"00999", "01999", "02999", "03499"}


async def test_a_crash_between_the_batches_of_one_page_repeats_nothing(memory: House) -> None:
    await docks(memory, 1, objects=40)
    deaths = 0

    async def die(boundary: str) -> None:
        nonlocal deaths
        if boundary == "after delete_objects" and deaths < 6:
            deaths += 1
            memory.fate.dead = True
            raise Crash(boundary)

    memory.fate.at_boundary = die
    job = await memory.create(DELETE, LOGS, buckets=NOWHERE)
    for _ in range(6):
        assert not await memory.run(job)
    assert await memory.run(job)
    _, (counters, _) = await memory.job(job)
    assert (counters.total, counters.succeeded, counters.failed) == (40, 40, 0)
    assert len({one["name"] for one in memory.mortal.journal}) == len(memory.mortal.journal) == 40


async def test_noncurrent_versions_are_never_chosen(house: House) -> None:
    await house.store.create_bucket(Bucket(name="dock-0", create_time_us=0, versioning=True))
    for content in (b"1", b"22"):
        await house.store.write_objects("dock-0", [NewObject("a.log", content)])
    job = await house.create(("delete_object", {"permanent": True}), LOGS, buckets=NOWHERE)
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert (counters.succeeded, counters.bytes_transformed) == (1, 2)
    pages = house.store.list_objects("dock-0", versions=True)
    assert [size async for page in pages for size in page.sizes] == [1]


async def test_a_dry_run_counts_what_the_filters_let_through(house: House) -> None:
    await docks(house)
    job = await house.create(DELETE, LOGS, buckets=NOWHERE, dry_run=True)
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert (counters.total, counters.succeeded) == (36, 0)
    assert house.mortal.journal == []
