"""Changing the metadata of objects."""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any

from longshore import object_rules as rules
from longshore.patch import MapPatch, Patch
from longshore.store import Failure
from longshore.stores.local import rows
from longshore.stores.local.rows import Target, Targets
from longshore.stores.local.transaction import Transaction

_RESTART_RETENTION = (
    "retained_from_us = CASE WHEN event_based_hold THEN ? ELSE retained_from_us END"
)
"""Releasing the event-based hold restarts the clock of the bucket's retention."""


def patch(
    transaction: Transaction, wanted: Targets, change: Patch, *, match_metageneration: bool
) -> dict[int, Failure]:
    """Change the metadata of each target; failures by index."""
    refused = rules.refuse_patch(transaction.bucket, change, transaction.now_us)
    changes = change.changes()

    def quick() -> int:
        if refused or not changes:
            return 0
        return _patch_all(transaction, wanted, changes, match_metageneration=match_metageneration)

    def careful(target: Target) -> Failure | None:
        found = rows.find(transaction, target)
        if isinstance(found, Failure):
            return found
        if match_metageneration and found["metageneration"] != target.metageneration:
            return rules.moved(rows.path(transaction, target.name))
        return refused or _patch_one(transaction, target, change)

    return rows.each(transaction, wanted, quick, careful)


def _patch_all(
    transaction: Transaction,
    wanted: Targets,
    changes: Mapping[str, Any],
    *,
    match_metageneration: bool,
) -> int:
    """How many targets the one statement reached. A map that broke a limit is NULL, which its
    column refuses with an IntegrityError."""
    assignments = ["metageneration = metageneration + 1", "update_time_us = ?"]
    values: list[Any] = [transaction.now_us]
    guards: list[str] = []
    guard_values: list[Any] = []
    for name, value in changes.items():
        if isinstance(value, MapPatch):
            assignments.append(f"{name} = patched('{name}', {name})")
            transaction.map_patches[name] = _memoised(name, value)
            continue
        assignments.append(f"{name} = ?")
        values.append(value)
        if name == "custom_time_us":
            guards.append("custom_time_us <= ?" if value else "custom_time_us = ?")
            guard_values.append(value)
        if name == "retention" or (name == "event_based_hold" and value):
            guards.append("retention = '' AND NOT event_based_hold")
        if name == "event_based_hold" and not value:
            assignments.append(_RESTART_RETENTION)
            values.append(transaction.now_us)
    columns: list[Iterable[Any]] = [repeat(value) for value in values]
    columns += [wanted.names, wanted.generations, wanted.live]
    where = ["name = ?", "generation = ?", "live >= ?"]
    if match_metageneration:
        where.append("metageneration = ?")
        columns.append(wanted.metagenerations)
    columns += [repeat(value) for value in guard_values]
    condition = " AND ".join(where + guards)
    statement = f"UPDATE object SET {', '.join(assignments)} WHERE {condition}"
    return rows.many(transaction, statement, zip(*columns, strict=False))


def _memoised(column: str, change: MapPatch) -> Callable[[str], str | None]:
    known: dict[str, str | None] = {}

    def patched(text: str) -> str | None:
        if text not in known:
            after = change.apply(text)
            large = column == "custom_metadata" and rules.metadata_too_large(after)
            known[text] = None if large else after
        return known[text]

    return patched


def _patch_one(transaction: Transaction, target: Target, change: Patch) -> Failure | None:
    changes = change.changes()
    read = (*{*changes, *rules.CHANGE_COLUMNS},)
    statement = f"SELECT {', '.join(read)} FROM object WHERE name = ? AND generation = ?"
    values = transaction.connection.execute(statement, target[:2]).fetchone()
    before = dict(zip(read, values, strict=True))
    after = rules.apply_changes(before, changes)
    failure = rules.refuse_change(
        rows.path(transaction, target.name),
        before,
        after,
        override=change.override_unlocked_retention,
    )
    if failure is not None:
        return failure
    set_ = {name: after[name] for name in changes}
    set_["update_time_us"] = transaction.now_us
    if before["event_based_hold"] and not after["event_based_hold"]:
        set_["retained_from_us"] = transaction.now_us
    assignments = ", ".join(f"{name} = ?" for name in set_)
    transaction.connection.execute(
        f"UPDATE object SET metageneration = metageneration + 1, {assignments}"
        " WHERE name = ? AND generation = ?",
        (*set_.values(), *target[:2]),
    )
    return None
