"""What an error of a database means for the transaction that met it."""

from __future__ import annotations

from enum import Enum

from sqlalchemy.exc import DBAPIError, OperationalError

_CONFLICTS = frozenset({"40001", "40P01", "55P03", "23505"})
"""SQLSTATEs: not serializable, deadlock, lock not available, a row that is there already: another
transaction has written it since this one looked."""
_DOWN_CLASSES = frozenset({"08", "53", "57", "58"})
"""SQLSTATE classes: connection, no resources (a full disk, too many connections), an operator's
intervention (a restart), the server's machine."""
_READ_ONLY = "25006"  # a standby, or a primary that was told to stop writing
_ENDED = "25P03"  # the server has ended a session that stood still in a transaction
# Busy, locked, memory, read-only, I/O, disk full, can't open.
_SQLITE_DOWN = frozenset({5, 6, 7, 8, 10, 13, 14})


class Trouble(Enum):
    """Why a transaction did not end, where that is nobody's mistake."""

    CONFLICT = "conflict"
    """It met another one and was undone; run again, it sees what the other has written."""
    DOWN = "down"
    """The database does not serve now. Run again later; whether a commit that was under way took
    effect is to be asked first."""


def trouble(error: DBAPIError) -> Trouble | None:
    """What ``error`` means; None: a mistake, which would only be repeated."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return _of_state(state)
    if error.connection_invalidated:
        return Trouble.DOWN
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return Trouble.DOWN if code & 0xFF in _SQLITE_DOWN else None
    # From the driver of PostgreSQL, not its server: refused, not resolved, timed out, cut off.
    driver = type(error.orig).__module__.startswith("psycopg")
    return Trouble.DOWN if driver and isinstance(error, OperationalError) else None


def _of_state(state: str) -> Trouble | None:
    if state in _CONFLICTS:
        return Trouble.CONFLICT
    return Trouble.DOWN if state[:2] in _DOWN_CLASSES or state in (_READ_ONLY, _ENDED) else None
