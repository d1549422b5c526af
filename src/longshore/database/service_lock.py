"""The proof that one service alone works on a PostgreSQL database, or only such as share it; and of
which revisions of the schema those are who do.

The lock on the data directory proves it for SQLite, which lies inside; another machine has another
data directory.

A lock has a class and a number. Number 1 is what a service has alone, or shares. The number of a
revision is shared by all processes that know no newer one; as those of the first two have nothing
but number 1, it is theirs as well.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from longshore.database.engines import one_connection
from longshore.database.failures import trouble
from longshore.errors import FailedPrecondition, Unavailable

_GRACE_SECONDS = 2.0
"""A service that was killed takes a moment to vanish, its session with it."""
_CLASS = 0x10D65803  # any number, the same for ever
_LOCK = {"class": _CLASS, "object": 1}
_TAKE = text("SELECT pg_try_advisory_lock(:class, :object)")
_SHARE = text("SELECT pg_try_advisory_lock_shared(:class, :object)")
_KEEP_OUT = text("SELECT pg_try_advisory_xact_lock(:class, :object)")
_HOLDER = text(
    "SELECT application_name, client_addr FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    " AND CAST(classid AS bigint) = :class AND CAST(objid AS bigint) = :object"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
# Asked by every machine once a second: pg_stat_activity would read all connections of them all.
_MINE = text(
    "SELECT 1 FROM pg_locks WHERE pid = pg_backend_pid()"
    " AND locktype = 'advisory' AND granted AND objsubid = 2"
    " AND CAST(classid AS bigint) = :class AND CAST(objid AS bigint) = :object"
)


class ServiceLock:
    """Locks of a session of its own: the server lets go of them when the session ends."""

    def __init__(
        self,
        url: str,
        revision: str,
        *,
        shared: bool = False,
        name: str = "longshore serve",
        again: Callable[[Connection], None] | None = None,
    ) -> None:
        """``revision``: the newest that this process knows. ``shared``: others that share it may
        have the lock, too. ``again`` is called where it was lost, and is taken anew.

        Raises FailedPrecondition, saying who has it, if it is not free; Unavailable if the
        database cannot be reached."""
        self._url = url
        self._name = f"{name}, process {os.getpid()} on {socket.gethostname()}"
        self._statement = _SHARE if shared else _TAKE
        self._revision = {"class": _CLASS, "object": int(revision)}
        self._again = again
        self._connection: Connection | None = None
        deadline = time.monotonic() + _GRACE_SECONDS
        while not self._take():
            if time.monotonic() > deadline:
                holder = self._holder()
                self.close()
                raise FailedPrecondition(
                    f"The database is in use by {holder}. Stop that service, or set another"
                    " database."
                )
            time.sleep(0.1)

    def keep(self) -> bool:
        """Whether the lock is still, or again, this service's.

        A server that restarts forgets it, so it is taken anew. Raises Unavailable while the
        database is down, and what ``again`` raises.
        """
        before = self._connection
        ours = self._take()
        if ours and self._connection is not before and self._connection and self._again:
            with self._noticing():
                self._again(self._connection)
        return ours

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection.engine.dispose()
            self._connection = None

    def _take(self) -> bool:
        with self._noticing():
            if self._connection is None:
                # The server's own views show the name, of which it keeps 63 bytes.
                self._connection = one_connection(self._url, self._name[:63])
            elif self._mine(self._connection):
                return True
            if not self._connection.execute(self._statement, _LOCK).scalar_one():
                return False
            if self._connection.execute(_SHARE, self._revision).scalar_one():
                return True
            self.close()  # and let go of the other: the schema is being changed
            return False

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Raises Unavailable where the session is lost; the next one begins anew."""
        try:
            yield
        except DBAPIError as error:
            self.close()
            if trouble(error) is None:
                raise
            why = str(error.orig).strip().partition("\n")[0]
            raise Unavailable(f"The database is down: {why}.") from error

    @staticmethod
    def _mine(connection: Connection) -> bool:
        return connection.execute(_MINE, _LOCK).first() is not None

    def _holder(self) -> str:
        holders = _holders(self._connection, _LOCK) if self._connection else []
        return holders[0] if holders else "another service"


def keep_out(connection: Connection, revisions: Iterable[int]) -> list[str]:
    """Who is there that knows no newer revision than one of these; until the transaction ends,
    nobody else like them can begin."""
    there: list[str] = []
    for number in revisions:
        lock = {"class": _CLASS, "object": number}
        if not connection.execute(_KEEP_OUT, lock).scalar_one():
            there += _holders(connection, lock) or [f"a process of revision {number:04}"]
    return there


def _holders(connection: Connection, lock: dict[str, int]) -> list[str]:
    return [
        f"'{row.application_name}'" + (f" at {row.client_addr}" if row.client_addr else "")
        for row in connection.execute(_HOLDER, lock)
    ]
