"""Shards that cannot go on: each announced object is counted, and nobody else is held up."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from longshore.database import leases
from longshore.database import shards as statements
from longshore.database.tables import shards
from longshore.engine.action_log import ActionLog
from longshore.engine.carry import DEATHS_MAX
from longshore.errors import Code, NotFound, Unimplemented
from longshore.model import Counters
from longshore.patch import Patch
from longshore.transformation import PatchObjects
from tests.faults import Crash
from tests.house import House

EVERYTHING = ("prefix_list", {"prefixes": ["d/"]})
HOLD = ("put_object_hold", {"temporary_hold": True})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "memory", batch=5)
    await house.open()
    for number in range(20):
        await house.write(f"d/{number:02d}")
    yield house
    await house.close()


async def _die_after_an_act(house: House) -> int:
    async def die(where: str) -> None:
        if where == "after patch_objects":
            house.fate.at_boundary = None
            house.fate.dead = True
            raise Crash(where)

    house.fate.at_boundary = die
    job = await house.create(HOLD, EVERYTHING)
    assert not await house.run(job)
    return job


async def _assert_failed_alone(house: House, job: int, code: str) -> None:
    other = await house.create(HOLD, EVERYTHING)
    assert await house.run(other)
    row, (counters, errors) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", code)
    assert counters.total == counters.succeeded + counters.failed == 5
    assert sum(one.count for one in errors.values()) == counters.failed == 5
    row, (counters, _) = await house.job(other)
    assert (row.state, counters.succeeded) == ("SUCCEEDED", 20)


async def test_an_intent_that_is_only_bytes_ends_its_job_and_no_worker(house: House) -> None:
    job = await _die_after_an_act(house)
    broken = update(shards).where(shards.c.intent.is_not(None)).values(intent=b"no intent")
    await house.outside.write(lambda connection: connection.execute(broken) and None)
    await _assert_failed_alone(house, job, "DATA_LOSS")


async def test_a_bug_in_settling_ends_its_job_and_no_worker(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await _die_after_an_act(house)

    def settle(self: PatchObjects, announced: Any, now: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(PatchObjects, "settle", settle)
    await _assert_failed_alone(house, job, "INTERNAL")


async def test_objects_to_be_looked_at_again_are_counted_without_a_log(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket's source fails for good at the moment at which the disk is full."""
    act = house.mortal.patch_objects

    async def gone(bucket: str, batch: Any, patch: Patch, **options: Any) -> Any:
        await act(bucket, batch.pick(range(2)), patch, **options)
        raise NotFound("the bucket is gone, as far as writers are concerned")

    async def full(self: ActionLog, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(house.mortal, "patch_objects", gone)
    monkeypatch.setattr(ActionLog, "write", full)
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert row.state == "FAILED"
    assert (counters.total, counters.succeeded, counters.failed) == (5, 2, 3)
    assert sum(one.count for one in errors.values()) == 3


async def test_a_shard_that_was_handed_back_is_cancelled_at_once(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING)
    (shard,) = await house.outside.write(leases.claim, "w", {}, 4, 1)
    whole = [{"prefix": "d/", "after": "", "before": None}]
    await house.outside.write(statements.finish_plan, shard, whole, "main", 1)
    await house.outside.write(statements.hand_back, shard, Counters(total=3, succeeded=3), {})
    await house.cancel(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded) == ("CANCELED", 3)


async def test_a_dry_run_that_cannot_go_on_counts_no_failures(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING, dry_run=True)

    async def die(where: str) -> None:
        if where == "after checkpoint":
            house.fate.dead = True
            raise Crash(where)

    house.fate.at_boundary = die
    assert not await house.run(job)
    await house.outside.write(leases.release)
    (shard,) = await house.outside.write(leases.claim, "w", {}, 4, 1)
    await house.outside.write(statements.give_up, shard, Unimplemented("taken away"), 1)
    row, (counters, errors) = await house.job(job)
    assert row.state == "FAILED"
    assert counters.total >= 5  # a page, or as many as a tenth of a second has brought
    assert (counters.failed, errors) == (0, {})


async def _dies(house: House, job: int, where: str, *, buried: bool = True) -> None:
    """The worker dies there, and its supervisor sees it; else the whole service has died."""

    async def die(now: str) -> None:
        if now == where:
            house.fate.dead = True
            raise Crash(now)

    house.fate.at_boundary = die
    assert not await house.run(job)
    house.fate.at_boundary = None
    if buried:
        await house.outside.write(leases.bury, f"worker-{house._workers}")


async def test_a_shard_that_kills_its_workers_is_given_up(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING)
    for _ in range(DEATHS_MAX):
        await _dies(house, job, "before patch_objects")
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "INTERNAL")
    assert f"{DEATHS_MAX} workers in a row died" in row.error_message
    assert counters.total == counters.failed == errors[Code.INTERNAL].count == 5


async def test_a_shard_that_kills_even_those_who_look_at_it_is_given_up(house: House) -> None:
    """What has been done of what was announced is then not found out any more."""
    job = await house.create(HOLD, EVERYTHING)
    for _ in range(DEATHS_MAX):
        await _dies(house, job, "before patch_objects")
    await _dies(house, job, "before finish")
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "INTERNAL")
    assert counters.total == counters.failed == 5


async def test_the_deaths_of_the_whole_service_are_not_held_against_a_shard(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING)
    for _ in range(DEATHS_MAX + 2):
        await _dies(house, job, "before patch_objects", buried=False)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded) == ("SUCCEEDED", 20)


async def test_a_shard_that_gets_on_is_carried_by_however_many_workers(tmp_path: Path) -> None:
    house = House(tmp_path, "memory", batch=1)
    await house.open()
    for number in range(DEATHS_MAX + 2):
        await house.write(f"d/{number:02d}")
    job = await house.create(HOLD, EVERYTHING)
    for _ in range(DEATHS_MAX + 1):
        await _dies(house, job, "after patch_objects")
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded) == ("SUCCEEDED", DEATHS_MAX + 2)
    await house.close()
