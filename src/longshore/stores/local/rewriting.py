"""Making new generations of objects from themselves, or from what they were."""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore import object_rules as rules
from longshore.embedded import Check
from longshore.store import ABSENT, Failure
from longshore.stores.local import contents, rows, soft_deleting
from longshore.stores.local.reading import encode
from longshore.stores.local.rows import EXPIRED, FREE, Target, Targets
from longshore.stores.local.soft_deleting import Key
from longshore.stores.local.transaction import Transaction

_COPIED = (
    "name",
    "size",
    "checksum",
    "file",
    *sorted(rules.WRITE_COLUMNS - {"event_based_hold"}),
)
_VERSION = "name = ? AND generation = ?"
_KEY = f"{_VERSION} AND live"
_MOVE_CONTENT = "UPDATE inline_content SET generation = ? WHERE generation = ?"
_COPY_CONTENT = "INSERT INTO inline_content SELECT ?, data FROM inline_content WHERE generation = ?"


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


def restore(
    transaction: Transaction, name: str, generation: int, *, check: Check, acl: str | None
) -> int:
    """Make a soft-deleted object live again, as a copy; the new generation.

    Raises NotFound, what ``check`` raises of the live object, and what protects that.
    """
    key = encode(name), generation
    if not soft_deleting.is_kept(transaction, key):
        raise rules.not_soft_deleted(rows.path(transaction, key[0]), generation)
    rows.look(transaction, name, ABSENT, check)
    changes = {} if acl is None else {"acl": acl}
    return _put_copy(transaction, key, key[0], changes, table="soft_deleted")


def move(transaction: Transaction, name: str, to: str, *, check_source: Check, check: Check) -> int:
    """Give the live object ``name`` the name ``to``; the new generation.

    The old name goes as in a delete, but is never soft-deleted. Raises NotFound, what the checks
    raise of the two, and what protects them.
    """
    old = encode(name)
    found = rows.find_where(transaction, "name = ? AND live", (old,))
    if found is None:
        raise rules.error_of(rules.missing(rows.path(transaction, old), live=False))
    check_source(found["generation"], found["metageneration"])
    new = rules.check_move(name, to)
    rows.look(transaction, to, ABSENT, check)
    archived = transaction.bucket.versioning
    if failure := rows.refuse_removal(transaction, old, found, archived=archived):
        raise rules.error_of(failure)
    key = old, found["generation"]
    generation = _put_copy(transaction, key, new, {}, table="object")
    execute = transaction.connection.execute
    if archived:
        execute(
            f"UPDATE object SET {rows.NO_MORE_LIVE} WHERE {_VERSION}", (transaction.now_us, *key)
        )
    else:
        execute(rows.DELETE, key)
        contents.release(transaction, key[1], found["file"])
    return generation


def _put_copy(
    transaction: Transaction, key: Key, name: bytes, changes: Mapping[str, Any], *, table: str
) -> int:
    """Make a copy of a row of ``table`` the live object ``name``; its generation. Raises what
    protects the one that is there. Where the bucket chooses classes, a new object is STANDARD."""
    if failure := rows.make_room(transaction, name):
        raise rules.error_of(failure)
    (number,) = transaction.numbers(1)
    chosen = {"storage_class": "STANDARD"} if transaction.bucket.autoclass else {}
    columns = {"name": name, "live": 1, **_fresh(transaction, {**changes, **chosen})}
    _insert(transaction, [(number, key)], columns, table)
    return number


def _move(
    transaction: Transaction, keys: list[Key], new: Mapping[str, str], where: str, *bounds: Any
) -> int:
    """Give the objects that ``where`` allows new generations; how many those are."""
    soft = transaction.bucket.soft_delete_seconds > 0
    if soft:
        kept = soft_deleting.keep(transaction, keys, where, *bounds)
        if kept < len(keys):
            return kept
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
        content = _COPY_CONTENT if soft else _MOVE_CONTENT
        rows.many(transaction, content, [(number, key[1]) for number, key in moves])
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
    moves = list(zip(transaction.numbers(len(keys)), keys, strict=True))
    _insert(transaction, moves, columns, "object")
    return done


def _insert(
    transaction: Transaction,
    moves: list[tuple[int, Key]],
    columns: Mapping[str, Any],
    table: str,
) -> None:
    """Make copies of rows of ``table``, which differ in ``columns`` and have other generations."""
    kept = [name for name in _COPIED if name not in columns]
    rows.many(
        transaction,
        f"INSERT INTO object (generation, event_based_hold, {', '.join((*columns, *kept))})"
        f" SELECT ?, {_hold(transaction)}, {', '.join('?' * len(columns))}, {', '.join(kept)}"
        f" FROM {table} WHERE {_VERSION}",
        [(number, *columns.values(), *key) for number, key in moves],
    )
    rows.many(transaction, _COPY_CONTENT, [(number, key[1]) for number, key in moves])


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
