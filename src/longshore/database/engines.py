"""How connections are made: to a file of SQLite, to a server of PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from longshore.errors import FailedPrecondition

BUSY_TIMEOUT_SECONDS = 30.0
CACHE_KIB = 256
"""Of each connection: SQLite's own default of 2 MB would count four times in every worker."""
_BEGIN = "BEGIN IMMEDIATE"
_DRIVER = "postgresql+psycopg"
_CONNECT: dict[str, Any] = {
    "application_name": "longshore",
    "connect_timeout": 5,
    # Both sides notice within half a minute that the other's machine has vanished: longshore, to
    # connect anew; the server, to let go of what a dead service had locked.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "options": " ".join(
        f"-c {name}={value}"
        for name, value in {
            "tcp_keepalives_idle": 10,
            "tcp_keepalives_interval": 5,
            "tcp_keepalives_count": 3,
            "idle_in_transaction_session_timeout": "60s",
        }.items()
    ),
}


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


_JSON: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": orjson.loads}
"""Several columns of each checkpoint are JSON."""


class Engines(NamedTuple):
    """A database's ways in, and how many threads may use each at a time. ``glancer``, which has as
    many as ``reader``, knows no transactions: every statement is one. ``begin``: how the driver is
    told to begin a transaction that writes; "": it is not."""

    reader: Engine
    glancer: Engine
    reader_threads: int
    writer: Engine
    writer_threads: int
    begin: str


def sqlite(path: Path) -> Engines:
    """Of the file ``path``, which is made if need be. One transaction writes at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    readers = 3
    return Engines(
        _sqlite_engine(path, "BEGIN", readers),
        _sqlite_engine(path, None, readers),
        readers,
        _sqlite_engine(path, _BEGIN, 1),
        1,
        _BEGIN,
    )


def postgresql(url: str) -> Engines:
    """Of the server and database that ``url`` names: one pool, with a connection per thread, and
    another of as many as glance.

    Raises FailedPrecondition where the driver is not installed.
    """
    readers, writers = 2, 3
    engine = _postgresql_engine(
        url, poolclass=QueuePool, pool_size=readers + writers, max_overflow=0
    )
    return Engines(
        engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True),
        _postgresql_engine(
            url,
            poolclass=QueuePool,
            pool_size=readers,
            max_overflow=0,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
        ),
        readers,
        engine.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False),
        writers,
        "",
    )


def one_connection(url: str, application_name: str) -> Connection:
    """A connection to PostgreSQL of its own, without transactions."""
    engine = _postgresql_engine(url, application_name, poolclass=NullPool)
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


class LostConnection(Exception):
    """A listener's connection cannot be had, or is no more."""


@asynccontextmanager
async def listener(url: str, channel: str) -> AsyncIterator[AsyncIterator[str]]:
    """What is told on a channel of PostgreSQL from now on, each word once; raises LostConnection.

    Of psycopg's own kind for asyncio: SQLAlchemy has no way to wait for the server's word.
    """
    import psycopg  # only where there is PostgreSQL
    from psycopg import sql

    parsed, arguments = _where(url, "longshore")
    _, given = parsed.get_dialect()().create_connect_args(parsed)
    try:
        connection = await psycopg.AsyncConnection.connect(**given, **arguments, autocommit=True)
        async with connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            yield (notice.payload async for notice in connection.notifies())
    except psycopg.Error as error:
        raise LostConnection(str(error)) from error


def _where(url: str, application_name: str) -> tuple[URL, dict[str, Any]]:
    """The server's URL, and what else a connection is given that it does not say."""
    parsed = make_url(url).set(drivername=_DRIVER)
    given = {**_CONNECT, "application_name": application_name}
    return parsed, {key: value for key, value in given.items() if key not in parsed.query}


def _postgresql_engine(url: str, application_name: str = "longshore", **options: Any) -> Engine:
    if find_spec("psycopg") is None:
        raise FailedPrecondition(
            "PostgreSQL needs its driver, which is not installed:"
            " pip install 'longshore[postgresql]'."
        )
    parsed, arguments = _where(url, application_name)
    return create_engine(
        parsed, connect_args=arguments, use_native_hstore=False, **_JSON, **options
    )


def _sqlite_engine(path: Path, begin: str | None, size: int) -> Engine:
    """``begin``: how a transaction begins; None: there are none."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        **_JSON,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would begin too late for "read, decide, write".
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    if begin is not None:

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # Not by SQLAlchemy's way, which takes longer than the statement.
            try:
                connection.connection.cursor().execute(begin)
            except sqlite3.OperationalError as error:
                raise OperationalError(begin, None, error) from error

    return engine
