"""Who cancels tells all others, on PostgreSQL; SQLite has one machine, which asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from longshore.database import Database, jobs
from longshore.database.engines import one_connection
from longshore.database.notices import CANCELLED
from tests.database.rows import running

if TYPE_CHECKING:
    from tests.services.postgresql import Postgresql

SECONDS = 20


class Ears:
    """What was heard, in its order."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str | None] = asyncio.Queue()

    async def next(self) -> str | None:
        async with asyncio.timeout(SECONDS):
            return await self.heard.get()


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    await opened.create()
    yield opened
    await opened.close()


@pytest.mark.services
async def test_a_cancel_is_told_once_to_everybody(database: Database) -> None:
    (shard,) = await running(database)
    ears = [Ears(), Ears()]
    listening = [
        asyncio.create_task(database.listen(CANCELLED, one.heard.put_nowait)) for one in ears
    ]
    assert [await one.next() for one in ears] == [None, None]  # who begins may have missed some
    for _ in range(2):
        await database.write(jobs.cancel_job, shard.job, 9)
    assert [await one.next() for one in ears] == [str(shard.job)] * 2
    assert [one.heard.qsize() for one in ears] == [0, 0]
    for task in listening:
        task.cancel()
    await asyncio.wait(listening)


@pytest.mark.services
async def test_who_loses_the_connection_hears_that_something_may_be_missed(
    database: Database, url: str
) -> None:
    ears = Ears()
    listening = asyncio.create_task(database.listen(CANCELLED, ears.heard.put_nowait))
    assert await ears.next() is None
    with one_connection(url, "another") as other:
        ended = other.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
        )
        assert ended.scalars().all() == [True]
        assert await ears.next() is None
        other.execute(text("SELECT pg_notify(:channel, '17')"), {"channel": CANCELLED})
        assert await ears.next() == "17"
        other.engine.dispose()
    listening.cancel()
    await asyncio.wait({listening})


async def test_nothing_is_told_on_sqlite(tmp_path) -> None:
    sqlite = Database(tmp_path / "longshore.sqlite")
    await sqlite.create()
    (shard,) = await running(sqlite)
    heard: list[str | None] = []
    await sqlite.listen(CANCELLED, heard.append)
    await sqlite.write(jobs.cancel_job, shard.job, 9)
    assert heard == []
    await sqlite.close()
