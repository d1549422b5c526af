"""Connections that break just where a test wants it: around the commit.

Nothing of ours is replaced: what is cut is the driver's own call, as a network would cut it. On
PostgreSQL the connection is really closed; SQLite runs in the process, so there a failing disk is
what can happen, and only before the commit has taken effect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from longshore.database import Database


@contextmanager
def cut(database: Database, *, after: bool, times: int = 1) -> Iterator[list[str]]:
    """The next ``times`` commits of writes lose their connection, ``after`` they took effect or
    before; what is given has an entry for each that did."""
    dialect: Any = database._writer.engine.dialect
    commit = dialect.do_commit
    cuts: list[str] = []

    def do_commit(connection: Any) -> None:
        if len(cuts) == times:
            commit(connection)
            return
        cuts.append(dialect.name)
        if after:
            commit(connection)
        if dialect.name == "sqlite":
            failure = sqlite3.OperationalError("disk I/O error")
            failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise failure
        connection.driver_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    dialect.do_commit = do_commit
    try:
        yield cuts
    finally:
        del dialect.do_commit
