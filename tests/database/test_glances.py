"""Looks at rows by their keys, without a transaction, for many who ask at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from longshore.database import Database, jobs
from longshore.database.tables import jobs as table
from longshore.errors import NotFound
from longshore.names import JobName, OperationName
from tests.database.rows import create, new_job

Found = Mapping[str, str]


def quick(connection: Connection, ids: Sequence[str]) -> Found:
    rows = connection.execute(select(table.c.job_id, table.c.state).where(table.c.job_id.in_(ids)))
    return {row.job_id: row.state for row in rows}


def whole(connection: Connection, ids: Sequence[str]) -> Found:
    assert connection.in_transaction()
    return {one: f"no {one}" for one in ids if one != "nothing"}


async def test_a_glance_sees_what_has_been_written(database: Database) -> None:
    """Also where an earlier one has looked: it keeps its connection, and no view of the past."""
    for number in range(5):
        names = [f"j{n}" for n in range(5)]
        found = await asyncio.gather(*(database.glance(quick, whole, one) for one in names))
        assert found == ["QUEUED"] * number + [f"no {one}" for one in names[number:]]
        await create(database, new_job(f"j{number}"))
    assert await database.glance(quick, whole, "nothing") is None


async def test_those_who_ask_together_are_answered_together(database: Database) -> None:
    asked: list[list[str]] = []

    def counting(connection: Connection, ids: Sequence[str]) -> Found:
        asked.append(sorted(ids))
        return quick(connection, ids)

    async def ask(name: str) -> str | None:
        return await database.glance(counting, whole, name)

    await asyncio.gather(*(ask(f"j{number // 2}") for number in range(100)))
    assert len(asked) == 1
    assert asked[0] == sorted(f"j{number}" for number in range(50))
    await ask("j")
    assert asked[1:] == [["j"]]


async def test_nobody_waits_for_a_slow_answer(database: Database) -> None:
    """As that for a row that has to come from the disk."""
    goes_on = threading.Event()

    def slow(connection: Connection, ids: Sequence[str]) -> Found:
        if "slow" in ids:
            assert goes_on.wait(60)
        return {one: one for one in ids}

    first = asyncio.create_task(database.glance(slow, whole, "slow"))
    await asyncio.sleep(0.01)
    for number in range(5):
        assert await database.glance(slow, whole, f"j{number}") == f"j{number}"
    assert not first.done()
    goes_on.set()
    assert await first == "slow"


async def test_whoever_stops_waiting_takes_nothing_from_the_others(database: Database) -> None:
    await create(database, new_job("j"))
    asking = [asyncio.create_task(database.glance(quick, whole, "j")) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    asking[1].cancel()
    assert await asking[2] == "QUEUED"


async def test_an_error_is_that_of_everybody_who_asked(database: Database) -> None:
    def missing(_connection: Connection, _ids: Sequence[str]) -> Found:
        raise NotFound("It is not there.")

    for _ in range(3):
        asking = [database.glance(missing, whole, "j") for _ in range(3)]
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(outcome, NotFound)
    assert await database.glance(quick, whole, "j") == "no j"


async def test_a_glance_goes_on_when_its_connections_are_cut(database_at: Path | str) -> None:
    database = Database(database_at, patience_seconds=60)
    await database.create()
    await create(database, new_job("j"))

    def cut(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(
                text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            )

    for _ in range(5):
        assert await database.glance(quick, whole, "j") == "QUEUED"
        await database.write(cut)
    assert await database.glance(quick, whole, "j") == "QUEUED"
    await database.close()


@pytest.mark.parametrize("ended", [False, True])
async def test_jobs_and_operations_by_name(database: Database, ended: bool) -> None:
    rows = [await create(database, new_job(f"j{number}")) for number in range(3)]
    if ended:
        await database.write(jobs.cancel_job, rows[1], 2)
    names = [JobName("p", one) for one in ("j1", "j2", "j9")] + [JobName("other", "j0")]
    found = await database.read(jobs.ended_jobs, names)
    assert list(found) == [JobName("p", "j1")] * ended
    counted = await database.read(jobs.counted_jobs, names)
    assert set(counted) == {JobName("p", "j1"), JobName("p", "j2")}
    assert counted[names[0]].row.state == ("CANCELED" if ended else "QUEUED")
    operations = [OperationName("p", one.row.operation_id) for one in counted.values()]
    operations += [OperationName("other", operations[0].operation), OperationName("p", "x")]
    by_operation = await database.read(jobs.counted_operations, operations)
    assert {one.row.job_id for one in by_operation.values()} == {"j1", "j2"}
    assert set(by_operation) == set(operations[:2])
    done = await database.read(jobs.ended_operations, operations)
    assert [one.row.job_id for one in done.values()] == ["j1"] * ended
