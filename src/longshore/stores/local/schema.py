"""The tables of a bucket's database, and how a connection to it is opened.

Measured choices (docs/decisions/0030): pages of 16 KiB without row ids, because names may take
1,024 bytes; small contents in a table of their own, so that a listing never reads past them;
synchronous=FULL, so that what was answered survives a power cut.
"""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from longshore.errors import FailedPrecondition
from longshore.store import Bucket

DATABASE = "objects.sqlite"
CONTENT = "content"
VERSION = 3
CACHE_KIB = 256
"""Pages that a connection keeps. A batch is a range of names, or else looks up too many places for
any cache: more than this made no verb faster, and a worker may have several buckets open."""
BUSY_SECONDS = 60.0
"""How long one process waits for the others' transactions, each of which takes milliseconds."""

_OF_AN_OBJECT = """
    name BLOB NOT NULL,            -- UTF-8, so that order is the order of its bytes
    generation INTEGER NOT NULL,
    live INTEGER NOT NULL,         -- at most one of a name, and then its greatest generation
    metageneration INTEGER NOT NULL,
    size INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    file INTEGER NOT NULL,         -- the file with the content; 0: the row of inline_content
    retained_from_us INTEGER NOT NULL,
    temporary_hold INTEGER NOT NULL,
    event_based_hold INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    content_encoding TEXT NOT NULL,
    content_language TEXT NOT NULL,
    content_disposition TEXT NOT NULL,
    cache_control TEXT NOT NULL,
    custom_time_us INTEGER NOT NULL,
    retention TEXT NOT NULL,
    custom_metadata TEXT NOT NULL,
    contexts TEXT NOT NULL,
    acl TEXT NOT NULL,
    storage_class TEXT NOT NULL,
    kms_key TEXT NOT NULL,
    create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL,
    digests TEXT NOT NULL DEFAULT '',
    delete_time_us INTEGER NOT NULL DEFAULT 0,  -- when the version ceased to be live
"""
TABLES = f"""
CREATE TABLE bucket (
    create_time_us INTEGER NOT NULL,
    versioning INTEGER NOT NULL,
    retention_period_seconds INTEGER NOT NULL,
    uniform_access INTEGER NOT NULL,
    default_event_based_hold INTEGER NOT NULL,
    location TEXT NOT NULL DEFAULT '',
    labels TEXT NOT NULL DEFAULT '',
    autoclass INTEGER NOT NULL DEFAULT 0,
    soft_delete_seconds INTEGER NOT NULL DEFAULT 0,
    attributes TEXT NOT NULL DEFAULT '',
    last_number INTEGER NOT NULL,  -- the greatest generation or file number given out
    deleted INTEGER NOT NULL       -- 1: the bucket is gone, whoever still has it open
);
CREATE TABLE object ({_OF_AN_OBJECT} PRIMARY KEY (name, generation DESC)) WITHOUT ROWID;
CREATE TABLE inline_content (generation INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE gc (file INTEGER PRIMARY KEY);  -- files that no object has: not yet, or no longer
"""
RULES = (
    "create_time_us",
    "versioning",
    "retention_period_seconds",
    "uniform_access",
    "default_event_based_hold",
    "location",
    "labels",
    "autoclass",
    "soft_delete_seconds",
    "attributes",
)
"""The columns of ``bucket`` that are fields of store.Bucket."""
_RULE_TYPES: tuple[type, ...] = (int, bool, int, bool, bool, str, str, bool, int, str)

_SINCE_VERSION_1 = (
    "ALTER TABLE bucket ADD COLUMN location TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE bucket ADD COLUMN labels TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE bucket ADD COLUMN autoclass INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bucket ADD COLUMN soft_delete_seconds INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bucket ADD COLUMN attributes TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE object ADD COLUMN digests TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE object ADD COLUMN delete_time_us INTEGER NOT NULL DEFAULT 0",
)
_SINCE_VERSION_2 = (
    # A table of its own, so that nobody who lists or reads objects meets one that is deleted.
    f"CREATE TABLE soft_deleted ({_OF_AN_OBJECT}"
    " soft_delete_time_us INTEGER NOT NULL, hard_delete_time_us INTEGER NOT NULL,"
    " PRIMARY KEY (name, generation DESC)) WITHOUT ROWID",
    "CREATE INDEX soft_deleted_end ON soft_deleted (hard_delete_time_us)",
    # Who else has a file: versions share one after a rewrite, a restore or a move.
    "CREATE INDEX object_file ON object (file) WHERE file > 0",
    "CREATE INDEX soft_deleted_file ON soft_deleted (file) WHERE file > 0",
)
_UPGRADES = {1: _SINCE_VERSION_1, 2: _SINCE_VERSION_2}
"""What makes the tables of each older version those of the next."""


def create(home: Path, bucket: Bucket) -> None:
    """Make the database and the folder for contents in the empty folder ``home``, durably."""
    (home / CONTENT).mkdir()
    connection = sqlite3.connect(home / DATABASE, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        tables = f"{TABLES}{'; '.join(_SINCE_VERSION_2)};"
        connection.executescript(f"BEGIN; {tables} PRAGMA user_version = {VERSION}; COMMIT")
        connection.execute(
            "INSERT INTO bucket (create_time_us, versioning, retention_period_seconds,"
            " uniform_access, default_event_based_hold, last_number, deleted)"
            " VALUES (0, 0, 0, 0, 0, 0, 0)"
        )
        write_rules(connection, bucket)
    finally:
        connection.close()
    sync_folder(home)


def connect(home: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to the database in ``home``, for the thread that calls.

    Raises FileNotFoundError if there is none, FailedPrecondition if a newer longshore made it.
    """
    path = home / DATABASE
    path.stat()
    uri = f"file:{quote(os.fspath(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _upgrade(connection)
        _check_version(path, connection)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        # The database, its log and its index are open now. If the file still lies where it was
        # found, they are of one bucket, and the mark of a deletion will be seen through them.
        path.stat()
    except BaseException:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables of an older version up to date; no row is written, but the index of files
    is made."""
    if connection.execute("PRAGMA user_version").fetchone()[0] not in _UPGRADES:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        while version in _UPGRADES:  # nobody was faster
            for statement in _UPGRADES[version]:
                connection.execute(statement)
            version += 1
            connection.execute(f"PRAGMA user_version = {version}")


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise FailedPrecondition(
            f"{path} has version {version} of the tables, this longshore knows {VERSION}: use the"
            " longshore that made it."
        )


def read_rules(connection: sqlite3.Connection, name: str) -> Bucket | None:
    """The bucket, called ``name``, in whose database this is; None if it is marked as deleted."""
    row = connection.execute(f"SELECT {', '.join(RULES)}, deleted FROM bucket").fetchone()
    *values, deleted = row
    rules = {
        rule: kind(value) for rule, kind, value in zip(RULES, _RULE_TYPES, values, strict=True)
    }
    return None if deleted else Bucket(name=name, **rules)


def write_rules(connection: sqlite3.Connection, bucket: Bucket) -> None:
    """Set the rules of the bucket in whose database this is."""
    assignments = ", ".join(f"{rule} = ?" for rule in RULES)
    values = [getattr(bucket, rule) for rule in RULES]
    connection.execute(f"UPDATE bucket SET {assignments}", values)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
