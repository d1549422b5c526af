"""Putting objects in and deleting them."""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.store import Failure
from longshore.stores.local import contents, rows
from longshore.stores.local.rows import EXPIRED, FREE, Target
from longshore.stores.local.transaction import Transaction


def put(
    transaction: Transaction,
    name: bytes,
    new: contents.Content,
    columns: Mapping[str, Any],
    generation: int,
) -> Failure | None:
    """Create or replace the live object, or what protects the one that is there.

    ``columns``: those of ``object_rules.new_object``.
    """
    now_us = transaction.now_us
    found = rows.find_where(transaction, "name = ? AND live", (name,))
    if found is not None:
        archived = transaction.bucket.versioning
        failure = rows.remove(transaction, name, found, archived=archived)
        if failure is not None:
            return failure
    row = {
        "name": name,
        "generation": generation,
        "live": 1,
        "metageneration": 1,
        "size": new.size,
        "checksum": new.checksum,
        "file": new.file,
        "retained_from_us": now_us,
        "create_time_us": now_us,
        "update_time_us": now_us,
        **columns,
    }
    marks = ", ".join("?" * len(row))
    statement = f"INSERT INTO object ({', '.join(row)}) VALUES ({marks})"
    transaction.connection.execute(statement, tuple(row.values()))
    if new.file:
        contents.adopt(transaction, new.file)
    elif new.data:
        statement = "INSERT INTO inline_content VALUES (?, ?)"
        transaction.connection.execute(statement, (generation, new.data))
    return None


def delete(
    transaction: Transaction, wanted: list[Target], *, permanent: bool
) -> dict[int, Failure]:
    """Delete the live objects, or with ``permanent`` just those versions; failures by index."""
    archived = transaction.bucket.versioning and not permanent

    def quick() -> int:
        keys = [target[:2] for target in wanted]
        if archived:
            where = f"name = ? AND generation = ? AND live AND {FREE}"
            return rows.many(transaction, f"UPDATE object SET live = 0 WHERE {where}", keys)
        live = "" if permanent else "AND live"
        where = f"name = ? AND generation = ? {live} AND file = 0 AND {FREE} AND {EXPIRED}"
        expiry = rows.expiry(transaction)
        bounded = [(*key, expiry) for key in keys]
        done = rows.many(transaction, f"DELETE FROM object WHERE {where}", bounded)
        if done == len(wanted):
            ids = [(target.generation,) for target in wanted]
            rows.many(transaction, "DELETE FROM inline_content WHERE generation = ?", ids)
        return done

    def careful(target: Target) -> Failure | None:
        found = rows.find(transaction, target._replace(live=not permanent))
        if isinstance(found, Failure):
            return found
        return rows.remove(transaction, target.name, found, archived=archived)

    return rows.each(transaction, wanted, quick, careful)
