"""How wholes begin and end, and what is counted for them."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import Connection, update

from longshore.database import Database, rollup, shards
from longshore.database import jobs as job_statements
from longshore.database.tables import bucket_operations, jobs
from longshore.database.tables import shards as table
from longshore.errors import Internal
from longshore.model import Code, Counters, ErrorSummary, State
from tests.database.rows import announcement, claim, create, row, running, states

ENDS = (State.SUCCEEDED, State.FAILED, State.CANCELED)


async def test_counters_are_sums_over_shards_with_the_first_samples(database: Database) -> None:
    first, second = await running(database, 2)
    for number, shard in enumerate((first, second)):
        samples = tuple((f"gs://b/{number}-{one}", "no") for one in range(4))
        errors = {Code.NOT_FOUND: ErrorSummary(code=Code.NOT_FOUND, count=4, samples=samples)}
        done = Counters(total=6, succeeded=2, failed=4, bytes_found=1 << 50)
        await database.write(shards.checkpoint, shard, done, errors, announcement(), 4)
    for read, key in (
        (rollup.counters_of_jobs, first.job),
        (rollup.counters_of_bucket_operations, first.bucket_operation),
    ):
        ((counters, merged),) = (await database.read(read, [key])).values()
        assert counters == Counters(total=12, succeeded=4, failed=8, bytes_found=1 << 51)
        assert merged[Code.NOT_FOUND].count == 8
        assert len(merged[Code.NOT_FOUND].samples) == 5


async def test_what_a_shard_counted_stays_counted_once_when_it_ends(database: Database) -> None:
    """However it does: by itself, or with its job while nobody carries it."""
    ids = await running(database, 4)
    job, part = ids[0].job, ids[0].bucket_operation
    done = Counters(total=6, succeeded=2, failed=4, bytes_found=1 << 50)
    samples = tuple((f"gs://b/{number}", "no") for number in range(4))
    errors = {Code.NOT_FOUND: ErrorSummary(code=Code.NOT_FOUND, count=4, samples=samples)}
    reads = ((rollup.counters_of_jobs, job), (rollup.counters_of_bucket_operations, part))

    async def check(times: int) -> None:
        for read, key in reads:
            ((counters, merged),) = (await database.read(read, [key])).values()
            assert (counters.total, counters.failed) == (6 * times, 4 * times)
            assert counters.bytes_found == times << 50
            assert merged[Code.NOT_FOUND].count == 4 * times
            assert len(merged[Code.NOT_FOUND].samples) == min(5, 4 * times)

    for number, shard in enumerate(ids[:3], 1):
        await database.write(shards.checkpoint, shard, done, errors, announcement(), 4)
        await check(number)
    await database.write(shards.finish, ids[0], done, errors, State.SUCCEEDED, 5)
    await database.write(shards.finish, ids[1], done, errors, State.FAILED, 5, Internal("no"))
    assert (await row(database, bucket_operations)).total == 12
    await database.write(shards.hand_back, ids[2], done, errors)
    await check(3)
    await database.write(job_statements.cancel_job, job, 6)
    await check(3)
    await database.write(shards.finish, ids[3], done, errors, State.CANCELED, 7)
    await check(4)
    for table_ in (jobs, bucket_operations):
        ended = await row(database, table_)
        assert (ended.state, ended.total, ended.failed) == ("CANCELED", 24, 16)
        assert ended.errors["NOT_FOUND"]["count"] == 16


async def test_what_failed_is_summed_up_when_a_shard_is_handed_back(database: Database) -> None:
    """Of the shards that have begun and that nobody carries, no summaries are to be added up."""
    (shard,) = await running(database)
    for times in range(1, 4):
        samples = tuple((f"gs://b/{times}-{number}", "no") for number in range(2))
        errors = {Code.NOT_FOUND: ErrorSummary(code=Code.NOT_FOUND, count=2, samples=samples)}
        done = Counters(total=2 * times, failed=2 * times)
        await database.write(shards.checkpoint, shard, done, errors, announcement(), 4)
        await database.write(shards.hand_back, shard, done, errors)
        assert (await row(database, table, shard.id)).errors is None
        ((counters, merged),) = (await database.read(rollup.counters_of_jobs, [shard.job])).values()
        assert (counters.failed, merged[Code.NOT_FOUND].count) == (2 * times, 2 * times)
        assert len(merged[Code.NOT_FOUND].samples) == min(5, 2 * times)
        (shard,) = await claim(database, "w")
        assert (shard.counters, shard.errors) == (done, {})
    await database.write(shards.finish, shard, done, {}, State.SUCCEEDED, 5)
    for table_ in (jobs, bucket_operations):
        ended = await row(database, table_)
        assert (ended.failed, ended.errors["NOT_FOUND"]["count"]) == (6, 6)


async def test_counters_of_nothing_are_none(database: Database) -> None:
    assert await database.read(rollup.counters_of_jobs, [99]) == {}


async def test_begin_lets_run_what_is_queued_alone(database: Database) -> None:
    job = await create(database)
    part = (await row(database, bucket_operations)).id
    for now_us in (5, 6):
        await database.write(rollup.begin, {job}, {part}, now_us)
    assert (await row(database, jobs)).schedule_us == 5
    assert (await row(database, bucket_operations)).start_us == 5


@pytest.mark.parametrize("ends", list(itertools.combinations_with_replacement(ENDS, 2)))
async def test_a_whole_ends_as_its_parts_have(
    database: Database, ends: tuple[State, State]
) -> None:
    for end, shard in zip(ends, await running(database, buckets=("b-1", "b-2")), strict=True):
        error = Internal("broken") if end is State.FAILED else None
        await database.write(shards.finish, shard, Counters(total=1), {}, end, 9, error)
    worst = max(ends, key=ENDS.index)
    (job,), parts, _ = await states(database)
    assert (job, parts) == (worst.value, [end.value for end in ends])
    whole = await row(database, jobs)
    code = {"SUCCEEDED": None, "FAILED": "INTERNAL", "CANCELED": "CANCELLED"}[worst.value]
    assert (whole.error_code, whole.total, whole.complete_us) == (code, 2, 9)


async def test_an_open_shard_keeps_the_whole_open(database: Database) -> None:
    first, _second = await running(database, 2)
    await database.write(shards.finish, first, Counters(), {}, State.FAILED, 9, Internal("no"))
    assert (await states(database))[:2] == (["RUNNING"], ["RUNNING"])


async def test_an_illegal_end_changes_nothing(database: Database) -> None:
    """A bucket operation that never began can't have succeeded."""
    job = await create(database)

    def end(connection: Connection) -> None:
        rollup.lock_job(connection, job)
        connection.execute(update(table).values(state="SUCCEEDED"))
        rollup.roll_up(connection, job, 9)

    with pytest.raises(Internal):
        await database.write(end)
    assert await states(database) == (["QUEUED"], ["QUEUED"], ["QUEUED"])
