"""What the verbs share: the rows of a batch, quick and careful work on them, looking and removing.

A verb first takes its batch in one statement (*quick*), whose WHERE names everything that surely
allows the change. If that reaches as many rows as the batch has, all is done. If not, it is undone
and, in the same transaction, each object is read, judged by object_rules and changed (*careful*),
in the order of the batch, so that what an earlier row did counts for a later one of the same name.
"""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from longshore import object_rules as rules
from longshore.embedded import Check
from longshore.store import ABSENT, Batch, Failure
from longshore.stores.local import contents, soft_deleting
from longshore.stores.local.reading import decode, encode, there
from longshore.stores.local.soft_deleting import Key
from longshore.stores.local.transaction import Transaction

MAX_ROWS = 1000
"""Rows of one write transaction; so the others never wait longer than some milliseconds."""

FREE = "NOT temporary_hold AND NOT event_based_hold"
"""No hold is in the way."""

EXPIRED = "retention = '' AND retained_from_us <= ?"
"""No retention is in the way, given the value of ``expiry``."""

DELETE = "DELETE FROM object WHERE name = ? AND generation = ?"
NO_MORE_LIVE = "live = 0, delete_time_us = ?"
"""How a version becomes noncurrent, given the time."""

_ALWAYS = 1 << 62
_ROW = ("generation", "live", "metageneration", "file", *rules.Guard._fields)


class Target(NamedTuple):
    """One row of a batch; ``live``: it means the live object, not just any version."""

    name: bytes
    generation: int
    metageneration: int
    live: bool


@dataclass(frozen=True, slots=True)
class Targets:
    """The rows of a batch as columns; see Target."""

    names: list[bytes]
    generations: list[int]
    metagenerations: list[int]
    live: list[bool]

    @staticmethod
    def of(batch: Batch) -> Targets:
        """The rows of ``batch``. Without a column ``live`` they mean live objects."""
        live = batch.columns.get("live") or [True] * len(batch)
        names = [encode(name) for name in batch.names]
        return Targets(names, batch.generations, batch.metagenerations, live)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Target]:
        columns = (self.names, self.generations, self.metagenerations, self.live)
        return map(Target, *columns)

    def part(self, start: int, count: int) -> Targets:
        """At most ``count`` rows from ``start`` on."""
        end = start + count
        columns = (self.names, self.generations, self.metagenerations, self.live)
        return Targets(*(column[start:end] for column in columns))  # type: ignore[arg-type]

    def keys(self) -> Iterator[Key]:
        """Name and generation of each row."""
        return zip(self.names, self.generations, strict=True)


def look(transaction: Transaction, name: str, generation: int, check: Check) -> Batch:
    """What is there of one object, as ``reading.there``, once ``check`` has been asked about it."""
    found = there(transaction, names=[name], generations=[generation], columns=("live",))
    check(found.generations[0], found.metagenerations[0])
    return found


def change_one(
    transaction: Transaction,
    name: str,
    generation: int,
    *,
    check: Check,
    verb: Callable[[Transaction, Targets], dict[int, Failure]],
) -> Batch:
    """Do ``verb`` to one version, or the live object for ABSENT, and give what there was.

    Raises NotFound, what ``check`` raises, and what keeps ``verb`` from being done.
    """
    found = there(transaction, names=[name], generations=[generation], columns=("live",))
    if found.generations == [ABSENT]:
        raise rules.error_of(rules.missing(path(transaction, encode(name)), live=False))
    check(found.generations[0], found.metagenerations[0])
    for failure in verb(transaction, Targets.of(found)).values():
        raise rules.error_of(failure)
    return found


def each(
    transaction: Transaction,
    wanted: Targets,
    quick: Callable[[], int],
    careful: Callable[[Target], Failure | None],
) -> dict[int, Failure]:
    """The failures by index of a batch that was taken quickly or else carefully.

    ``quick`` gives how many rows it reached, ``careful`` what kept a target from being done.
    """
    execute = transaction.connection.execute
    execute("SAVEPOINT quick")
    try:
        done = quick()
    except sqlite3.IntegrityError:  # a map grew too large, see patching; or a row came twice
        done = -1
    if done == len(wanted):
        execute("RELEASE quick")
        return {}
    execute("ROLLBACK TO quick")
    execute("RELEASE quick")
    failures = enumerate(map(careful, wanted))
    return {index: failure for index, failure in failures if failure is not None}


def many(transaction: Transaction, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """How many rows of the table one statement reached, done once for each of ``rows``."""
    return transaction.connection.executemany(statement, rows).rowcount


def find(transaction: Transaction, target: Target) -> dict[str, Any] | Failure:
    """What is known of the version that ``target`` means; or that it is not there."""
    found = find_where(transaction, "name = ? AND generation = ?", target[:2])
    if found is not None and (found["live"] or not target.live):
        return found
    live = find_where(transaction, "name = ? AND live", (target.name,)) is not None
    return rules.missing(path(transaction, target.name), live=live)


def find_where(
    transaction: Transaction, where: str, values: Iterable[Any]
) -> dict[str, Any] | None:
    """What is known of the version that fits ``where``."""
    statement = f"SELECT {', '.join(_ROW)} FROM object WHERE {where}"
    row = transaction.connection.execute(statement, tuple(values)).fetchone()
    return dict(zip(_ROW, row, strict=True)) if row else None


def remove(
    transaction: Transaction, name: bytes, found: Mapping[str, Any], *, archived: bool
) -> Failure | None:
    """Delete a version with its content, soft where the bucket says so, or make it noncurrent; or
    what forbids that."""
    failure = refuse_removal(transaction, name, found, archived=archived)
    if failure is not None:
        return failure
    execute = transaction.connection.execute
    key = (name, found["generation"])
    if archived:
        execute(
            f"UPDATE object SET {NO_MORE_LIVE} WHERE name = ? AND generation = ?",
            (transaction.now_us, *key),
        )
        return None
    if transaction.bucket.soft_delete_seconds:
        soft_deleting.keep(transaction, [key])
        execute(DELETE, key)
    else:
        execute(DELETE, key)
        contents.release(transaction, key[1], found["file"])
    return None


def make_room(transaction: Transaction, name: bytes) -> Failure | None:
    """Let the live object of a name, if there is one, go as what replaces it makes it go; or what
    forbids that."""
    found = find_where(transaction, "name = ? AND live", (name,))
    if found is None:
        return None
    return remove(transaction, name, found, archived=transaction.bucket.versioning)


def refuse_removal(
    transaction: Transaction, name: bytes, found: Mapping[str, Any], *, archived: bool
) -> Failure | None:
    """What forbids to remove a version; see object_rules."""
    return rules.refuse_removal(
        path(transaction, name),
        rules.Guard(*(found[field] for field in rules.Guard._fields)),
        transaction.bucket.retention_period_seconds,
        transaction.now_us,
        archived=archived,
    )


def expiry(transaction: Transaction) -> int:
    """What was in the bucket at this time at the latest is not retained by the bucket any more."""
    period_us = transaction.bucket.retention_period_seconds * 1_000_000
    return transaction.now_us - period_us if period_us else _ALWAYS


def path(transaction: Transaction, name: bytes) -> str:
    """How messages call an object."""
    return f"{transaction.bucket.name}/{decode(name)}"
