"""What errors mean: met, down, or a mistake."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from longshore.database.failures import Trouble, trouble


def of(kind: type[DBAPIError], original: BaseException, *, lost: bool = False) -> Trouble | None:
    return trouble(kind("SELECT 1", {}, original, connection_invalidated=lost))


@pytest.mark.parametrize(
    ("state", "meant"),
    [
        ("40001", Trouble.CONFLICT),
        ("40P01", Trouble.CONFLICT),
        ("23505", Trouble.CONFLICT),
        ("23503", None),
        ("42P01", None),
        ("22P02", None),
        ("08006", Trouble.DOWN),
        ("53100", Trouble.DOWN),  # disk full
        ("53300", Trouble.DOWN),  # too many connections
        ("57P01", Trouble.DOWN),  # admin shutdown
        ("57P03", Trouble.DOWN),  # cannot connect now
        ("58030", Trouble.DOWN),  # I/O error
        ("25006", Trouble.DOWN),  # read-only: a standby
    ],
)
def test_a_state_of_postgresql(state: str, meant: Trouble | None) -> None:
    assert of(OperationalError, psycopg.errors.lookup(state)("no")) is meant


def test_a_connection_of_postgresql_that_was_never_made_or_is_lost() -> None:
    assert of(OperationalError, psycopg.OperationalError("connection refused")) is Trouble.DOWN
    assert of(ProgrammingError, psycopg.ProgrammingError("no"), lost=True) is Trouble.DOWN
    assert of(ProgrammingError, psycopg.ProgrammingError("no")) is None


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        (sqlite3.SQLITE_BUSY, Trouble.DOWN),
        (sqlite3.SQLITE_FULL, Trouble.DOWN),
        (sqlite3.SQLITE_READONLY_DIRECTORY, Trouble.DOWN),
        (sqlite3.SQLITE_IOERR_FSYNC, Trouble.DOWN),
        (sqlite3.SQLITE_CANTOPEN, Trouble.DOWN),
        (sqlite3.SQLITE_ERROR, None),
        (sqlite3.SQLITE_CORRUPT, None),
    ],
)
def test_a_code_of_sqlite(code: int, meant: Trouble | None) -> None:
    original = sqlite3.OperationalError("no")
    original.sqlite_errorcode = code
    assert of(OperationalError, original) is meant


def test_a_row_that_is_there_already_is_a_mistake_on_sqlite() -> None:
    original = sqlite3.IntegrityError("UNIQUE constraint failed")
    original.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert of(IntegrityError, original) is None
