"""Reading: pages of a listing and what is there for given names, as columns; and contents."""

# ruff: noqa: S608 - statements are put together of our own column names; values are bound
from __future__ import annotations

import io
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any, BinaryIO, NamedTuple, TypeVar

from longshore.errors import DataLoss, NotFound
from longshore.object_rules import OWN_COLUMNS, SOFT_DELETED_COLUMNS, check_known, missing
from longshore.store import ABSENT, PAGE_BYTES, Batch
from longshore.stores.local.transaction import Transaction

T = TypeVar("T")
_AFTER_ALL_NAMES = b"\xff"  # no UTF-8 has this byte
_NAMES_PER_QUERY = 128
_ROWS_AT_ONCE = 16


class Range(NamedTuple):
    """What of a bucket to list: names from ``lower`` on and before ``upper``.

    ``inside``: (name, generation) of a version after which to go on, among those of its name.
    """

    lower: bytes
    upper: bytes
    inside: tuple[bytes, int] | None = None


def name_range(prefix: str, after: str, after_generation: int | None, before: str | None) -> Range:
    """The range that the arguments of ``list_objects`` mean."""
    start, last = encode(prefix), encode(after)
    lower = max(start, last + b"\0") if after else start
    upper = start[:-1] + bytes([start[-1] + 1]) if start else _AFTER_ALL_NAMES
    if before is not None:
        upper = min(upper, encode(before))
    if after_generation is None or not start <= last < upper:
        return Range(lower, upper)
    return Range(lower, upper, (last, after_generation))


def rest(names: Range, listed: Batch) -> Range:
    """What is left of a range after a page of it."""
    last = encode(listed.names[-1])
    return Range(last + b"\0", names.upper, (last, listed.generations[-1]))


class Kind(NamedTuple):
    """Which versions are meant: the rows of ``table`` that ``condition`` allows."""

    table: str
    condition: str = ""
    known: Mapping[str, type] = OWN_COLUMNS


LIVE = Kind("object", "live AND")
ANY = Kind("object")
SOFT_DELETED = Kind("soft_deleted", "hard_delete_time_us > ? AND", SOFT_DELETED_COLUMNS)


class Page(NamedTuple):
    """A page of a listing; ``last``: nothing of its range is left."""

    batch: Batch
    last: bool


def page(
    transaction: Transaction, *, names: Range, limit: int, kind: Kind, columns: Sequence[str]
) -> Page:
    """The first ``limit`` objects of ``names``, or fewer if they take PAGE_BYTES."""
    _check(columns, kind.known)
    rows: list[tuple[Any, ...]] = []
    last = True
    select = f"{_select(columns, kind.table)} {kind.condition}"
    first = (transaction.now_us,) if kind is SOFT_DELETED else ()
    queries: list[tuple[str, tuple[Any, ...]]] = [
        ("name >= ? AND name < ? ORDER BY name, generation DESC", names[:2])
    ]
    if kind is not LIVE and names.inside:
        queries.insert(0, ("name = ? AND generation < ? ORDER BY generation DESC", names.inside))
    texts = [0, *(4 + i for i, column in enumerate(columns) if kind.known[column] is str)]
    for where, bounds in queries:
        statement = f"{select} {where} LIMIT ?"
        cursor = transaction.connection.execute(statement, (*first, *bounds, limit))
        # Closed at once: an open cursor would keep its view of the bucket, and the log of changes.
        with closing(cursor):
            last = _fill(rows, cursor, limit, texts)
        if not last:
            break
    listed, *values = _columns(rows, 4 + len(columns))
    return Page(_batch([decode(name) for name in listed], values, columns, kind.known), last)


def _fill(
    rows: list[tuple[Any, ...]], cursor: sqlite3.Cursor, limit: int, texts: Sequence[int]
) -> bool:
    """Move rows from ``cursor`` to a page until that is full; whether the cursor is at its end.

    ``texts``: which of the values of a row are counted for PAGE_BYTES.
    """
    size_bytes = _weight(rows, texts)
    while (room := limit - len(rows)) and size_bytes < PAGE_BYTES:
        piece = cursor.fetchmany(min(room, _ROWS_AT_ONCE))
        if not piece:
            return True
        rows += piece
        size_bytes += _weight(piece, texts)
    return False


def _weight(rows: list[tuple[Any, ...]], texts: Sequence[int]) -> int:
    return sum(sum(map(len, map(itemgetter(text), rows))) for text in texts)


def there(
    transaction: Transaction,
    *,
    names: Sequence[str],
    generations: Sequence[int],
    columns: Sequence[str],
) -> Batch:
    """What is there of each (name, generation), or for ABSENT of each live name, in that order."""
    _check(columns)
    zero = (ABSENT, 0, 0, *(OWN_COLUMNS[column]() for column in columns))
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(names), _NAMES_PER_QUERY):
        part = slice(start, start + _NAMES_PER_QUERY)
        wanted = list(zip(map(encode, names[part]), generations[part], strict=True))
        found = _find(transaction, wanted, columns)
        rows += [found.get(key, zero) for key in wanted]
    return _batch(list(names), _columns(rows, len(zero)), columns)


def soft_deleted(
    transaction: Transaction, *, name: str, generation: int, columns: Sequence[str]
) -> Batch:
    """A soft-deleted version; ABSENT if there is none."""
    _check(columns, SOFT_DELETED.known)
    select = f"{_select(columns, SOFT_DELETED.table)} {SOFT_DELETED.condition}"
    values = (transaction.now_us, encode(name), generation)
    row = transaction.connection.execute(f"{select} name = ? AND generation = ?", values).fetchone()
    found = row[1:] if row else (ABSENT, 0, 0, *(SOFT_DELETED.known[one]() for one in columns))
    return _batch([name], [[value] for value in found], columns, SOFT_DELETED.known)


def _find(
    transaction: Transaction,
    wanted: Sequence[tuple[bytes, int]],
    columns: Sequence[str],
) -> dict[tuple[bytes, int], tuple[Any, ...]]:
    found: dict[tuple[bytes, int], tuple[Any, ...]] = {}
    execute = transaction.connection.execute
    named = _padded(list({key for key in wanted if key[1] != ABSENT}))
    live = _padded(list({name for name, generation in wanted if generation == ABSENT}))
    if named:
        # "(name, generation) IN (VALUES …)" would scan the table; this looks each row up.
        marks = ", ".join(["(?, ?)"] * len(named))
        select = _select(columns, "wanted CROSS JOIN object")
        statement = f"WITH wanted (n, g) AS (VALUES {marks}) {select} name = n AND generation = g"
        for name, *rest in execute(statement, [value for key in named for value in key]):
            found[name, rest[0]] = tuple(rest)
    if live:
        marks = ", ".join("?" * len(live))
        statement = f"{_select(columns)} name IN ({marks}) AND live"
        for name, *rest in execute(statement, live):
            found[name, ABSENT] = tuple(rest)
    return found


def _padded(keys: list[T]) -> list[T]:
    """``keys`` with the last one repeated up to a power of two: a connection keeps the statements
    that it has prepared, and those for so many keys are large; this way there are few of them."""
    return keys + keys[-1:] * ((1 << (len(keys) - 1).bit_length()) - len(keys)) if keys else keys


def open_content(
    transaction: Transaction, *, name: str, generation: int, lost: int = 0
) -> BinaryIO | int:
    """The content of a version, or of the live object for ABSENT; raises NotFound.

    What is open can be read to its end, whatever becomes of the object. Another process may remove
    the file after this transaction's view of the bucket was taken: then its number is given, and
    the caller asks again with it as ``lost``. If it still is the object's file, DataLoss.
    """
    which = "live" if generation == ABSENT else "generation = ?"
    row = transaction.connection.execute(
        f"SELECT generation, size, file FROM object WHERE name = ? AND {which}",
        (encode(name), generation)[: 1 if generation == ABSENT else 2],
    ).fetchone()
    path = f"{transaction.bucket.name}/{name}"
    if row is None:
        raise NotFound(missing(path, live=False).message)
    generation, size, file = row
    if file:
        try:
            return (transaction.content / str(file)).open("rb", buffering=0)
        except FileNotFoundError:
            if file != lost:
                return int(file)
            raise DataLoss(f"The content of '{path}' is missing: file {file}.") from None
    row = transaction.connection.execute(
        "SELECT data FROM inline_content WHERE generation = ?", (generation,)
    ).fetchone()
    data: bytes = row[0] if row else b""
    if len(data) != size:
        raise DataLoss(f"The content of '{path}' is missing from the bucket's database.")
    return io.BytesIO(data)


def _check(columns: Sequence[str], known: Mapping[str, type] = OWN_COLUMNS) -> None:
    for column in columns:
        check_known("column of an object", column, known)


def _select(columns: Sequence[str], tables: str = "object") -> str:
    wanted = ", ".join(("name", "generation", "metageneration", "size", *columns))
    return f"SELECT {wanted} FROM {tables} WHERE"


def _columns(rows: list[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in range(count)]


def _batch(
    names: list[str],
    values: list[list[Any]],
    columns: Sequence[str],
    known: Mapping[str, type] = OWN_COLUMNS,
) -> Batch:
    generations, metagenerations, sizes, *rest = values
    asked = {
        name: list(map(bool, values)) if known[name] is bool else values
        for name, values in zip(columns, rest, strict=True)
    }
    return Batch(
        names=names,
        generations=generations,
        metagenerations=metagenerations,
        sizes=sizes,
        columns=asked,
    )


def encode(name: str) -> bytes:
    """The bytes to look for: what no object can be named is looked for as well, and not found."""
    return name.encode("utf-8", "surrogatepass")


def decode(name: bytes) -> str:
    """The text of a name in the database."""
    return name.decode("utf-8", "surrogatepass")
