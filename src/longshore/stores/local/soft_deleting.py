"""Objects that were deleted, and are kept for a while all the same.

They have a table of their own, and keep their content. A bucket's policy at the time of the delete
decides how long; whoever soft-deletes also removes what has been kept long enough, as does a
process when it first writes to the bucket. Until then nobody sees it any more.
"""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longshore import object_rules as rules
from longshore.stores.local import contents
from longshore.stores.local.transaction import Transaction

Key = tuple[bytes, int]
"""The name and generation of a version."""

EXPIRED_AT_ONCE = 1000
"""So that a transaction never takes longer than some milliseconds."""

_KEY = "name = ? AND generation = ?"
_KEPT = ", ".join(
    [
        *("name", "generation", "metageneration", "size", "checksum", "file"),
        *("retained_from_us", "create_time_us", "update_time_us", "delete_time_us"),
        *sorted(rules.WRITE_COLUMNS),
    ]
)


def keep(transaction: Transaction, keys: Sequence[Key], where: str = _KEY, *bounds: Any) -> int:
    """Put copies of those objects of ``keys`` that ``where`` allows among the soft-deleted, for as
    long as the bucket says; how many those are. ``bounds`` are values for ``where``.

    The caller deletes the objects, but for their contents, or gives them other generations.
    """
    expire(transaction)
    now_us = transaction.now_us
    until_us = now_us + transaction.bucket.soft_delete_seconds * 1_000_000
    statement = (
        f"INSERT INTO soft_deleted ({_KEPT}, live, soft_delete_time_us, hard_delete_time_us)"
        f" SELECT {_KEPT}, 0, ?, ? FROM object WHERE {where}"
    )
    rows = [(now_us, until_us, *key, *bounds) for key in keys]
    return transaction.connection.executemany(statement, rows).rowcount


def is_kept(transaction: Transaction, key: Key) -> bool:
    """Whether there is such a version among the soft-deleted."""
    statement = f"SELECT 1 FROM soft_deleted WHERE {_KEY} AND hard_delete_time_us > ?"
    values = (*key, transaction.now_us)
    return transaction.connection.execute(statement, values).fetchone() is not None


def expire(transaction: Transaction) -> None:
    """Remove what has been kept long enough, or EXPIRED_AT_ONCE of it."""
    connection = transaction.connection
    found = connection.execute(
        "SELECT name, generation, file FROM soft_deleted WHERE hard_delete_time_us <= ? LIMIT ?",
        (transaction.now_us, EXPIRED_AT_ONCE),
    ).fetchall()
    keys = [row[:2] for row in found]
    connection.executemany(f"DELETE FROM soft_deleted WHERE {_KEY}", keys)
    for _, generation, file in found:
        contents.release(transaction, generation, file)
