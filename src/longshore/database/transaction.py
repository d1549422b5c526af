"""One transaction, run until it is known what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

_NUMBER = "SELECT pg_current_xact_id_if_assigned()::text"
_STATUS = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")


class Undecided(Exception):
    """PostgreSQL is still at a commit whose reply was lost."""


class Reading(Generic[T]):
    """A function on one consistent view of the database."""

    def __init__(self, engine: Engine, function: Callable[[Connection], T]) -> None:
        self._engine = engine
        self._function = function

    def attempt(self) -> T:
        """Run it; it may be run again."""
        with self._engine.begin() as connection:
            return self._function(connection)


class Glances:
    """A connection without transactions for each thread, which keeps it: to take one from the pool
    and to begin and end a transaction costs more than the one statement that it is for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mine = threading.local()
        self._all: set[Connection] = set()

    def run(self, function: Callable[[Connection], T]) -> T:
        """``function`` on this thread's connection."""
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self._engine.connect()
            self._all.add(connection)
        try:
            return function(connection)
        except DBAPIError:
            # Whatever state it is in: the next one gets another.
            del self._mine.connection
            self._all.discard(connection)
            connection.invalidate()
            connection.close()
            raise

    def close(self) -> None:
        """Close all connections, when no thread runs any more."""
        for connection in self._all:
            connection.close()
        self._engine.dispose()


class Writing(Generic[T]):
    """A function in a transaction that takes effect once, however often it is attempted.

    A failure before the commit has undone everything. When the connection is lost *during* the
    commit, nobody knows; PostgreSQL numbers its transactions and remembers what became of them, so
    the next attempt asks first, and gives the answer of the one that took effect. SQLite runs in
    this process: there a commit that fails has not taken effect.
    """

    def __init__(self, engine: Engine, function: Callable[[Connection], T]) -> None:
        self._engine = engine
        self._function = function
        self._doubtful: tuple[str, T] | None = None

    def attempt(self) -> T:
        """Run it, or find that it has taken effect; after an error it may be attempted again.

        Raises Undecided when that cannot be known yet.
        """
        if self._doubtful is not None:
            number, answer = self._doubtful
            if self._has_committed(number):
                return answer
            self._doubtful = None
        with self._engine.connect() as connection, connection.begin() as transaction:
            answer = self._function(connection)
            written = self._number(connection)
            try:
                transaction.commit()
            except DBAPIError:
                # What state it is in, nobody knows; SQLite's may still be in the transaction.
                connection.invalidate()
                if written is not None:
                    self._doubtful = (written, answer)
                raise
        return answer

    def _number(self, connection: Connection) -> str | None:
        """The transaction's number if it has written anything and the database has numbers.

        This is also the one statement of a transaction that does nothing else, and fails on a
        server that takes no writes.
        """
        if connection.dialect.name != "postgresql":
            return None
        number = connection.exec_driver_sql(_NUMBER).scalar_one()
        return None if number is None else str(number)

    def _has_committed(self, number: str) -> bool:
        with self._engine.begin() as connection:
            status = connection.execute(_STATUS, {"number": number}).scalar_one()
        if status == "in progress":
            raise Undecided(number)
        return bool(status == "committed")
