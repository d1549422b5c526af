"""Jobs that are too old end, and what ended long ago goes; by a calendar that the test owns."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, select, update

from longshore.database import endings, retention
from longshore.database import jobs as statements
from longshore.database.tables import bucket_operations, jobs, shards, sources
from longshore.housekeeping import Sweep, end_what_is_old, record_ends
from longshore.model import State
from longshore.settings import RetentionSettings
from tests.harbour import HOLD
from tests.house import FastClock, House
from tests.runner.harbour import ALL
from tests.service import Service

DAY_US = 24 * 3600 * 1_000_000
EVERYTHING = ("prefix_list", {"prefixes": [""]})
DELETE = ("delete_object", {"permanent": True})


class Calendar(FastClock):
    """Time of day that stands still until a test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.today_us = 20_000 * DAY_US

    def now_us(self) -> int:
        return self.today_us

    def pass_days(self, days: float) -> None:
        self.today_us += int(days * DAY_US)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    house.clock = Calendar()
    await house.open()
    yield house
    await house.close()


def sweep(house: House, stop: asyncio.Event | None = None) -> Sweep:
    settings = RetentionSettings(max_job_days=14, keep_days=30)
    return Sweep(settings, house.outside, house.clock, stop or asyncio.Event())


async def test_the_end_of_a_job_is_recorded_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longshore")
    stop = asyncio.Event()
    ended, cancelled = [await house.create(DELETE, EVERYTHING) for _ in range(2)]
    await house.create(DELETE, EVERYTHING)  # runs on
    await house.cancel(cancelled)
    await house.outside.write(lambda connection: connection.execute(_end, {"job": ended}))
    recording = asyncio.create_task(record_ends(house.outside, house.clock, stop))
    async with asyncio.timeout(30):
        while await house.outside.read(endings.unrecorded):
            await asyncio.sleep(0.01)
    stop.set()
    await recording
    await record_ends(house.outside, house.clock, stop)
    records = [one.getMessage() for one in caplog.records if "audit" in one.getMessage()]
    assert [record.partition("status=")[2].split()[0] for record in records] == ["OK", "CANCELLED"]
    for record in records:
        assert "CreateJob resource=projects/p/locations/global status=" in record
        assert "operation=projects/p/locations/global/operations/operation-" in record
        assert record.endswith("last=true")


_end = update(jobs).where(jobs.c.id == bindparam("job")).values(state="SUCCEEDED", complete_us=1)


async def rows(house: House, table: Any) -> int:
    count = select(func.count()).select_from(table)
    return await house.outside.read(lambda connection: connection.execute(count).scalar_one())


async def ended(house: House, *, shard_rows: int = 0) -> int:
    """A job that has just succeeded; with so many shards more."""
    job = await house.create(DELETE, EVERYTHING)
    assert await house.run(job)

    def add(connection: Any) -> None:
        part = connection.execute(
            select(bucket_operations.c.id).where(bucket_operations.c.job == job)
        ).scalar_one()
        row = {
            "job": job,
            "bucket_operation": part,
            "state": "SUCCEEDED",
            "range": {},
            "cursor": {},
        }
        connection.execute(insert(shards), [row] * shard_rows)

    if shard_rows:
        await house.outside.write(add)
    return job


async def test_an_open_job_is_cancelled_after_its_days_and_not_before(house: House) -> None:
    job = await house.create(DELETE, EVERYTHING)
    house.clock.pass_days(14)
    await sweep(house).cancel_overdue()
    assert (await house.job(job))[0].state == "QUEUED"
    house.clock.pass_days(0.01)
    younger = await house.create(DELETE, EVERYTHING)
    await sweep(house).cancel_overdue()
    row, _ = await house.job(job)
    assert (row.state, row.error_code) == ("CANCELED", "CANCELLED")
    assert row.cancel_us == row.complete_us == house.clock.now_us()
    assert (await house.job(younger))[0].state == "QUEUED"


async def test_a_cancelled_job_that_still_runs_is_asked_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    job = await house.create(DELETE, EVERYTHING)

    def start(connection: Any) -> None:
        connection.execute(shards.update().values(state="RUNNING", owner="worker"))
        connection.execute(jobs.update().values(state="RUNNING"))
        connection.execute(bucket_operations.update().values(state="RUNNING"))

    await house.outside.write(start)
    house.clock.pass_days(15)
    with caplog.at_level("INFO", "longshore"):
        await sweep(house).cancel_overdue()
        await sweep(house).cancel_overdue()
    assert [record.message for record in caplog.records] == [
        f'job cancelled row={job} why="older than 14 days"'
    ]
    row, _ = await house.job(job)
    assert State(row.state).open
    assert row.cancel_us == house.clock.now_us()


async def test_an_ended_job_is_kept_for_its_days_and_then_goes(house: House) -> None:
    house.clock.pass_days(-20)
    old = await house.create(DELETE, EVERYTHING)
    house.clock.pass_days(20)
    assert await house.run(old)  # created 50 days before it goes, but it ended just now
    house.clock.pass_days(30)
    await sweep(house).remove_expired()
    assert (await house.job(old))[0].state == "SUCCEEDED"
    house.clock.pass_days(0.01)
    young = await ended(house)
    still_open = await house.create(DELETE, EVERYTHING)
    await sweep(house).remove_expired()
    left = await house.outside.read(
        lambda connection: connection.execute(select(jobs.c.id).order_by(jobs.c.id)).scalars().all()
    )
    assert left == [young, still_open]
    assert await rows(house, bucket_operations) == await rows(house, sources) == 2
    owners = await house.outside.read(
        lambda connection: set(connection.execute(select(shards.c.job)).scalars())
    )
    assert owners == {young, still_open}


async def test_a_large_job_goes_in_small_transactions_and_is_hidden_first(house: House) -> None:
    at_once = retention.ROWS_AT_ONCE
    job = await ended(house, shard_rows=2 * at_once)
    row, _ = await house.job(job)
    whole = await rows(house, shards)
    house.clock.pass_days(31)
    write = house.outside.write
    now_us = house.clock.now_us()
    assert await write(retention.remove_some, job, now_us) is False
    assert await rows(house, shards) == whole - at_once
    assert await rows(house, bucket_operations) == 1
    for find, name in (
        (statements.find_job, row.job_id),
        (statements.find_operation, row.operation_id),
    ):
        assert await house.outside.read(find, "p", name) is None
    # The service is stopped here; the next sweep of the next service goes on.
    await sweep(house).remove_expired()
    assert await rows(house, shards) == await rows(house, jobs) == 0


async def test_a_service_that_is_to_stop_removes_no_more(house: House) -> None:
    await ended(house, shard_rows=3 * retention.ROWS_AT_ONCE)
    whole = await rows(house, shards)
    house.clock.pass_days(31)
    stop = asyncio.Event()
    stop.set()
    await sweep(house, stop).remove_expired()
    assert await rows(house, shards) == whole - retention.ROWS_AT_ONCE


async def test_deleted_jobs_whose_operation_was_kept_go_too(house: House) -> None:
    job = await ended(house)
    row, _ = await house.job(job)
    await house.outside.write(statements.delete_job, row, house.clock.now_us())
    assert await rows(house, jobs) == 1
    house.clock.pass_days(31)
    await sweep(house).remove_expired()
    assert await rows(house, jobs) == 0


async def test_old_jobs_are_looked_for_again_and_again(house: House) -> None:
    stop = asyncio.Event()
    job = await house.create(DELETE, EVERYTHING)
    looks = 0

    class Later(Calendar):
        async def wait(self, event: asyncio.Event, seconds: float) -> bool:
            nonlocal looks
            looks += 1
            self.pass_days(10)
            if looks == 2:
                event.set()
            return event.is_set()

    clock = Later()
    await end_what_is_old(RetentionSettings(), house.outside, clock, stop)
    assert looks == 2
    row, _ = await house.job(job)
    assert row.state == "QUEUED"  # 10 days old at the second look
    looks, stop = 0, asyncio.Event()
    await end_what_is_old(RetentionSettings(), house.outside, clock, stop)
    assert (await house.job(job))[0].state == "CANCELED"


def test_a_service_removes_what_ended_long_ago_with_its_log(tmp_path: Path) -> None:
    service = Service(tmp_path)
    try:
        service.fill(16)
        service.start()
        operation = service.create("b", ALL, HOLD)
        job = service.done(operation)
        kept = service.done(service.create("b", ALL, HOLD))
        assert len(service.records()) == 32
        service.stop()
        ago = time.time_ns() // 1000 - 31 * DAY_US
        with sqlite3.connect(service.data_dir / "longshore.sqlite") as database:
            job_id = job["name"].rpartition("/")[2]
            database.execute(
                "UPDATE jobs SET create_us = ?, complete_us = ? WHERE job_id = ?",
                (ago - 1, ago, job_id),
            )
        database.close()
        service.start()
        for name in (job["name"], operation):
            service.until(
                lambda name=name: service.http.get(f"/v1/{name}").status_code == 404,
                30,
                f"remove {name}",
            )
        log = service.data_dir / "logs" / "local" / job_id
        service.until(lambda: not log.exists(), 30, "remove the log")
        assert len(service.records()) == 16
        assert service.get(kept["name"]) == kept
    finally:
        service.close()
