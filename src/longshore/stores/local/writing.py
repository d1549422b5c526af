"""Putting objects in and deleting them."""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

from longshore import object_rules as rules
from longshore.store import Failure
from longshore.stores.local import contents, rows, soft_deleting
from longshore.stores.local.rows import EXPIRED, FREE, Target, Targets
from longshore.stores.local.transaction import Transaction

_OWN = ("name", "generation", "size", "checksum", "file")
_SHARED = (
    "live",
    "metageneration",
    "retained_from_us",
    "create_time_us",
    "update_time_us",
    *sorted(rules.WRITE_COLUMNS),
)
_INSERT = (
    f"INSERT INTO object ({', '.join(_OWN + _SHARED)})"
    f" VALUES ({', '.join('?' * len(_OWN + _SHARED))})"
)


def shared_values(transaction: Transaction, metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    """What all new objects with ``metadata`` have in common; raises InvalidArgument."""
    now_us = transaction.now_us
    columns = rules.new_object(transaction.bucket, metadata, now_us)
    return (1, 1, now_us, now_us, now_us, *(columns[name] for name in _SHARED[5:]))


def put(
    transaction: Transaction,
    name: bytes,
    new: contents.Content,
    shared: tuple[Any, ...],
    generation: int,
) -> Failure | None:
    """Create or replace the live object, or what protects the one that is there.

    ``shared``: of ``shared_values``.
    """
    failure = rows.make_room(transaction, name)
    if failure is not None:
        return failure
    execute = transaction.connection.execute
    execute(_INSERT, (name, generation, new.size, new.checksum, new.file, *shared))
    if new.file:
        contents.adopt(transaction, new.file)
    elif new.data:
        execute("INSERT INTO inline_content VALUES (?, ?)", (generation, new.data))
    return None


def delete(transaction: Transaction, wanted: Targets, *, permanent: bool) -> dict[int, Failure]:
    """Delete the live objects, or with ``permanent`` just those versions; failures by index."""
    archived = transaction.bucket.versioning and not permanent
    soft = transaction.bucket.soft_delete_seconds > 0

    def quick() -> int:
        if archived:
            where = f"name = ? AND generation = ? AND live AND {FREE}"
            statement = f"UPDATE object SET {rows.NO_MORE_LIVE} WHERE {where}"
            times = repeat(transaction.now_us, len(wanted))
            dated = zip(times, wanted.names, wanted.generations, strict=True)
            return rows.many(transaction, statement, dated)
        live = "" if permanent else "AND live"
        where = f"name = ? AND generation = ? {live} AND {FREE} AND {EXPIRED}"
        bound = rows.expiry(transaction)
        if soft:
            keys = list(wanted.keys())
            done = soft_deleting.keep(transaction, keys, where, bound)
            return rows.many(transaction, rows.DELETE, keys) if done == len(keys) else done
        bounded = zip(wanted.names, wanted.generations, repeat(bound), strict=False)
        done = rows.many(transaction, f"DELETE FROM object WHERE {where} AND file = 0", bounded)
        if done == len(wanted):
            ids = zip(wanted.generations, strict=True)
            rows.many(transaction, "DELETE FROM inline_content WHERE generation = ?", ids)
        return done

    def careful(target: Target) -> Failure | None:
        found = rows.find(transaction, target._replace(live=not permanent))
        if isinstance(found, Failure):
            return found
        return rows.remove(transaction, target.name, found, archived=archived)

    return rows.each(transaction, wanted, quick, careful)
