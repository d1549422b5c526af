"""The SQL side: who may run a statement, and when.

Statements are plain functions of a connection, written once in SQLAlchemy Core (``jobs``,
``shards``), so that they can be read, tested and composed without a loop. A Database runs them:
here in threads over SQLite (a synchronous driver there costs a third of aiosqlite).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from longshore.database.tables import metadata

P = ParamSpec("P")
T = TypeVar("T")

READER_THREADS = 3
BUSY_TIMEOUT_SECONDS = 30.0
CACHE_KIB = 256
"""Of each connection: SQLite's own default of 2 MB would count four times in every worker."""
SCHEMA_VERSION = 1


class Database:
    """The service's database. One per process; ``close`` it in the end."""

    def __init__(self, path: Path) -> None:
        """Opens, and if need be makes, the SQLite database at ``path``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._reader = _sqlite_engine(path, "BEGIN", READER_THREADS)
        self._writer = _sqlite_engine(path, "BEGIN IMMEDIATE", 1)
        self._read_threads = ThreadPoolExecutor(READER_THREADS, "database-read")
        self._write_thread = ThreadPoolExecutor(1, "database-write")

    async def create(self) -> None:
        """Make the tables that are missing."""
        await self.write(metadata.create_all)

    async def read(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``function(connection, …)`` on one consistent view of the database."""
        call = partial(_transaction, self._reader, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, call)

    async def write(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``function(connection, …)`` in a transaction: durable once this returns, else undone.

        The write lock is taken at the start, so a function may read, decide and write.
        """
        call = partial(_transaction, self._writer, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._write_thread, call)

    async def close(self) -> None:
        """Wait for what runs and close every connection."""
        self._read_threads.shutdown()
        self._write_thread.shutdown()
        self._reader.dispose()
        self._writer.dispose()


def _transaction(
    engine: Engine, function: Callable[Concatenate[Connection, P], T], *args: Any, **kwargs: Any
) -> T:
    with engine.begin() as connection:
        return function(connection, *args, **kwargs)


def _sqlite_engine(path: Path, begin: str, size: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would begin too late for "read, decide, write".
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
