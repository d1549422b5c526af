"""The API's statements, one behaviour per test; on the database that ``--database`` says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from longshore.database import Database, jobs, leases, lists, shards
from longshore.database.jobs import REQUEST_MEMORY_US, Request
from longshore.database.lists import Key, Page
from longshore.database.tables import bucket_operations, requests
from longshore.database.tables import jobs as table
from longshore.database.tables import shards as shard_table
from longshore.errors import InvalidArgument
from longshore.model import Code, Counters, ErrorSummary, State
from tests.database.rows import announcement, claim, create, new_job, row, running, states

REQUEST = Request("p", "CreateJob", "r-1", b"\0content")


async def ended(database: Database, job_id: str = "j", **counters: int) -> int:
    (shard,) = await running(database, job_id=job_id)
    await database.write(shards.finish, shard, Counters(**counters), {}, State.SUCCEEDED, 9)
    return shard.job


async def test_create_job_writes_all_that_the_engine_needs(database: Database) -> None:
    job = await create(database, new_job(buckets=("b-1", "b-2")), 7)
    written = await row(database, table, job)
    assert (written.state, written.create_us, written.multi_bucket) == ("QUEUED", 7, True)
    assert (written.message, written.log_states) == (b"\0as its creator set it", ["FAILED"])
    assert await states(database) == (["QUEUED"], ["QUEUED"] * 2, ["QUEUED"] * 2)


async def test_create_job_of_a_name_that_is_taken(database: Database) -> None:
    await create(database)
    again = [database.write(jobs.create_job, new_job(), 1) for _ in range(3)]
    assert await asyncio.gather(*again) == [None] * 3
    assert await states(database) == (["QUEUED"], ["QUEUED"], ["QUEUED"])


async def test_of_those_who_create_one_job_at_once_one_does(database: Database) -> None:
    made = [database.write(jobs.create_job, new_job(), 1) for _ in range(5)]
    assert (await asyncio.gather(*made)).count(None) == 4
    assert await states(database) == (["QUEUED"], ["QUEUED"], ["QUEUED"])


async def test_create_job_gives_the_row_as_it_is(database: Database) -> None:
    counted = await database.write(jobs.create_job, new_job(buckets=("a", "b")), 5)
    assert counted is not None
    written = await row(database, table, counted.row.id)
    given = {name: getattr(counted.row, name) for name in written._mapping}
    assert given == dict(written._mapping)


async def test_a_row_that_is_there_already_is_a_mistake(database: Database) -> None:
    """Nobody writes such a one without looking, so to try it again is of no use for ever."""
    request = jobs.Request("p", "m", "r", b"f")
    await database.write(jobs.remember, request, 1, 1)
    with pytest.raises(IntegrityError):
        await database.write(jobs.remember, request, 1, 1)


async def test_a_name_is_free_again_after_delete(database: Database) -> None:
    job = await ended(database)
    await database.write(jobs.delete_job, await row(database, table, job), 10)
    assert await create(database) != job


async def test_ids_are_never_used_twice(database: Database) -> None:
    job = await ended(database)
    last = await row(database, shard_table, (await shard_ids(database))[-1])
    await database.write(jobs.delete_job, await row(database, table, job), 10)
    await database.write(jobs.delete_operation, await row(database, table, job), 11)
    assert await create(database) > job
    assert min(await shard_ids(database)) > last.id


async def shard_ids(database: Database) -> list[int]:
    def read(connection: Connection) -> list[int]:
        return list(connection.scalars(select(shard_table.c.id).order_by(shard_table.c.id)))

    return await database.read(read)


async def test_cancel_job_ends_what_has_not_begun(database: Database) -> None:
    job = await create(database)
    await database.write(jobs.cancel_job, job, 5)
    assert await states(database) == (["CANCELED"], ["CANCELED"], ["CANCELED"])
    written = await row(database, table, job)
    assert (written.cancel_us, written.complete_us, written.error_code) == (5, 5, "CANCELLED")


async def test_cancel_job_leaves_what_runs_to_the_engine(database: Database) -> None:
    (first, _second) = await running(database, 2)
    await database.write(shards.checkpoint, first, Counters(), {}, announcement(1, b"i"), 4)
    await database.write(leases.release)
    await database.write(jobs.cancel_job, first.job, 5)
    assert await states(database) == (["RUNNING"], ["RUNNING"], ["RUNNING", "CANCELED"])
    (settled,) = await claim(database, "v")
    assert settled.id == first.id


async def test_cancel_job_again_changes_nothing(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(jobs.cancel_job, shard.job, 5)
    await database.write(jobs.cancel_job, shard.job, 6)
    assert (await row(database, table)).cancel_us == 5


async def test_cancel_job_of_an_ended_one_changes_nothing(database: Database) -> None:
    job = await ended(database)
    before = await row(database, table, job)
    await database.write(jobs.cancel_job, job, 10)
    assert await row(database, table, job) == before


async def test_delete_job_keeps_its_row_for_the_operation(database: Database) -> None:
    job = await ended(database, succeeded=3, total=3)
    await database.write(jobs.delete_job, await row(database, table, job), 10)
    kept = await row(database, table, job)
    assert (kept.job_delete_us, kept.succeeded) == (10, 3)
    assert await database.read(jobs.find_job, "p", "j") is None
    assert await database.read(jobs.find_operation, "p", kept.operation_id) == kept
    assert await database.read(jobs.job_by_row_id, job) == kept
    assert (await states(database))[1:] == ([], [])


@pytest.mark.parametrize(
    "order", [(jobs.delete_job, jobs.delete_operation), (jobs.delete_operation, jobs.delete_job)]
)
async def test_the_row_goes_with_the_second_of_job_and_operation(
    database: Database, order: tuple[Any, Any]
) -> None:
    job = await ended(database)
    first, second = order
    await database.write(first, await row(database, table, job), 10)
    kept = await row(database, table, job)
    await database.write(second, kept, 11)
    assert await database.read(jobs.job_by_row_id, job) is None


async def test_delete_operation_hides_it_and_keeps_the_job(database: Database) -> None:
    job = await ended(database)
    before = await row(database, table, job)
    await database.write(jobs.delete_operation, before, 10)
    assert await database.read(jobs.find_operation, "p", before.operation_id) is None
    assert await database.read(jobs.find_job, "p", "j") is not None


async def test_find_is_by_project_and_exact_name(database: Database) -> None:
    await create(database, new_job("Straße"))
    assert await database.read(jobs.find_job, "p", "Straße") is not None
    for name in (("q", "Straße"), ("p", "straße"), ("p", "Strasse"), ("p", "Straße ")):
        assert await database.read(jobs.find_job, *name) is None


async def test_find_bucket_operation_is_by_its_job(database: Database) -> None:
    job = await create(database)
    part = await row(database, bucket_operations)
    assert await database.read(jobs.find_bucket_operation, job, part.bucket_operation_id) == part
    assert await database.read(jobs.find_bucket_operation, 0, part.bucket_operation_id) is None


async def test_a_locked_find_gives_the_same_row(database: Database) -> None:
    job = await create(database)
    found = await row(database, table, job)

    def find(connection: Connection) -> Any:
        by_operation = jobs.find_operation(connection, "p", found.operation_id, lock=True)
        return jobs.find_job(connection, "p", "j", lock=True), by_operation

    assert await database.write(find) == (found, found)


async def test_lists_are_in_the_order_of_bytes(database: Database) -> None:
    names = ["a", "B", "z", "Z", "é", "-", "_", "a-b", "ab", "a_b"]
    for name in names:
        await create(database, new_job(name))
    page = Page(keys=[Key(table.c.job_id)], limit=100)
    listed = await database.read(lists.list_jobs, "p", page)
    assert [one.row.job_id for one in listed.rows] == sorted(names, key=lambda name: name.encode())


async def test_lists_have_counters_of_open_and_of_ended_jobs(database: Database) -> None:
    await ended(database, "a", total=2, succeeded=2)
    (shard,) = await running(database, job_id="b")
    errors = {Code.ABORTED: ErrorSummary(code=Code.ABORTED, count=1, samples=(("o", "m"),))}
    done = Counters(total=3, succeeded=2, failed=1)
    await database.write(shards.checkpoint, shard, done, errors, announcement(4), 4)
    page = Page(keys=[Key(table.c.job_id)], limit=100)
    for listing in (lists.list_jobs, lists.list_operations):
        first, second = (await database.read(listing, "p", page)).rows
        assert (first.counters.total, first.errors) == (2, {})
        assert (second.counters.total, second.counters.failed) == (7, 1)
        assert second.errors == errors
    ((part,), _) = await database.read(
        lists.list_bucket_operations, shard.job, Page(keys=[Key(bucket_operations.c.id)], limit=100)
    )
    assert (part.counters, part.errors) == (second.counters, errors)


async def test_lists_by_counters_compare_sums(database: Database) -> None:
    await ended(database, "a", total=2, succeeded=2)
    (shard,) = await running(database, job_id="b")
    await database.write(shards.checkpoint, shard, Counters(total=5), {}, announcement(), 4)
    await create(database, new_job("c"))
    total = lists.current_value(table, "total")
    for condition, names in ((total > 2, ["b"]), (total == 0, ["c"]), (total <= 2, ["a", "c"])):
        page = Page(keys=[Key(table.c.job_id)], limit=100, rest=condition, counts=True)
        listed = await database.read(lists.list_jobs, "p", page)
        assert [one.row.job_id for one in listed.rows] == names


@pytest.mark.parametrize("counts", [False, True])
async def test_a_page_ends_before_too_many_running_shards(
    database: Database, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    """To sum five hundred thousand for a page would take a second."""
    monkeypatch.setattr(lists, "RUNNING_AT_ONCE", 5)
    for name, many in (("a", 2), ("b", 3), ("c", 1), ("d", 7), ("e", 1), ("g", 6)):
        await running(database, many, job_id=name)
    await ended(database, "f")
    await create(database, new_job("h"))
    keys = [Key(table.c.job_id), Key(table.c.id)]
    condition = lists.current_value(table, "total") >= 0 if counts else None
    pages: list[str] = []
    after = None
    while after is not None or not pages:
        page = Page(keys=keys, limit=100, after=after, rest=condition, counts=counts)
        rows, after = await database.read(lists.list_jobs, "p", page)
        pages.append("".join(one.row.job_id for one in rows))
    assert "".join(pages) == "abcdefgh"
    assert pages[:3] == ["ab", "c", "d"]
    assert pages[3][0] == "e"
    assert "g" not in pages[3]


async def test_a_list_has_no_deleted_ones(database: Database) -> None:
    job = await ended(database)
    page = Page(keys=[Key(table.c.job_id)], limit=100)
    await database.write(jobs.delete_job, await row(database, table, job), 10)
    assert await database.read(lists.list_jobs, "p", page) == ([], None)
    assert len((await database.read(lists.list_operations, "p", page)).rows) == 1


async def test_existing_shards_are_those_of_jobs_not_deleted(database: Database) -> None:
    job = await ended(database)
    (shard,) = await running(database, job_id="k")
    ids = await shard_ids(database)
    assert await database.read(jobs.existing_shards, [*ids, 10**9]) == set(ids)
    await database.write(jobs.delete_job, await row(database, table, job), 10)
    assert shard.id in await database.read(jobs.existing_shards, [*ids, 10**9])
    assert await database.read(jobs.existing_shards, list(range(3_000))) == {shard.id}


async def test_a_request_is_remembered_with_its_content(database: Database) -> None:
    assert await database.write(jobs.replayed, REQUEST) is None
    await database.write(jobs.remember, REQUEST, 17, 1)
    first = await database.write(jobs.replayed, REQUEST)
    assert first is not None
    assert first.job == 17
    with pytest.raises(InvalidArgument):
        await database.write(jobs.replayed, REQUEST._replace(fingerprint=b"other"))
    for other in ({"project": "q"}, {"method": "CancelJob"}, {"request_id": "r-2"}):
        assert await database.write(jobs.replayed, REQUEST._replace(**other)) is None


async def test_old_requests_are_forgotten(database: Database) -> None:
    await database.write(jobs.remember, REQUEST, 17, 1)
    later = REQUEST._replace(request_id="r-2")
    await database.write(jobs.remember, later, 18, 2 + REQUEST_MEMORY_US)
    assert (await row(database, requests)).request_id == "r-2"
