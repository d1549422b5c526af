"""Making new generations of objects from themselves."""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore import object_rules as rules
from longshore.store import Failure
from longshore.stores.local import rows
from longshore.stores.local.rows import EXPIRED, FREE, Key, Target, Targets
from longshore.stores.local.transaction import Transaction

_COPIED = (
    "name",
    "size",
    "checksum",
    "file",
    *sorted(rules.WRITE_COLUMNS - {"event_based_hold"}),
)
_KEY = "name = ? AND generation = ? AND live"


def rewrite(
    transaction: Transaction, wanted: Targets, *, storage_class: str, kms_key: str
) -> dict[int, Failure]:
    """Make each live target a new generation with another class or key; failures by index."""
    versioning = transaction.bucket.versioning
    changes = {"storage_class": storage_class, "kms_key": kms_key}
    new = {name: value for name, value in changes.items() if value}
    new_generations = _copy if versioning else _move

    def quick() -> int:
        if not all(wanted.live):
            return 0
        keys = list(wanted.keys())
        if versioning:
            return _copy(transaction, keys, new, f"{_KEY} AND {FREE}")
        where = f"{_KEY} AND {FREE} AND {EXPIRED}"
        return _move(transaction, keys, new, where, rows.expiry(transaction))

    def careful(target: Target) -> Failure | None:
        found = rows.find(transaction, target)
        if isinstance(found, Failure):
            return found
        if not found["live"]:
            return rules.noncurrent(rows.path(transaction, target.name))
        failure = rows.refuse_removal(transaction, target.name, found, archived=versioning)
        if failure is None:
            new_generations(transaction, [target[:2]], new, _KEY)
        return failure

    return rows.each(transaction, wanted, quick, careful)


def _move(
    transaction: Transaction, keys: list[Key], new: Mapping[str, str], where: str, *bounds: Any
) -> int:
    """Give the objects that ``where`` allows new generations; how many those are."""
    columns = _fresh(transaction, new)
    assignments = ", ".join(f"{name} = ?" for name in columns)
    numbers = transaction.numbers(len(keys))
    statement = (
        f"UPDATE object SET generation = ?, event_based_hold = ({_hold(transaction)}),"
        f" {assignments} WHERE {where}"
    )
    moves = list(zip(numbers, keys, strict=True))
    done = rows.many(
        transaction,
        statement,
        [(number, *columns.values(), *key, *bounds) for number, key in moves],
    )
    if done == len(keys):
        statement = "UPDATE inline_content SET generation = ? WHERE generation = ?"
        rows.many(transaction, statement, [(number, key[1]) for number, key in moves])
    return done


def _copy(transaction: Transaction, keys: list[Key], new: Mapping[str, str], where: str) -> int:
    """Make the objects that ``where`` allows noncurrent, then a copy of each; how many those are.

    A file of contents is not copied: both versions have it.
    """
    statement = f"UPDATE object SET {rows.NO_MORE_LIVE} WHERE {where}"
    done = rows.many(transaction, statement, [(transaction.now_us, *key) for key in keys])
    if done < len(keys):
        return done
    columns = {"live": 1, **_fresh(transaction, new)}
    kept = [name for name in _COPIED if name not in columns]
    numbers = transaction.numbers(len(keys))
    moves = list(zip(numbers, keys, strict=True))
    rows.many(
        transaction,
        f"INSERT INTO object (generation, event_based_hold, {', '.join((*columns, *kept))})"
        f" SELECT ?, {_hold(transaction)}, {', '.join('?' * len(columns))}, {', '.join(kept)}"
        " FROM object WHERE name = ? AND generation = ?",
        [(number, *columns.values(), *key) for number, key in moves],
    )
    rows.many(
        transaction,
        "INSERT INTO inline_content SELECT ?, data FROM inline_content WHERE generation = ?",
        [(number, key[1]) for number, key in moves],
    )
    return done


def _fresh(transaction: Transaction, new: Mapping[str, str]) -> dict[str, Any]:
    """The columns in which a new generation differs from the old one."""
    now_us = transaction.now_us
    return {
        **new,
        "metageneration": 1,
        "retained_from_us": now_us,
        "create_time_us": now_us,
        "update_time_us": now_us,
    }


def _hold(transaction: Transaction) -> str:
    """Whether a new generation is held from the start, as an expression; see new_object."""
    return "retention = ''" if transaction.bucket.default_event_based_hold else "0"
