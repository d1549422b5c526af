"""How it stands with what is open: the statements behind ``longshore cluster status``."""

from __future__ import annotations

import pytest

from longshore.database import Database, census, coordinator, leases, shards
from longshore.database.census import Carried, standing
from longshore.database.coordinator import Present, Seat
from longshore.model import Counters, State
from tests.database.rows import announcement, claim, create, new_job, plan, running

FIVE = Counters(total=5, succeeded=4, failed=1)


async def test_an_empty_database_has_nothing(database: Database) -> None:
    assert await database.read(standing) == (None, Present(), {}, 0, 0, [], {}, 0)


async def test_who_carries_what_and_what_waits(database: Database) -> None:
    (first, second) = await running(database, 2)
    third = await create(database, new_job("waits", buckets=("b-1", "b-2")))
    await database.write(coordinator.take, "c", None)
    await database.write(coordinator.note, 1, Present(2, 8, 1))
    await database.write(shards.checkpoint, first, FIVE, {}, announcement(5, b"i"), 8)
    found = await database.read(standing)
    assert (found.seat, found.present) == (Seat(1, "c", 0), Present(2, 8, 1))
    assert found.jobs == {State.RUNNING: 1, State.QUEUED: 1}
    assert found.waiting == 2
    assert found.done == {first.job: 5, third: 0}
    assert found.newest == third
    moved, still = sorted(found.carried, key=lambda one: one.shard)
    assert (moved.shard, moved.owner, moved.store, moved.done) == (first.id, "w", "main", 5)
    assert moved.checkpoint_us == 8
    assert still == Carried("w", "main", second.id, second.attempt, still.checkpoint, 0, None)
    await database.write(leases.renew, {first.id: first.attempt})
    after = await database.read(standing, found)
    assert sorted(after.carried, key=lambda one: one.shard) == [
        moved._replace(checkpoint=moved.checkpoint + 1),
        still,
    ]


async def test_what_is_planned_is_of_no_store(database: Database) -> None:
    await create(database)
    await claim(database)
    (one,) = (await database.read(standing)).carried
    assert one.store is None


async def test_objects_of_jobs_that_have_ended_between_two_looks_are_counted(
    database: Database,
) -> None:
    (old,) = await running(database, job_id="ended-before")
    await database.write(shards.finish, old, FIVE, {}, State.SUCCEEDED, 4)
    (seen,) = await running(database, job_id="seen")
    before = await database.read(standing)
    assert before.done == {seen.job: 0}
    await create(database, new_job("short"))
    (planned,) = await claim(database)
    short = await plan(database, planned)
    assert short is not None
    for shard in (seen, short):
        await database.write(shards.finish, shard, FIVE, {}, State.SUCCEEDED, 4)
    assert (await database.read(standing)).done == {}
    after = await database.read(standing, before)
    assert after.done == {seen.job: 5, short.job: 5}
    assert (after.jobs, after.carried) == ({}, [])


async def test_many_jobs_are_counted_some_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "_JOBS_AT_ONCE", 2)
    found = [await running(database, job_id=f"j-{number}") for number in range(5)]
    for (shard,) in found:
        await database.write(shards.checkpoint, shard, FIVE, {}, announcement(5, b"i"), 8)
    assert (await database.read(standing)).done == {shard.job: 5 for (shard,) in found}
