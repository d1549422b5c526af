"""Changing objects: each verb takes a batch in one statement, or else object by object.

The one statement (*quick*) names in its WHERE everything that surely allows the change. If it
reaches as many rows as the batch has, all is done. If not, it is undone and, in the same
transaction, each object is read, judged by object_rules and changed (*careful*), in the order of
the batch, so that what an earlier row did counts for a later one of the same name.
"""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, NamedTuple

from longshore import object_rules as rules
from longshore.patch import MapPatch, Patch
from longshore.store import Batch, Failure
from longshore.stores.local import contents
from longshore.stores.local.reading import encode
from longshore.stores.local.transaction import Transaction

MAX_ROWS = 1000
"""Rows of one write transaction; so the others never wait longer than some milliseconds."""

_FREE = "NOT temporary_hold AND NOT event_based_hold"
_EXPIRED = "retention = '' AND retained_from_us <= ?"
_ALWAYS = 1 << 62


class Target(NamedTuple):
    """One row of a batch; ``live``: it means the live object, not just any version."""

    name: bytes
    generation: int
    metageneration: int
    live: bool


def targets(batch: Batch) -> list[Target]:
    """The rows of a batch. Without a column ``live`` they mean live objects."""
    live = batch.columns.get("live") or [True] * len(batch)
    names = map(encode, batch.names)
    rows = zip(names, batch.generations, batch.metagenerations, live, strict=True)
    return list(map(Target._make, rows))


def delete(
    transaction: Transaction, wanted: list[Target], *, permanent: bool
) -> dict[int, Failure]:
    """Delete the live objects, or with ``permanent`` just those versions; failures by index."""
    archived = transaction.bucket.versioning and not permanent

    def quick() -> int:
        keys = [target[:2] for target in wanted]
        if archived:
            where = f"name = ? AND generation = ? AND live AND {_FREE}"
            return _many(transaction, f"UPDATE object SET live = 0 WHERE {where}", keys)
        live = "" if permanent else "AND live"
        where = f"name = ? AND generation = ? {live} AND file = 0 AND {_FREE} AND {_EXPIRED}"
        expiry = _expiry(transaction)
        rows = [(*key, expiry) for key in keys]
        done = _many(transaction, f"DELETE FROM object WHERE {where}", rows)
        if done == len(wanted):
            ids = [(target.generation,) for target in wanted]
            _many(transaction, "DELETE FROM inline_content WHERE generation = ?", ids)
        return done

    def careful(target: Target) -> Failure | None:
        found = _find(transaction, target._replace(live=not permanent))
        if isinstance(found, Failure):
            return found
        return _remove(transaction, target.name, found, archived=archived)

    return _quick_or_careful(transaction, wanted, quick, careful)


def patch(
    transaction: Transaction, wanted: list[Target], change: Patch, *, match_metageneration: bool
) -> dict[int, Failure]:
    """Change the metadata of each target; failures by index."""
    refused = rules.refuse_patch(transaction.bucket, change, transaction.now_us)
    changes = change.changes()

    def quick() -> int:
        if refused or not changes:
            return 0
        return _patch_all(transaction, wanted, changes, match_metageneration=match_metageneration)

    def careful(target: Target) -> Failure | None:
        found = _find(transaction, target)
        if isinstance(found, Failure):
            return found
        if match_metageneration and found["metageneration"] != target.metageneration:
            return rules.moved(_path(transaction, target.name))
        return refused or _patch_one(transaction, target, change)

    return _quick_or_careful(transaction, wanted, quick, careful)


def rewrite(
    transaction: Transaction, wanted: list[Target], *, storage_class: str, kms_key: str
) -> dict[int, Failure]:
    """Make each live target a new generation with another class or key; failures by index."""
    archived = transaction.bucket.versioning
    changes = {"storage_class": storage_class, "kms_key": kms_key}
    changes = {name: value for name, value in changes.items() if value}

    def quick() -> int:
        keys = [target[:2] for target in wanted if target.live]
        if len(keys) < len(wanted):
            return 0
        return _rewrite_all(transaction, keys, changes)

    def careful(target: Target) -> Failure | None:
        found = _find(transaction, target)
        if isinstance(found, Failure):
            return found
        path = _path(transaction, target.name)
        if not found["live"]:
            return rules.noncurrent(path)
        failure = _refuse_removal(transaction, target.name, found, archived=archived)
        if failure is None:
            _rewrite_all(transaction, [target[:2]], changes, checked=True)
        return failure

    return _quick_or_careful(transaction, wanted, quick, careful)


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
    found = _row(transaction, "name = ? AND live", (name,))
    if found is not None:
        archived = transaction.bucket.versioning
        failure = _remove(transaction, name, found, archived=archived)
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


def _quick_or_careful(
    transaction: Transaction,
    wanted: list[Target],
    quick: Callable[[], int],
    careful: Callable[[Target], Failure | None],
) -> dict[int, Failure]:
    execute = transaction.connection.execute
    execute("SAVEPOINT quick")
    try:
        done = quick()
    except sqlite3.IntegrityError:  # a map grew too large; see _patch_all
        done = -1
    if done == len(wanted):
        execute("RELEASE quick")
        return {}
    execute("ROLLBACK TO quick")
    execute("RELEASE quick")
    failures = enumerate(map(careful, wanted))
    return {index: failure for index, failure in failures if failure is not None}


def _many(transaction: Transaction, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
    return transaction.connection.executemany(statement, rows).rowcount


def _patch_all(
    transaction: Transaction,
    wanted: list[Target],
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
            guards.append("custom_time_us <= ?")
            guard_values.append(value)
        if name == "retention" or (name == "event_based_hold" and value):
            guards.append("retention = '' AND NOT event_based_hold")
        if name == "event_based_hold" and not value:
            assignments.append(_RESTART_RETENTION)
            values.append(transaction.now_us)
    columns: list[Iterable[Any]] = [repeat(value) for value in values]
    names, generations, metagenerations, live = zip(*wanted, strict=True)
    columns += [names, generations, live]
    where = ["name = ?", "generation = ?", "live >= ?"]
    if match_metageneration:
        where.append("metageneration = ?")
        columns.append(metagenerations)
    columns += [repeat(value) for value in guard_values]
    condition = " AND ".join(where + guards)
    statement = f"UPDATE object SET {', '.join(assignments)} WHERE {condition}"
    return _many(transaction, statement, zip(*columns, strict=False))


_RESTART_RETENTION = (
    "retained_from_us = CASE WHEN event_based_hold THEN ? ELSE retained_from_us END"
)
"""Releasing the event-based hold restarts the clock of the bucket's retention."""


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
        _path(transaction, target.name),
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


def _rewrite_all(
    transaction: Transaction,
    keys: list[tuple[bytes, int]],
    changes: Mapping[str, str],
    *,
    checked: bool = False,
) -> int:
    """How many of ``keys`` the statements reached; ``checked``: nothing forbids it."""
    now_us, versioning = transaction.now_us, transaction.bucket.versioning
    numbers = transaction.numbers(len(keys))
    new = {
        **changes,
        "metageneration": 1,
        "retained_from_us": now_us,
        "create_time_us": now_us,
        "update_time_us": now_us,
    }
    hold = "retention = ''" if transaction.bucket.default_event_based_hold else "0"
    where = "name = ? AND generation = ? AND live"
    guards = "" if checked else f" AND {_FREE}"
    bounds: tuple[int, ...] = ()
    if not versioning and not checked:
        guards += f" AND {_EXPIRED}"
        bounds = (_expiry(transaction),)
    if versioning:
        kept = [name for name in _COPIED if name not in new]
        statement = (
            f"INSERT INTO object (generation, event_based_hold, {', '.join((*new, *kept))})"
            f" SELECT ?, {hold}, {', '.join('?' * len(new))}, {', '.join(kept)}"
            f" FROM object WHERE {where}{guards}"
        )
        copied = (
            "INSERT INTO inline_content SELECT ?, data FROM inline_content WHERE generation = ?"
        )
    else:
        assignments = ", ".join(f"{name} = ?" for name in new)
        statement = (
            f"UPDATE object SET generation = ?, event_based_hold = ({hold}), {assignments}"
            f" WHERE {where}{guards}"
        )
        copied = "UPDATE inline_content SET generation = ? WHERE generation = ?"
    values = (*new.values(),)
    rows = [(number, *values, *key, *bounds) for number, key in zip(numbers, keys, strict=True)]
    done = _many(transaction, statement, rows)
    if done == len(keys):
        pairs = [(number, key[1]) for number, key in zip(numbers, keys, strict=True)]
        _many(transaction, copied, pairs)
        if versioning:
            archive = "UPDATE object SET live = 0 WHERE name = ? AND generation = ?"
            _many(transaction, archive, keys)
    return done


_COPIED = (
    "name",
    "live",
    "size",
    "checksum",
    "file",
    *sorted(rules.WRITE_COLUMNS - {"event_based_hold"}),
)


def _find(transaction: Transaction, target: Target) -> dict[str, Any] | Failure:
    found = _row(transaction, "name = ? AND generation = ?", target[:2])
    if found is not None and (found["live"] or not target.live):
        return found
    live = _row(transaction, "name = ? AND live", (target.name,)) is not None
    return rules.missing(_path(transaction, target.name), live=live)


_ROW = ("generation", "live", "metageneration", "file", *rules.Guard._fields)


def _row(transaction: Transaction, where: str, values: Iterable[Any]) -> dict[str, Any] | None:
    statement = f"SELECT {', '.join(_ROW)} FROM object WHERE {where}"
    row = transaction.connection.execute(statement, tuple(values)).fetchone()
    return dict(zip(_ROW, row, strict=True)) if row else None


def _refuse_removal(
    transaction: Transaction, name: bytes, found: Mapping[str, Any], *, archived: bool
) -> Failure | None:
    return rules.refuse_removal(
        _path(transaction, name),
        rules.Guard(*(found[field] for field in rules.Guard._fields)),
        transaction.bucket.retention_period_seconds,
        transaction.now_us,
        archived=archived,
    )


def _remove(
    transaction: Transaction, name: bytes, found: Mapping[str, Any], *, archived: bool
) -> Failure | None:
    failure = _refuse_removal(transaction, name, found, archived=archived)
    if failure is not None:
        return failure
    execute = transaction.connection.execute
    key = (name, found["generation"])
    if archived:
        execute("UPDATE object SET live = 0 WHERE name = ? AND generation = ?", key)
        return None
    execute("DELETE FROM object WHERE name = ? AND generation = ?", key)
    execute("DELETE FROM inline_content WHERE generation = ?", key[1:])
    file = found["file"]
    # A rewrite leaves the file to both versions, so another one of this name may still have it.
    shared = "SELECT 1 FROM object WHERE name = ? AND file = ?"
    if file and not execute(shared, (name, file)).fetchone():
        transaction.discard(file)
    return None


def _expiry(transaction: Transaction) -> int:
    period_us = transaction.bucket.retention_period_seconds * 1_000_000
    return transaction.now_us - period_us if period_us else _ALWAYS


def _path(transaction: Transaction, name: bytes) -> str:
    return f"{transaction.bucket.name}/{name.decode('utf-8', 'surrogatepass')}"
