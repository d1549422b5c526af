"""The schema of a PostgreSQL that others use changes: who goes on, and what waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection

from longshore.database import Database, schema
from longshore.database.engines import one_connection
from longshore.database.schema import Upgraded
from longshore.database.service_lock import ServiceLock
from longshore.errors import FailedPrecondition
from tests.database import revisions as made_up

if TYPE_CHECKING:
    from tests.services.postgresql import Postgresql

pytestmark = pytest.mark.services


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    yield opened
    await opened.close()


async def test_a_contraction_waits_for_the_end_of_those_who_need_what_it_takes(
    url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.create()
    own = schema.HEAD
    older = [ServiceLock(url, own, shared=True, name=f"longshore {what}") for what in "ab"]
    expanded = made_up.add(tmp_path, monkeypatch, "expand")
    contracted = made_up.add(tmp_path, monkeypatch, "contract")
    current = ServiceLock(url, contracted, shared=True)
    for before in (own, expanded):
        done = await database.write(schema.upgrade)
        assert done[:3] == (before, expanded, contracted)
        assert [name.split(",")[0] for name in sorted(done.users)] == [
            "'longshore a",
            "'longshore b",
        ]
        await database.read(schema.check)
    for one in older:
        one.close()
    async with asyncio.timeout(20):
        while (done := await database.write(schema.upgrade)).left:
            await asyncio.sleep(0.05)  # the server takes a moment to end a session
    assert done == Upgraded(expanded, contracted)
    current.close()


async def test_nobody_older_begins_while_a_contraction_is_under_way(
    url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.create()
    own = schema.HEAD
    made_up.add(tmp_path, monkeypatch, "expand")
    contracted = made_up.add(tmp_path, monkeypatch, "contract")
    with one_connection(url, "an operator") as connection:
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            assert schema.upgrade(connection) == Upgraded(own, contracted)
            with pytest.raises(FailedPrecondition, match="in use"):
                ServiceLock(url, own, shared=True)
            ServiceLock(url, contracted, shared=True).close()
    monkeypatch.undo()
    late = ServiceLock(url, own, shared=True)
    with pytest.raises(FailedPrecondition, match="newer longshore"):
        await database.read(schema.check)
    late.close()


async def test_who_lost_the_lock_looks_at_the_schema_before_it_goes_on(
    url: str,
    database: Database,
    postgresql: Postgresql,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await database.create()
    lock = ServiceLock(url, schema.HEAD, shared=True, again=schema.check)
    name = url.rpartition("/")[2]
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE application_name LIKE 'longshore serve%' AND datname = '{name}'"
    )
    postgresql.ask(cut)
    await _kept(lock)
    with monkeypatch.context() as newer:
        made_up.add(tmp_path, newer, "expand")
        made_up.add(tmp_path, newer, "contract")
        postgresql.ask(cut)
        done = await database.write(schema.upgrade)
        assert done.left is None
    with pytest.raises(FailedPrecondition, match="newer longshore"):
        await _kept(lock)
    lock.close()


async def test_a_look_at_the_schema_that_came_to_nothing_is_taken_again(
    url: str, database: Database, postgresql: Postgresql
) -> None:
    """A server that restarts twice may do so just then."""
    await database.create()
    name = url.rpartition("/")[2]
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE application_name LIKE 'longshore serve%' AND datname = '{name}'"
    )
    looked: list[str | None] = []

    def look(connection: Connection) -> None:
        looked.append(None)
        if len(looked) == 1:
            postgresql.ask(cut)
        looked[-1] = schema.revision(connection)

    lock = ServiceLock(url, schema.HEAD, shared=True, again=look)
    postgresql.ask(cut)
    await _kept(lock)
    assert looked == [None, schema.HEAD]
    lock.close()


async def _kept(lock: ServiceLock) -> None:
    """The lock notices that its session has ended, or takes it anew."""
    from longshore.errors import Unavailable

    for _ in range(5):
        try:
            assert lock.keep()
        except Unavailable:
            continue
        return
    raise AssertionError("the lock is not taken again")


@pytest.mark.parametrize("revision", [schema.INITIAL, "0002"])
async def test_a_service_from_before_there_were_two_halves_must_end_first(
    url: str, database: Database, revision: str
) -> None:
    """It accepts no other schema, and has a lock of number 1 and no more."""
    await database.write(lambda connection: schema.migrate(connection, revision))
    first = ServiceLock(url, schema.INITIAL, shared=True)
    with pytest.raises(FailedPrecondition, match=r"would take .*'longshore serve.*nothing was"):
        await database.write(schema.upgrade)
    assert await database.read(schema.revision) == revision
    first.close()
    async with asyncio.timeout(20):
        while (done := await _upgraded(database)) is None:
            await asyncio.sleep(0.05)
    assert done == Upgraded(revision, schema.HEAD)


async def _upgraded(database: Database) -> Upgraded | None:
    try:
        return await database.write(schema.upgrade)
    except FailedPrecondition:
        return None  # the server takes a moment to end a session
