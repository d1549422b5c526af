"""Whole jobs in one process: side by side, in dry runs, and over stores that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import Code, NotFound, Unavailable
from longshore.patch import Patch
from longshore.store import ABSENT, Failure, Outcome
from tests.house import BUCKET, House

CONTEXTS = {"updates": {"team": "dock"}, "removals": [], "clear": False}
PATCH = ("update_object_custom_context", CONTEXTS)
HOLD = ("put_object_hold", {"temporary_hold": True})
DELETE = ("delete_object", {"permanent": False})
EVERYTHING = ("prefix_list", {"prefixes": [""]})


@pytest.fixture(params=["memory", "local"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, request.param, batch=20)
    await house.open()
    for number in range(200):
        await house.write(f"d/{number:03d}", b"x" * 10)
    yield house
    await house.close()


async def _both(house: House, first: tuple[str, Any], second: tuple[str, Any]) -> list[Any]:
    jobs = [await house.create(one, EVERYTHING) for one in (first, second)]
    results = []
    for job in jobs:
        assert await house.run(job)
        row, (counters, errors) = await house.job(job)
        assert row.state == "SUCCEEDED"
        assert counters.total == counters.succeeded + counters.failed
        results.append((counters, errors))
    return results


async def test_two_jobs_that_patch_the_same_objects_both_succeed(house: House) -> None:
    other = {"updates": {"tide": "high"}, "removals": [], "clear": False}
    for counters, _ in await _both(house, PATCH, ("update_object_custom_context", other)):
        assert (counters.succeeded, counters.failed) == (200, 0)
        assert counters.contexts_created == 200


async def test_two_jobs_that_delete_the_same_objects_both_succeed(house: House) -> None:
    for counters, _ in await _both(house, DELETE, DELETE):
        assert counters.failed == 0
    assert await house.names() == []


async def test_a_patch_beside_a_delete_finds_objects_gone(house: House) -> None:
    patched, deleted = await _both(house, PATCH, DELETE)
    assert deleted[0].failed == 0
    assert set(patched[1]) <= {Code.NOT_FOUND}


async def test_a_delete_beside_a_hold_is_refused(house: House) -> None:
    held, deleted = await _both(house, HOLD, DELETE)
    assert set(held[1]) <= {Code.NOT_FOUND}
    assert set(deleted[1]) <= {Code.PERMISSION_DENIED}
    assert deleted[0].failed == len(await house.names())


async def test_a_dry_run_counts_objects_and_bytes_and_changes_nothing(house: House) -> None:
    job = await house.create(DELETE, EVERYTHING, dry_run=True)
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert (counters.total, counters.bytes_found) == (200, 2_000)
    assert (counters.succeeded, counters.failed, counters.bytes_transformed) == (0, 0, 0)
    assert len(await house.names()) == 200
    assert house.mortal.journal == []
    assert house.records() == []


class Weather:
    """A store that fails as planned, and says at the end what has not been met."""

    def __init__(self, store: Any, plan: list[str]) -> None:
        self._store = store
        self.plan = plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def patch_objects(self, bucket: str, batch: Any, patch: Patch, **options: Any) -> Any:
        fault = self.plan.pop(0) if self.plan else ""
        if fault == "lost request":
            raise Unavailable("the request never arrived")
        if fault == "bucket gone":
            raise NotFound(f"No such bucket: {bucket}")
        if fault == "half":
            half = batch.pick(range(len(batch) // 2))
            await self._store.patch_objects(bucket, half, patch, **options)
            raise Unavailable("the connection broke in the middle")
        outcome = await self._store.patch_objects(bucket, batch, patch, **options)
        if fault == "lost reply":
            raise Unavailable("the reply never arrived")
        if fault == "slow down":
            refused = {0: Failure(Code.RESOURCE_EXHAUSTED, "slow down")}
            return Outcome(failures={**outcome.failures, **refused})
        return outcome


@pytest.mark.parametrize("fault", ["lost request", "lost reply", "half", "slow down"])
async def test_a_call_of_unknown_effect_is_settled_by_looking(house: House, fault: str) -> None:
    weather = Weather(house.mortal, [fault, "", fault])
    house.stores._open["main"] = weather  # type: ignore[assignment]
    job = await house.create(PATCH, EVERYTHING)
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert row.state == "SUCCEEDED"
    assert (counters.succeeded, counters.contexts_created, errors) == (200, 200, {})
    assert sum(entry["created"] for entry in house.mortal.journal) == 200
    assert weather.plan == []


async def test_a_bucket_that_vanishes_fails_the_job_with_true_counters(house: House) -> None:
    weather = Weather(house.mortal, ["", "bucket gone"])
    house.stores._open["main"] = weather  # type: ignore[assignment]
    job = await house.create(PATCH, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "NOT_FOUND")
    # What was announced and not done is looked at: nothing of it was done, so it failed.
    assert counters.total == counters.succeeded + counters.failed == 40
    assert counters.succeeded == len(house.mortal.journal) == 20


async def test_a_missing_bucket_fails_its_part_and_names_it(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING, buckets=("nowhere", BUCKET))
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "NOT_FOUND")
    assert "nowhere" in row.error_message
    assert counters.succeeded == 200


async def test_what_a_store_cannot_do_fails_before_an_object_is_touched(house: House) -> None:
    class Limited(Weather):
        @property
        def capabilities(self) -> Any:
            return replace(self._store.capabilities, patch_columns=frozenset())

    house.stores._open["main"] = Limited(house.mortal, [])  # type: ignore[assignment]
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "UNIMPLEMENTED")
    assert "temporary_hold" in row.error_message
    assert counters.total == 0
    assert house.mortal.journal == []


async def test_an_empty_bucket_is_a_job_that_succeeds(house: House) -> None:
    job = await house.create(HOLD, ("prefix_list", {"prefixes": ["nothing/"]}))
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.total) == ("SUCCEEDED", 0)
    assert row.schedule_us is not None
    assert row.complete_us is not None


async def test_a_queued_job_is_cancelled_at_once(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING)
    await house.cancel(job)
    row, _ = await house.job(job)
    assert (row.state, row.error_code) == ("CANCELED", "CANCELLED")
    assert await house.run(job)
    assert house.mortal.journal == []


async def test_a_hundred_prefixes_are_a_hundred_shards_and_one_count(house: House) -> None:
    prefixes = [f"d/{number:02d}" for number in range(20)] + ["none/"]
    job = await house.create(HOLD, ("prefix_list", {"prefixes": prefixes}))
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert (counters.total, counters.succeeded) == (200, 200)


async def test_an_object_that_keeps_moving_is_given_up_as_aborted(house: House) -> None:
    """Somebody overwrites one object before every act: at most six looks, then ABORTED."""

    async def overwrite(where: str) -> None:
        if where == "before patch_objects":
            await house.write("d/007", b"moved")

    house.fate.at_boundary = overwrite
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert (counters.total, counters.succeeded, counters.failed) == (200, 199, 1)
    assert list(errors) == [Code.ABORTED]
    assert errors[Code.ABORTED].samples[0][0] == f"gs://{BUCKET}/d/007"


async def test_a_named_generation_is_never_left_for_a_newer_one(house: House) -> None:
    there = await house.store.read_objects(BUCKET, ["d/001", "d/002"], [ABSENT, ABSENT])
    old = there.generations[0]
    lines = f"{BUCKET},d/001,{old}\n{BUCKET},d/002,{there.generations[1]}\n{BUCKET},d/003,12345\n"
    await house.write("list.csv", lines.encode())

    async def overwrite(where: str) -> None:
        if where == "before patch_objects":
            house.fate.at_boundary = None
            await house.write("d/001", b"newer")

    house.fate.at_boundary = overwrite
    job = await house.create(HOLD, ("manifest", {"bucket": BUCKET, "name": "list.csv"}))
    assert await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert (counters.total, counters.succeeded, counters.failed) == (3, 1, 2)
    assert errors[Code.FAILED_PRECONDITION].samples[0][0].endswith("d/001")
    assert errors[Code.NOT_FOUND].samples[0][0].endswith("d/003")
    columns = ("temporary_hold",)
    newer = await house.store.read_objects(BUCKET, ["d/001"], [ABSENT], columns=columns)
    assert newer.columns["temporary_hold"] == [False]


async def test_a_shard_of_a_lost_lease_sends_and_counts_nothing_more(house: House) -> None:
    """Another attempt takes the shard over while this one is about to act."""
    from sqlalchemy import update

    from longshore.database.tables import shards

    async def take_over(where: str) -> None:
        if where == "before checkpoint" and house.mortal.journal:
            house.fate.at_boundary = None
            statement = update(shards).where(shards.c.range.is_not(None))
            more = statement.values(attempt=shards.c.attempt + 1)
            await house.outside.write(lambda connection: connection.execute(more) and None)

    house.fate.at_boundary = take_over
    job = await house.create(HOLD, EVERYTHING)
    with pytest.raises(AssertionError, match="still RUNNING"):
        await house.run(job, seconds=2.0)
    _, (counters, _) = await house.job(job)
    assert counters.succeeded < len(house.mortal.journal) <= 40
    await asyncio.sleep(0)
    assert await house.run(job)  # the next service settles what is open and goes on
    _, (counters, _) = await house.job(job)
    assert (counters.total, counters.succeeded) == (200, 200)
    assert len(house.mortal.journal) == 200
