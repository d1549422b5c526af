"""What SQLite alone promises: many processes write, one at a time, and none is turned away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from sqlalchemy import Connection, text

from longshore.database import Database
from longshore.database.tables import shards
from tests.database.rows import row, running

PROCESSES = 8
WRITES = 25

WRITER = """
import asyncio, sys
from pathlib import Path
from longshore.database import Database, leases

async def main(path, shard, attempt, writes):
    database = Database(Path(path))
    alive = [await database.write(leases.renew, {shard: attempt}) for _ in range(writes)]
    await database.close()
    assert all(alive)

asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
"""


async def test_eight_processes_write_and_none_finds_it_locked(tmp_path: Path) -> None:
    path = tmp_path / "longshore.sqlite"
    database = Database(path)
    await database.create()
    (shard,) = await running(database)
    before = (await row(database, shards)).checkpoint
    arguments = (str(path), str(shard.id), str(shard.attempt), str(WRITES))
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, *arguments), stderr=subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    ends = await asyncio.gather(*(writer.communicate() for writer in writers))
    assert [stderr.decode() for _, stderr in ends] == [""] * PROCESSES
    assert (await row(database, shards)).checkpoint == before + PROCESSES * WRITES
    await database.close()


async def test_a_reader_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "longshore.sqlite"
    database = Database(path)
    await database.create()
    reading, written = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(connection: Connection) -> tuple[int, int]:
        count = text("SELECT count(*) FROM jobs")
        first = connection.execute(count).scalar_one()
        loop.call_soon_threadsafe(reading.set)
        asyncio.run_coroutine_threadsafe(written.wait(), loop).result(30)
        return first, connection.execute(count).scalar_one()

    looked = asyncio.create_task(database.read(look))
    await reading.wait()
    await running(database)
    written.set()
    assert await looked == (0, 0), "one consistent view"
    await database.close()


async def test_it_is_durable_and_in_wal_mode(tmp_path: Path) -> None:
    database = Database(tmp_path / "longshore.sqlite")

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names]

    assert await database.write(pragmas) == ["wal", 2, 1]
    await database.close()
