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

from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from longshore.clock import SystemClock
from longshore.database import Database
from longshore.database.tables import metadata
from tests.simulation.loop import Loop

START_US = 1_788_220_800_000_000
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
            seconds = max(seconds * self._sluggish, min(5.0, self._idle() / 2))
        return await super().wait(event, seconds)


class Trouble:
    """How often a database fails, and what it was asked last."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rate = 0.0
        self.met: list[str] = []

    def draw(self) -> str:
        """What goes wrong with the next transaction: usually nothing, ""."""
        if not self.rate or self.random.random() >= self.rate:
            return ""
        kind = self.random.choice(("statement", "commit", "reply"))
        self.met.append(kind)
        return kind


class _Doomed:
    """The statement at which the running transaction fails; 0: none."""

    left = 0


@event.listens_for(Engine, "before_cursor_execute")
def _before_statement(
    _connection: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: Any
) -> None:
    if _Doomed.left:
        _Doomed.left -= 1
        if not _Doomed.left:
            raise _failure(statement)


def _failure(statement: str) -> OperationalError:
    return OperationalError(statement, {}, sqlite3.OperationalError("disk I/O error"))


class SimulatedDatabase(Database):
    """The production database; its transactions may fail at any statement, at the commit, or after
    it, when only the reply is lost."""

    trouble: Trouble
    loop: Loop
    asked = 0.0

    async def read(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        doom = self.trouble.draw()
        return await super().read(self._doomed(function, doom), *args, **kwargs)

    async def write(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        doom = self.trouble.draw()
        result = await super().write(self._doomed(function, doom), *args, **kwargs)
        if doom == "reply":
            raise _failure("COMMIT, which took effect")
        return result

    def _doomed(self, function: Any, doom: str) -> Any:
        asked = self.loop.time()

        def run(connection: Any, *args: Any, **kwargs: Any) -> Any:
            self.asked = asked
            _Doomed.left = self.trouble.random.randrange(1, 6) if doom == "statement" else 0
            try:
                result = function(connection, *args, **kwargs)
            finally:
                _Doomed.left = 0
            if doom == "commit":
                raise _failure("COMMIT")
            return result

        return run


class Shelf:
    """Databases of one file, used again and again: to open them takes longer than a simulation."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        parent = memory if os.access(memory, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="simulation-", dir=parent))
        self.path = self.directory / "longshore.sqlite"
        self._databases: list[SimulatedDatabase] = []
        asyncio.run(_create(self.path))
        self.watcher = sqlite3.connect(self.path, isolation_level=None)
        self.tables = [table.name for table in reversed(metadata.sorted_tables)]

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
