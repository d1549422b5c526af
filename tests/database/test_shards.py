"""The engine's statements, one behaviour per test; on the database that ``--database`` says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from longshore.database import Database, census, leases, retention, shards
from longshore.database import jobs as job_statements
from longshore.database.shards import Answer, LeaseLost
from longshore.database.tables import bucket_operations, jobs
from longshore.database.tables import shards as table
from longshore.errors import Code, Internal, NotFound
from longshore.model import Counters, ErrorSummary, Shard, State
from tests.database.rows import announcement, claim, create, new_job, plan, row, running, states

Checkpoint = Callable[..., Awaitable[Any]]


def _thorough(database: Database, *args: Any) -> Awaitable[Any]:
    return database.write(shards.checkpoint, *args)


def _quick(database: Database, *args: Any) -> Awaitable[Any]:
    return database.jot(shards.quick_checkpoint, shards.checkpoint, *args)


either_way = pytest.mark.parametrize("checkpoint", [_thorough, _quick], ids=["thorough", "quick"])


async def test_poll_sees_a_free_shard_and_no_cancelled_job(database: Database) -> None:
    assert await database.read(leases.poll, {}, 4) == (frozenset(), False, ())
    await create(database)
    assert await database.read(leases.poll, {}, 4) == (frozenset(), True, ())


async def test_poll_sees_nothing_for_who_carries_enough(database: Database) -> None:
    await create(database)
    assert not (await database.read(leases.poll, {None: 4}, 4)).free
    (planning,) = await claim(database)
    await plan(database, planning, 2)
    assert not (await database.read(leases.poll, {"main": 4}, 4)).free
    assert (await database.read(leases.poll, {"other": 4, None: 4}, 4)).free


async def test_poll_sees_a_cancelled_job_until_it_has_ended(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(job_statements.cancel_job, shard.job, 4)
    assert (await database.read(leases.poll, {}, 4)).cancelled == {shard.job}
    await database.write(shards.finish, shard, Counters(), {}, State.SUCCEEDED, 5)
    assert (await database.read(leases.poll, {}, 4)).cancelled == frozenset()


async def test_claim_gives_all_that_is_needed_to_carry_a_shard(database: Database) -> None:
    await create(database, new_job("job-1", project="yard", buckets=("b-1",)))
    (planning,) = await claim(database)
    assert (planning.range, planning.store, planning.attempt) == (None, None, 1)
    await plan(database, planning, store="north")
    await database.write(leases.release)
    (shard,) = await claim(database)
    assert (shard.project, shard.job_id, shard.bucket) == ("yard", "job-1", "b-1")
    assert (shard.source, shard.transformation) == (
        ("prefix_list", {"prefixes": ["d/"]}),
        ("delete_object", {"permanent": True}),
    )
    assert (shard.range, shard.store, shard.cursor) == ({"after": "0"}, "north", {})
    assert (shard.dry_run, shard.log_states) == (False, {"FAILED"})
    assert (shard.counters, shard.errors, shard.intent) == (Counters(), {}, None)


async def test_claim_starts_job_and_bucket_operation_once(database: Database) -> None:
    job = await create(database, new_job(buckets=("b-1", "b-2")))
    (first,) = await database.write(leases.claim, "w", {}, 1, 10)
    assert await states(database) == (["RUNNING"], ["RUNNING", "QUEUED"], ["RUNNING", "QUEUED"])
    await database.write(leases.claim, "v", {}, 1, 20)
    assert (await row(database, jobs, job)).schedule_us == 10
    assert (await row(database, bucket_operations, first.bucket_operation)).start_us == 10
    assert await states(database) == (["RUNNING"], ["RUNNING"] * 2, ["RUNNING"] * 2)


async def test_claim_takes_the_oldest_and_no_more_than_asked(database: Database) -> None:
    leased = await running(database, 5)
    await database.write(leases.release, "w")
    taken = await database.write(leases.claim, "v", {"main": 1}, 4, 4)
    assert [shard.id for shard in taken] == sorted(shard.id for shard in leased)[:3]


async def test_claim_counts_each_store_and_planning_apart(database: Database) -> None:
    await create(database, new_job("a", buckets=("b-1", "b-2")))
    north, south = await claim(database)
    await plan(database, north, 3, "north")
    await plan(database, south, 3, "south")
    await create(database, new_job("c"))
    taken = await database.write(leases.claim, "v", {"north": 1}, 2, 4)
    assert sorted(str(shard.store) for shard in taken) == ["None", "north", "south", "south"]


async def test_claim_leaves_what_is_leased_and_what_has_ended(database: Database) -> None:
    _leased, ended = await running(database, 2)
    await database.write(shards.finish, ended, Counters(), {}, State.SUCCEEDED, 4)
    assert await claim(database, "v") == []


@either_way
async def test_claim_fences_the_attempt_before(database: Database, checkpoint: Checkpoint) -> None:
    (old,) = await running(database)
    await database.write(leases.release, "w")
    (new,) = await claim(database, "v")
    assert new.attempt == old.attempt + 1
    before = await row(database, table, old.id)
    with pytest.raises(LeaseLost):
        await checkpoint(database, old, Counters(), {}, announcement(), 4)
    assert await row(database, table, old.id) == before


@either_way
async def test_checkpoint_keeps_all_that_the_next_run_needs(
    database: Database, checkpoint: Checkpoint
) -> None:
    (shard,) = await running(database)
    summary = ErrorSummary(code=Code.NOT_FOUND, count=2, samples=(("gs://b/\0?é", "no \0"),))
    errors = {Code.NOT_FOUND: summary}
    counters = Counters(total=5, succeeded=3, failed=2, bytes_found=50, contexts_updated=1 << 40)
    announced = announcement(7, b"\0\xffintent", "d/\0x\u2028é")
    answer = await checkpoint(database, shard, counters, errors, announced, 4)
    assert answer is Answer.GO_ON
    again = await database.read(shards.reload, shard)
    assert again.counters == Counters(
        total=12, succeeded=3, failed=2, bytes_found=120, contexts_updated=1 << 40
    )
    assert (again.intent, again.errors) == (b"\0\xffintent", errors)
    assert again.cursor == {"after": "d/\0x\u2028é"}


async def test_a_quick_checkpoint_leaves_to_the_thorough_one_only_what_is_unusual(
    database: Database,
) -> None:
    def unusual(_connection: Any, *_: Any) -> str:
        return "unusual"

    (shard,) = await running(database)
    given = (Counters(), {}, announcement(), 4)
    quick = shards.quick_checkpoint
    assert await database.jot(quick, unusual, shard, *given) is Answer.GO_ON
    older = replace(shard, attempt=shard.attempt - 1)
    assert await database.jot(quick, unusual, older, *given) == "unusual"
    await database.write(job_statements.cancel_job, shard.job, 5)
    assert await database.jot(quick, unusual, shard, *given) == "unusual"


@either_way
async def test_checkpoint_moves_the_lease(database: Database, checkpoint: Checkpoint) -> None:
    (shard,) = await running(database)
    (before,) = await database.read(leases.leases)
    await checkpoint(database, shard, Counters(), {}, announcement(), 4)
    (after,) = await database.read(leases.leases)
    assert after == before._replace(checkpoint=before.checkpoint + 1)


@either_way
async def test_checkpoint_stops_and_ends_a_shard_of_a_cancelled_job(
    database: Database, checkpoint: Checkpoint
) -> None:
    (shard,) = await running(database)
    await database.write(job_statements.cancel_job, shard.job, 4)
    counters = Counters(total=3, succeeded=3)
    answer = await checkpoint(database, shard, counters, {}, announcement(9, b"intent"), 5)
    assert answer is Answer.STOP
    ended = await row(database, table, shard.id)
    assert (ended.state, ended.intent, ended.total) == ("CANCELED", None, 3)
    assert (await row(database, jobs)).state == "CANCELED"


@either_way
async def test_a_checkpoint_whose_reply_was_lost_before_a_cancel_takes_nothing_back(
    database: Database, checkpoint: Checkpoint
) -> None:
    """It is made again, and ends the shard: what it said was found may have been seen. (seed
    22644)"""
    (shard,) = await running(database)
    more = shards.Announcement(intent=b"2", cursor={"at": 2}, found=2, bytes_found=48)
    done = Counters(total=14, succeeded=14, bytes_found=371)
    assert await checkpoint(database, shard, done, {}, more, 4) is Answer.GO_ON
    await database.write(job_statements.cancel_job, shard.job, 5)
    assert await checkpoint(database, shard, done, {}, more, 6) is Answer.STOP
    ended = await row(database, table, shard.id)
    assert (ended.state, ended.intent) == ("CANCELED", None)
    assert (ended.total, ended.succeeded, ended.bytes_found) == (16, 14, 419)


async def test_finish_of_the_last_shard_ends_the_whole(database: Database) -> None:
    first, second = await running(database, 2)
    done = Counters(total=2, succeeded=2)
    await database.write(shards.finish, first, done, {}, State.SUCCEEDED, 4)
    assert (await row(database, jobs)).complete_us is None
    await database.write(shards.finish, second, done, {}, State.SUCCEEDED, 5)
    for whole in (await row(database, jobs), await row(database, bucket_operations)):
        assert (whole.state, whole.complete_us, whole.succeeded) == ("SUCCEEDED", 5, 4)


async def test_finish_with_an_error_fails_the_whole(database: Database) -> None:
    first, second = await running(database, 2)
    gone = NotFound("The bucket is gone.")
    await database.write(shards.finish, first, Counters(), {}, State.FAILED, 4, gone)
    await database.write(shards.finish, second, Counters(), {}, State.SUCCEEDED, 5)
    job = await row(database, jobs)
    assert (job.state, job.error_code, job.error_message) == (
        "FAILED",
        "NOT_FOUND",
        "The bucket is gone.",
    )


async def test_finish_with_a_message_that_no_text_column_takes(database: Database) -> None:
    (shard,) = await running(database)
    bad = Internal("cannot read d/\0x")
    await database.write(shards.finish, shard, Counters(), {}, State.FAILED, 4, bad)
    assert (await row(database, jobs)).error_message == "cannot read d/\ufffdx"


async def test_finish_after_a_cancel_is_canceled(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(job_statements.cancel_job, shard.job, 4)
    await database.write(
        shards.finish, shard, Counters(), {}, State.FAILED, 5, Internal("too late")
    )
    assert (await row(database, jobs)).state == "CANCELED"
    assert (await row(database, table, shard.id)).error_code is None


async def test_hand_back_counts_and_frees_the_shard(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(shards.checkpoint, shard, Counters(), {}, announcement(4, b"i", "d/4"), 4)
    await database.write(shards.hand_back, shard, Counters(total=4, succeeded=4), {})
    (again,) = await claim(database, "v")
    assert (again.counters.succeeded, again.intent, again.cursor) == (4, None, {"after": "d/4"})


async def test_let_go_leaves_the_last_checkpoint(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(shards.checkpoint, shard, Counters(), {}, announcement(4, b"i", "d/4"), 4)
    await database.write(shards.let_go, shard)
    (again,) = await claim(database, "v")
    assert (again.counters.total, again.intent, again.cursor) == (4, b"i", {"after": "d/4"})


async def test_finish_plan_keeps_the_first_range_and_frees_the_others(database: Database) -> None:
    await create(database)
    (planning,) = await claim(database)
    await plan(database, planning, 3)
    assert await states(database) == (["RUNNING"], ["RUNNING"], ["RUNNING", "QUEUED", "QUEUED"])


async def test_finish_plan_of_nothing_ends_the_bucket_operation(database: Database) -> None:
    await create(database)
    (planning,) = await claim(database)
    await plan(database, planning, 0)
    assert await states(database) == (["SUCCEEDED"], ["SUCCEEDED"], ["SUCCEEDED"])


async def test_finish_plan_of_a_cancelled_job_adds_nothing(database: Database) -> None:
    job = await create(database)
    (planning,) = await claim(database)
    await database.write(job_statements.cancel_job, job, 3)
    await plan(database, planning, 3)
    assert await states(database) == (["CANCELED"], ["CANCELED"], ["CANCELED"])


async def test_finish_plan_without_the_lease_changes_nothing(database: Database) -> None:
    await create(database)
    (planning,) = await claim(database)
    await database.write(leases.release)
    with pytest.raises(LeaseLost):
        await plan(database, planning, 3)
    assert await states(database) == (["RUNNING"], ["RUNNING"], ["RUNNING"])


async def _searching(database: Database) -> Shard:
    await create(database, new_job(buckets=("",)))
    (shard,) = await claim(database)
    assert shard.bucket == ""
    return shard


async def _buckets(database: Database) -> list[str]:
    query = select(bucket_operations.c.bucket).order_by(bucket_operations.c.position)
    return list(await database.read(lambda connection: connection.scalars(query).all()))


async def test_finish_search_keeps_the_first_bucket_and_frees_the_others(
    database: Database,
) -> None:
    shard = await _searching(database)
    found = await database.write(shards.finish_search, shard, ["a", "b", "c"], 3)
    assert found == replace(shard, bucket="a") == await database.read(shards.reload, shard)
    assert await states(database) == (
        ["RUNNING"],
        ["RUNNING", "QUEUED", "QUEUED"],
        ["RUNNING", "QUEUED", "QUEUED"],
    )
    assert await _buckets(database) == ["a", "b", "c"]
    assert (await row(database, jobs)).multi_bucket
    others = await claim(database)
    assert [(one.bucket, one.range, one.source) for one in others] == [
        ("b", None, shard.source),
        ("c", None, shard.source),
    ]


async def test_finish_search_of_nothing_ends_the_job(database: Database) -> None:
    shard = await _searching(database)
    assert await database.write(shards.finish_search, shard, [], 3) is None
    assert await states(database) == (["SUCCEEDED"], ["SUCCEEDED"], ["SUCCEEDED"])
    assert not (await row(database, jobs)).multi_bucket


async def test_finish_search_of_a_cancelled_job_adds_nothing(database: Database) -> None:
    shard = await _searching(database)
    await database.write(job_statements.cancel_job, shard.job, 3)
    assert await database.write(shards.finish_search, shard, ["a", "b"], 3) is None
    assert await states(database) == (["CANCELED"], ["CANCELED"], ["CANCELED"])


async def test_finish_search_without_the_lease_changes_nothing(database: Database) -> None:
    shard = await _searching(database)
    await database.write(leases.release)
    (newer,) = await claim(database, "v")
    with pytest.raises(LeaseLost):
        await database.write(shards.finish_search, shard, ["a", "b"], 3)
    assert await _buckets(database) == [""]
    assert not (await row(database, jobs)).multi_bucket
    await database.write(shards.finish_search, newer, ["a"], 4)
    assert await _buckets(database) == ["a"]


async def test_give_up_counts_what_was_announced_as_failed(database: Database) -> None:
    (shard,) = await running(database)
    done = Counters(total=5, succeeded=5)
    await database.write(shards.checkpoint, shard, done, {}, announcement(3, b"i"), 4)
    await database.write(shards.give_up, shard, Internal("no"), 5)
    job = await row(database, jobs)
    assert (job.state, job.total, job.succeeded, job.failed) == ("FAILED", 8, 5, 3)


async def test_give_up_of_a_deleted_job_is_a_lost_lease(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(leases.release)
    (new,) = await claim(database, "v")
    await database.write(shards.finish, new, Counters(), {}, State.SUCCEEDED, 4)
    job = await row(database, jobs)
    await database.write(job_statements.delete_job, job, 5)
    with pytest.raises(LeaseLost):
        await database.write(shards.give_up, shard, Internal("no"), 6)


async def test_renew_tells_which_leases_live(database: Database) -> None:
    first, second = await running(database, 2)
    await database.write(shards.let_go, second)
    attempts = {first.id: first.attempt, second.id: second.attempt}
    assert await database.write(leases.renew, attempts) == {first.id}
    (lease,) = await database.read(leases.leases)
    assert (lease.shard, lease.owner) == (first.id, "w")


async def test_hand_over_cuts_a_range_and_frees_the_rest(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(shards.hand_over, shard, {"before": "m"}, {"after": "m"})
    kept = await database.read(shards.reload, shard)
    (given,) = await claim(database, "v")
    assert (kept.range, given.range) == ({"before": "m"}, {"after": "m"})
    assert (given.store, given.bucket_operation) == (shard.store, shard.bucket_operation)


async def test_an_idle_worker_asks_who_has_done_least_for_half(database: Database) -> None:
    busy, fresh = await running(database, 2)
    more = shards.Announcement(intent=None, cursor={}, found=9, bytes_found=9, halves=True)
    await database.write(shards.checkpoint, busy, Counters(), {}, more, 4)
    assert await database.read(leases.worth_halving, {"main": 4}, 4) == []
    asked = await database.read(leases.worth_halving, {"main": 1}, 4)
    assert asked == [fresh.id]
    assert await database.read(leases.worth_halving, {}, 4, most=9) == [fresh.id, busy.id]
    await database.write(leases.ask_to_halve, asked)
    none = shards.Announcement(intent=None, cursor={}, found=0, bytes_found=0, halves=True)
    answers = [
        await database.write(shards.checkpoint, shard, Counters(), {}, none, 5)
        for shard in (busy, fresh)
    ]
    assert answers == [Answer.GO_ON, Answer.HALVE]


async def test_poll_names_a_store_whose_jobs_nobody_carries(database: Database) -> None:
    await running(database, 2)
    (planning,) = await running(database, job_id="k")
    await database.write(shards.let_go, planning)
    assert (await database.read(leases.poll, {"main": 2}, 2)).starved == ("main",)
    assert (await database.read(leases.poll, {"main": 1}, 2)).starved == ()


async def test_who_leases_counts_by_store_bucket_and_worker(database: Database) -> None:
    await running(database, 2)
    assert await database.read(leases.who_leases) == [("main", "b", "w", 2)]


async def test_census_counts_by_state(database: Database) -> None:
    await running(database, 2)
    await create(database, new_job("k"))
    found = await database.read(census.census)
    assert (found.jobs[State.RUNNING], found.jobs[State.QUEUED]) == (1, 1)
    assert (found.shards[State.RUNNING], found.shards[State.QUEUED]) == (2, 1)


async def test_retention_finds_what_is_old_and_removes_it(database: Database) -> None:
    (shard,) = await running(database)
    assert await database.read(retention.overdue, 2) == [shard.job]
    assert await database.read(retention.overdue, 1) == []
    await database.write(shards.finish, shard, Counters(), {}, State.SUCCEEDED, 9)
    assert await database.read(retention.overdue, 2) == []
    assert await database.read(retention.expired, 9) == []
    assert await database.read(retention.expired, 10) == [shard.job]
    assert await database.write(retention.remove_some, shard.job, 11)
    assert await states(database) == ([], [], [])


async def test_release_ends_the_leases_of_one_of_a_place_or_of_all(database: Database) -> None:
    await running(database, 4)
    await database.write(leases.release)
    for owner in ("north/w-1", "north/w-2", "north_west/w", "100%/w"):
        await database.write(leases.claim, owner, {}, 1, 4)
    assert await database.write(leases.release, "north/w-1") == 1
    assert await database.write(leases.release, prefix="north/") == 1
    assert await database.write(leases.release, prefix="%") == 0
    assert await database.write(leases.release) == 2


async def test_reload_is_for_the_one_who_has_the_lease(database: Database) -> None:
    (shard,) = await running(database)
    assert await database.read(shards.reload, shard) == shard
    await database.write(shards.let_go, shard)
    with pytest.raises(LeaseLost):
        await database.read(shards.reload, shard)


async def test_deaths_are_counted_until_something_is_done(database: Database) -> None:
    await running(database)

    async def carried_again() -> Shard:
        (shard,) = await claim(database)
        return shard

    for deaths in (1, 2):
        assert await database.write(leases.bury, "w") == 1
        shard = await carried_again()
        assert shard.deaths == deaths
        await database.write(shards.checkpoint, shard, Counters(), {}, announcement(5), 4)
    assert await database.write(leases.release, "w") == 1  # nobody has died
    shard = await carried_again()
    assert shard.deaths == 2
    got_on = replace(announcement(5), got_on=True)
    await database.write(shards.checkpoint, shard, Counters(), {}, got_on, 5)
    assert (await database.read(shards.reload, shard)).deaths == 0
    assert await database.write(leases.bury, "somebody else") == 0
