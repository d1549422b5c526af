"""Reads of one statement, without a transaction."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from longshore.database import Database
from longshore.database.tables import jobs as table
from longshore.errors import NotFound
from tests.database.rows import create, new_job

COUNT = select(table.c.job_id).order_by(table.c.job_id)


def names(connection: Connection) -> list[str] | None:
    return list(connection.scalars(COUNT)) or None


def none_yet(connection: Connection) -> list[str]:
    assert connection.in_transaction()
    return [*connection.scalars(COUNT), "none"]


async def test_a_glance_sees_what_has_been_written(database: Database) -> None:
    """Also where an earlier one has looked: it keeps its connection, and no view of the past."""
    assert await database.glance(names, none_yet) == ["none"]
    for number in range(5):
        await create(database, new_job(f"j{number}"))
        found = await asyncio.gather(*(database.glance(names, none_yet) for _ in range(10)))
        assert found == [[f"j{n}" for n in range(number + 1)]] * 10


async def test_an_error_of_the_function_is_that_of_the_glance(database: Database) -> None:
    def missing(_connection: Connection) -> str:
        raise NotFound("It is not there.")

    for _ in range(5):
        with pytest.raises(NotFound):
            await database.glance(missing, missing)
    assert await database.glance(names, none_yet) == ["none"]


async def test_a_glance_goes_on_when_its_connections_are_cut(database_at: Path | str) -> None:
    database = Database(database_at, patience_seconds=60)
    await database.create()
    await create(database)

    def cut(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(
                text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            )

    for _ in range(5):
        assert await database.glance(names, none_yet) == ["j"]
        await database.write(cut)
    assert await database.glance(names, none_yet) == ["j"]
    await database.close()
