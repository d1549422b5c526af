"""One transaction, run until it is known what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from longshore.database.failures import Trouble, trouble

T = TypeVar("T")

_NUMBER = "SELECT pg_current_xact_id_if_assigned()::text"
_STATUS = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")


class Undecided(Exception):
    """PostgreSQL is still at a commit whose reply was lost."""


class Kept:
    """A connection for each thread, which keeps it: to take one from the pool and to give it back
    costs more than the few statements that it is for. Where one is lost, so are the others."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._mine = threading.local()
        self._all: set[Connection] = set()
        self._losses = 0

    def connection(self) -> Connection:
        """This thread's connection."""
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is not None and self._mine.losses == self._losses:
            return connection
        if connection is not None:
            self._drop()
        self._mine.losses, connection = self._losses, self.engine.connect()
        self._mine.connection = connection
        self._all.add(connection)
        return connection

    def lose(self) -> None:
        """Drop this thread's connection, whatever state it is in, and have the others replaced."""
        self._losses += 1
        if getattr(self._mine, "connection", None) is not None:
            self._drop()

    def _drop(self) -> None:
        connection, self._mine.connection = self._mine.connection, None
        if connection in self._all:
            self._all.remove(connection)
            _end(connection)

    def close(self) -> None:
        """Close all connections, while no thread runs."""
        self._losses += 1
        while self._all:
            _end(self._all.pop())
        self.engine.dispose()


def _end(connection: Connection) -> None:
    """Close it for good; the pool, which may be gone, does not get it back."""
    connection.invalidate()
    connection.close()


class Reading(Generic[T]):
    """A function on one consistent view of the database."""

    def __init__(self, kept: Kept, function: Callable[[Connection], T]) -> None:
        self._kept = kept
        self._function = function

    def attempt(self) -> T:
        """Run it; it may be run again."""
        connection = self._kept.connection()
        try:
            with connection.begin():
                return self._function(connection)
        except DBAPIError:
            self._kept.lose()
            raise


def glance(kept: Kept, function: Callable[[Connection], T]) -> T:
    """``function``, which has one statement, on connections that know no transactions."""
    try:
        return function(kept.connection())
    except DBAPIError:
        kept.lose()
        raise


def jot(kept: Kept, begin: str, function: Callable[[Connection], T | None]) -> T | None:
    """``function``, whose statements are all Prepared, in a transaction of the driver's own, which
    spares the half of a Writing that is not the database's.

    None, and nothing has happened, if that is what it gives. None as well if the database failed:
    then it may have taken effect, so the Writing that follows must be one that does no harm twice.
    """
    try:
        connection = kept.connection()
        dialect, driver = connection.dialect, connection.connection
        if begin:
            driver.cursor().execute(begin)
        answer = function(connection)
        if answer is None:
            dialect.do_rollback(driver)
        else:
            dialect.do_commit(driver)
    except BaseException as error:
        kept.lose()
        if isinstance(error, (DBAPIError, kept.engine.dialect.loaded_dbapi.Error)):
            return None
        raise
    return answer


class Writing(Generic[T]):
    """A function in a transaction that takes effect once, however often it is attempted.

    A failure before the commit has undone everything. When the connection is lost *during* the
    commit, nobody knows; PostgreSQL numbers its transactions and remembers what became of them, so
    the next attempt asks first, and gives the answer of the one that took effect. SQLite runs in
    this process: there a commit that fails has not taken effect.
    """

    def __init__(self, kept: Kept, function: Callable[[Connection], T]) -> None:
        self._kept = kept
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
        connection = self._kept.connection()
        try:
            with connection.begin() as transaction:
                answer = self._function(connection)
                written = self._number(connection)
                try:
                    transaction.commit()
                except DBAPIError:
                    if written is not None:
                        self._doubtful = (written, answer)
                    # What state it is in, nobody knows; SQLite's may still be in the transaction.
                    connection.invalidate()
                    raise
        except DBAPIError as error:
            if trouble(error) is not Trouble.CONFLICT:
                self._kept.lose()
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
        connection = self._kept.connection()
        with connection.begin():
            status = connection.execute(_STATUS, {"number": number}).scalar_one()
        if status == "in progress":
            raise Undecided(number)
        return bool(status == "committed")
