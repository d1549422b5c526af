"""A copy of an SQLite database as it was at one moment, and the way back to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from longshore.errors import AlreadyExists, FailedPrecondition, NotFound


def back_up(database: Path, target: Path) -> int:
    """Write ``target``, a whole database in one file; gives its size in bytes.

    A service may be working meanwhile: this reads one moment's view and holds nobody up. Raises
    NotFound if there is no database, AlreadyExists if there is a ``target``.
    """
    if not database.exists():
        raise NotFound(f"There is no database {database} to back up.")
    if target.exists():
        raise AlreadyExists(f"{target} exists; choose another file for the backup.")
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as source:
        source.execute("VACUUM INTO ?", (str(partial),))
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)
    return target.stat().st_size


def restore(backup: Path, database: Path) -> None:
    """Put a backup in the place of ``database``, which is kept beside it as ``….replaced``.

    No service may have the data directory. Raises FailedPrecondition if ``backup`` is no sound
    database.
    """
    check_sound(backup)
    partial = database.with_name(f"{database.name}.partial")
    partial.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(partial)) as copy,
    ):
        source.backup(copy)
    _sync(partial)
    if database.exists():
        # The write-ahead log belongs to the old file alone; this folds it in.
        with closing(sqlite3.connect(database)) as old:
            old.execute("PRAGMA journal_mode = DELETE")
        database.rename(database.with_name(f"{database.name}.replaced"))
    partial.rename(database)
    _sync(database.parent)


def check_sound(backup: Path) -> None:
    """Raises NotFound, or FailedPrecondition if it is no sound database of longshore's."""
    if not backup.is_file():
        raise NotFound(f"There is no file {backup}.")
    uri = f"{backup.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as source:
            (answer,) = source.execute("PRAGMA integrity_check(1)").fetchone()
            tables = source.execute("SELECT name FROM sqlite_master WHERE name = 'jobs'").fetchall()
    except sqlite3.DatabaseError as error:
        raise FailedPrecondition(f"{backup} is no SQLite database: {error}.") from error
    if answer != "ok":
        raise FailedPrecondition(f"{backup} is damaged: {answer}.")
    if not tables:
        raise FailedPrecondition(f"{backup} is a database, but none of longshore's.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
