"""What a process of the simulation has of its own: clocks that err, and a database that fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, event

from longshore.clock import SystemClock
from longshore.database import Database
from longshore.database.tables import metadata
from longshore.database.transaction import Writing
from tests.simulation.loop import Loop

START_US = 1_788_220_800_000_000
_PREFIX = "simulation-"
RATE_ERROR = 1e-3
"""By how much a monotonic clock may run fast or slow."""


class Clock(SystemClock):
    """A wall clock that is wrong and jumps, a monotonic one of another origin that runs a little
    fast or slow, and short waits that end late, as on a busy machine: the later the longer nothing
    has happened, since most of a simulation's work would be polls that find nothing."""

    def __init__(
        self, loop: Loop, random: Random, *, sluggish: float, idle: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._idle = idle
        self._origin = random.uniform(0, 1e6)
        self._rate = random.uniform(1 - RATE_ERROR, 1 + RATE_ERROR)
        self._skew_us = int(random.gauss(0, 30) * 1e6) if random.random() < 0.5 else 0
        self._sluggish = sluggish

    def now_us(self) -> int:
        return START_US + self._skew_us + int(self._loop.time() * 1e6)

    def monotonic(self) -> float:
        return self._origin + self._loop.time() * self._rate

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._skew_us += int(seconds * 1e6)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        if seconds < 0.1:
            seconds = max(seconds * self._sluggish, self._idle())
        return await super().wait(event, seconds)


class Trouble:
    """How often a database fails, and how it has."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rate = 0.0
        self.met: list[str] = []

    def draw(self, *kinds: str) -> str:
        """What goes wrong with the next attempt at a transaction: usually nothing, ""."""
        if not self.rate or self.random.random() >= self.rate:
            return ""
        kind = self.random.choice(kinds)
        self.met.append(kind)
        return kind


class _Doom:
    """What is to go wrong with the running transaction."""

    statements_left = 0
    """The statement at which it fails; 0: none."""
    commit = ""
    """"undone" or "done": the connection is lost at the commit, which has taken effect or not."""


class _Cursor(sqlite3.Cursor):
    """A cursor whose statements may fail."""

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        if _Doom.statements_left:
            _Doom.statements_left -= 1
            if not _Doom.statements_left:
                raise _lost()
        return super().execute(statement, parameters)


class _Connection(sqlite3.Connection):
    """A connection that may be lost at a commit."""

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        doom, _Doom.commit = _Doom.commit, ""
        if doom == "undone":
            self.rollback()
        else:
            super().commit()
        if doom:
            raise _lost()


@event.listens_for(Engine, "do_connect")
def _connect(_dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> None:
    if arguments and _PREFIX in str(arguments[0]):
        options["factory"] = _Connection


def _lost() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("the connection was lost")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


_numbers = itertools.count(1)


class NumberedWriting(Writing[Any]):
    """The production class over a database that numbers its transactions and remembers which were
    committed, as PostgreSQL does: a commit whose reply was lost must be asked for."""

    def _number(self, connection: Connection) -> str | None:
        if not _Doom.commit:
            return None
        number = next(_numbers)  # never used again, even if this one is undone
        connection.exec_driver_sql(f"INSERT INTO commits VALUES ({number})")
        return str(number)

    def _has_committed(self, number: str) -> bool:
        query = f"SELECT 1 FROM commits WHERE number = {int(number)}"
        connection = self._kept.connection()
        with connection.begin():
            return connection.exec_driver_sql(query).first() is not None


class SimulatedDatabase(Database):
    """The production database; each attempt at a transaction may fail at any statement, or lose its
    connection at the commit, which has taken effect or not."""

    trouble: Trouble
    loop: Loop
    asked = 0.0

    def belong(self, clock: Clock, patience_seconds: float) -> None:
        """Begin anew, in another process."""
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._down = False

    async def read(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await super().read(self._doomed(function, "statement"), *args, **kwargs)

    async def write(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        doomed = self._doomed(function, "statement", "done", "undone")
        return await super().write(doomed, *args, **kwargs)

    async def jot(self, quick: Any, thorough: Any, *args: Any, **kwargs: Any) -> Any:
        kinds = ("statement", "done", "undone")
        doomed = (self._doomed(function, *kinds) for function in (quick, thorough))
        return await super().jot(*doomed, *args, **kwargs)

    def _doomed(self, function: Any, *kinds: str) -> Any:
        asked = self.loop.time()

        def run(connection: Any, *args: Any, **kwargs: Any) -> Any:
            self.asked = asked
            doom = self.trouble.draw(*kinds)
            _Doom.commit = ""
            _Doom.statements_left = self.trouble.random.randrange(1, 6) * (doom == "statement")
            try:
                result = function(connection, *args, **kwargs)
            finally:
                _Doom.statements_left = 0
            _Doom.commit = doom if doom in ("done", "undone") else ""
            return result

        return run


class Shelf:
    """Databases of one file, used again and again: to open them takes longer than a simulation."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        parent = memory if os.access(memory, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self.path = self.directory / "longshore.sqlite"
        self._databases: list[SimulatedDatabase] = []
        asyncio.run(_create(self.path))
        self.watcher = sqlite3.connect(self.path, isolation_level=None)
        self.watcher.execute("CREATE TABLE commits (number INTEGER PRIMARY KEY)")
        self.tables = ["commits"] + [table.name for table in reversed(metadata.sorted_tables)]

    def _new(self) -> SimulatedDatabase:
        database = SimulatedDatabase(self.path)
        self._databases.append(database)
        return database

    def databases(self, loop: Loop, trouble: Trouble) -> Iterator[SimulatedDatabase]:
        """Fresh connections to an empty database, as many as are asked for."""
        self.watcher.execute("BEGIN IMMEDIATE")
        for table in (*self.tables, "sqlite_sequence"):
            self.watcher.execute(f"DELETE FROM {table}")
        self.watcher.execute("COMMIT")
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        for number in itertools.count():
            database = self._databases[number] if number < len(self._databases) else self._new()
            database.trouble, database.loop = trouble, loop
            yield database

    def close(self) -> None:
        for database in self._databases:
            with contextlib.suppress(StopIteration):
                database.close().send(None)
        self.watcher.close()
        shutil.rmtree(self.directory, ignore_errors=True)


async def _create(path: Path) -> None:
    database = Database(path)
    await database.create()
    await database.close()
