"""The proof that one service alone works on a PostgreSQL database, or only such as share it.

The lock on the data directory proves it for SQLite, which lies inside; another machine has another
data directory.
"""

from __future__ import annotations

import os
import socket
import time

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from longshore.database.engines import one_connection
from longshore.database.failures import trouble
from longshore.errors import FailedPrecondition, Unavailable

_GRACE_SECONDS = 2.0
"""A service that was killed takes a moment to vanish, its session with it."""
_LOCK = {"class": 0x10D65803, "object": 1}  # any two numbers, the same for ever
_TAKE = text("SELECT pg_try_advisory_lock(:class, :object)")
_SHARE = text("SELECT pg_try_advisory_lock_shared(:class, :object)")
_HOLDER = text(
    "SELECT application_name, client_addr FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    " AND CAST(classid AS bigint) = :class AND CAST(objid AS bigint) = :object"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class ServiceLock:
    """A lock of a session of its own: the server lets go of it when the session ends."""

    def __init__(self, url: str, *, shared: bool = False) -> None:
        """``shared``: others that share it may have it, too.

        Raises FailedPrecondition, saying who has it, if it is not free; Unavailable if the
        database cannot be reached."""
        self._url = url
        self._statement = _SHARE if shared else _TAKE
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
        database is down.
        """
        return self._take()

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection.engine.dispose()
            self._connection = None

    def _take(self) -> bool:
        try:
            if self._connection is None:
                self._connection = one_connection(self._url, _name())
            elif self._mine(self._connection):
                return True
            return bool(self._connection.execute(self._statement, _LOCK).scalar_one())
        except DBAPIError as error:
            self.close()
            if trouble(error) is None:
                raise
            why = str(error.orig).strip().partition("\n")[0]
            raise Unavailable(f"The database is down: {why}.") from error

    @staticmethod
    def _mine(connection: Connection) -> bool:
        mine = text(f"{_HOLDER.text} AND pid = pg_backend_pid()")
        return connection.execute(mine, _LOCK).first() is not None

    def _holder(self) -> str:
        found = self._connection and self._connection.execute(_HOLDER, _LOCK).first()
        if not found:
            return "another service"
        address = f" at {found.client_addr}" if found.client_addr else ""
        return f"'{found.application_name}'{address}"


def _name() -> str:
    """Who has the lock, as the server's own views show it; it keeps 63 bytes."""
    return f"longshore serve, process {os.getpid()} on {socket.gethostname()}"[:63]
