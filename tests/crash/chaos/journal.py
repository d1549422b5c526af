"""A bucket's own journal: triggers in its file note every change, whoever makes it.

It is written by SQLite in the transaction that makes the change, so it knows what became of the
objects however a process died, and knows nothing of our log, our intents or our counters. Changes
that were undone in a transaction are undone here, too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

_WAIT_SECONDS = 60.0
MEDDLED, LOADED = "meddled-", "loaded"
"""How ``cache_control`` begins on what the meddler and the loader wrote; no job changes it."""

Key = tuple[str, int]
"""Name and generation."""


class Version(NamedTuple):
    """One version of an object: its name as text, the rest as its columns hold them."""

    name: str
    generation: int
    size: int
    temporary_hold: int
    content_type: str
    custom_metadata: str
    contexts: str
    acl: str
    storage_class: str
    cache_control: str

    @property
    def key(self) -> Key:
        return self.name, self.generation


class Change(NamedTuple):
    """A row that was inserted (``old`` None), deleted (``new`` None) or updated. ``number``: the
    last that the bucket had given out by then."""

    sequence: int
    number: int
    old: Version | None
    new: Version | None

    @property
    def name(self) -> str:
        version = self.new or self.old
        assert version is not None
        return version.name


class Snapshot(NamedTuple):
    """The journal since the snapshot before and the live objects, at one moment."""

    changes: list[Change]
    objects: dict[str, Version]


def _columns(row: str) -> str:
    name, *others = Version._fields
    return ", ".join([f"CAST({row}.{name} AS TEXT)", *(f"{row}.{other}" for other in others)])


_NONE = ", ".join(["NULL"] * len(Version._fields))
_NUMBER = "(SELECT last_number FROM bucket)"
_PLACES = [f"{side}_{field}" for side in ("old", "new") for field in Version._fields]
_TABLE = f"""
CREATE TABLE journal (sequence INTEGER PRIMARY KEY AUTOINCREMENT, number, {", ".join(_PLACES)});
CREATE TRIGGER journal_insert AFTER INSERT ON object BEGIN
    INSERT INTO journal SELECT NULL, {_NUMBER}, {_NONE}, {_columns("new")}; END;
CREATE TRIGGER journal_delete AFTER DELETE ON object BEGIN
    INSERT INTO journal SELECT NULL, {_NUMBER}, {_columns("old")}, {_NONE}; END;
CREATE TRIGGER journal_update AFTER UPDATE ON object BEGIN
    INSERT INTO journal SELECT NULL, {_NUMBER}, {_columns("old")}, {_columns("new")}; END;
"""


class Journal:
    """The journal of one bucket. Opens the file anew each time, so any thread may use it."""

    def __init__(self, data_dir: Path, bucket: str) -> None:
        self.bucket = bucket
        (self._file,) = (data_dir / "buckets" / bucket).glob("*/objects.sqlite")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=_WAIT_SECONDS)) as connection, connection:
            yield connection

    def begin(self) -> None:
        """Note every change from now on."""
        with self._open() as connection:
            connection.executescript(f"BEGIN; {_TABLE} COMMIT")

    def take(self, prefix: str) -> Snapshot:
        """What is there of names with ``prefix`` and what happened to them, which is forgotten."""
        within = "BETWEEN ? AND ? || char(0x10FFFF)"
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = connection.execute(
                f"SELECT * FROM journal WHERE COALESCE(old_name, new_name) {within}"
                " ORDER BY sequence",
                (prefix, prefix),
            )
            changes = [_change(row) for row in rows]
            live = connection.execute(
                f"SELECT {_columns('object')} FROM object"
                " WHERE live AND name >= CAST(? AS BLOB) AND name < CAST(? AS BLOB)",
                (prefix, prefix + "\U0010ffff"),
            )
            objects = {row[0]: Version(*row) for row in live}
            connection.execute(
                f"DELETE FROM journal WHERE COALESCE(old_name, new_name) {within}",
                (prefix, prefix),
            )
        return Snapshot(changes, objects)

    def names(self) -> set[str]:
        """What has been changed and not been taken."""
        with self._open() as connection:
            rows = connection.execute("SELECT COALESCE(old_name, new_name) FROM journal")
            return {name for (name,) in rows}

    def kept(self) -> bool:
        """Whether it has begun."""
        with self._open() as connection:
            table = "SELECT 1 FROM sqlite_master WHERE name = 'journal'"
            return connection.execute(table).fetchone() is not None

    def latest(self, prefix: str) -> str | None:
        """The name with ``prefix`` that a job changed last, if that is not long ago."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT COALESCE(old_name, new_name) FROM journal"
                f" WHERE COALESCE(new_cache_control, '') NOT LIKE '{MEDDLED}%'"
                " ORDER BY sequence DESC LIMIT 50"
            )
            return next((name for (name,) in rows if name.startswith(prefix)), None)


def _change(row: tuple[object, ...]) -> Change:
    sequence, number, *values = row
    half = len(Version._fields)
    old, new = (
        None if side[0] is None else Version(*side) for side in (values[:half], values[half:])
    )
    return Change(sequence, number, old, new)  # type: ignore[arg-type]


class Meddled:
    """What the meddler says that it deleted: a deletion is all that carries no mark."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._deleted: set[tuple[str, str, int]] = set()

    def lines(self) -> int:
        """How many lines it has written so far."""
        return self._path.read_bytes().count(b"\n")

    def deleted(self, bucket: str) -> set[Key]:
        """What it deleted in a bucket so far."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._offset += whole
        for line in text[:whole].splitlines():
            entry = json.loads(line)
            if entry.get("did") == "delete":
                self._deleted.add((entry["bucket"], entry["name"], entry["generation"]))
        return {(name, generation) for one, name, generation in self._deleted if one == bucket}


def by_others(changes: list[Change], deleted: set[Key]) -> set[int]:
    """The sequence numbers of changes that no job made: they carry a mark, belong to a replacement
    that carries one, or are in the meddler's own journal (``deleted``)."""
    others: set[int] = set()
    for change, after in zip_longest(changes, changes[1:]):
        old, new = change.old, change.new
        if old is None:
            mine = new is not None and new.cache_control.startswith((MEDDLED, LOADED))
        elif new is not None:
            mine = new.cache_control != old.cache_control
        else:
            mine = old.key in deleted or _replaced(change, after)
        if mine:
            others.add(change.sequence)
    return others


def _replaced(gone: Change, after: Change | None) -> bool:
    """Whether a row went because the next one took its place, in the same transaction: its
    generation had been given out by then."""
    return (
        after is not None
        and after.sequence == gone.sequence + 1
        and after.old is None
        and after.new is not None
        and after.name == gone.name
        and after.new.generation <= gone.number
    )
