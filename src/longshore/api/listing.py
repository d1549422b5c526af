"""Pages of lists: sizes, orders, filters, and tokens that know what they belong to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Column, ColumnElement, and_, false, or_, tuple_

from longshore.api.conditions import Fields, condition
from longshore.database.jobs import Counted, Page
from longshore.errors import invalid_field

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 500
PAGE_MAX_BYTES = 8 << 20
_DIGEST_BYTES = 12
_ORDER_TERM = re.compile(r"\s*([A-Za-z_.]+)(?:\s+(asc|desc))?\s*")


class _Key(NamedTuple):
    column: Column[Any]
    descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a list may be ordered: columns by the name of their field, and the row id that breaks
    ties. ``default`` is an orderBy."""

    columns: Mapping[str, Column[Any]]
    id: Column[Any]
    default: str

    def keys(self, order_by: str) -> list[_Key]:
        """The keys of an orderBy, always with the row id last; raises InvalidArgument."""
        keys = []
        for term in (order_by.strip() or self.default).split(","):
            match = _ORDER_TERM.fullmatch(term)
            name = re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), match[1]) if match else ""
            if match is None or name not in self.columns:
                known = " and ".join(self.columns)
                raise invalid_field(
                    "order_by",
                    f"Invalid order_by {order_by!r}: can't order by {term.strip()!r}; the fields"
                    f" are {known}, each with an optional 'desc', separated by commas.",
                )
            keys.append(_Key(self.columns[name], match[2] == "desc"))
        return [*keys, _Key(self.id, keys[-1].descending)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of one list, from the request's arguments to the token for the next.

    A token is where the page ended, and a digest of that and of every argument but the size, so
    that a token does not go with another list, filter or order. It is not a secret: it can only
    point into a list that its sender asks for anyway.
    """

    keys: Sequence[_Key]
    condition: ColumnElement[bool]
    size: int
    after: Sequence[Any] | None
    arguments: bytes

    @staticmethod
    def of(request: Any, *, scope: str, order_by: str, order: Order, fields: Fields) -> Listing:
        """Raises InvalidArgument for a bad size, token, filter or order."""
        size = page_size(request.page_size)
        keys = order.keys(order_by)
        arguments = orjson.dumps([scope, request.filter, order_by])
        return Listing(
            keys=keys,
            condition=condition(request.filter, fields),
            size=size,
            after=_open_token(request.page_token, arguments) if request.page_token else None,
            arguments=arguments,
        )

    @property
    def page(self) -> Page:
        """What to ask the database for: a row more than the page has, to see whether it ends."""
        order = [key.column.desc() if key.descending else key.column.asc() for key in self.keys]
        conditions = [self.condition]
        if self.after is not None:
            conditions.append(_beyond(self.keys, self.after))
        return Page(conditions, order, self.size + 1)

    def fill(
        self, counted: Sequence[Counted], make: Callable[[Counted], Any]
    ) -> tuple[list[Any], str]:
        """The page's messages, and the token for the next page, "" at the end.

        A page ends early at PAGE_MAX_BYTES: a thousand buckets with as many prefixes are 15 MB.
        """
        filled: list[Any] = []
        size_bytes = 0
        for one in counted[: self.size]:
            filled.append(make(one))
            size_bytes += filled[-1].ByteSize()
            if size_bytes > PAGE_MAX_BYTES:
                break
        if len(filled) == len(counted):
            return filled, ""
        last = counted[len(filled) - 1].row._mapping
        return filled, _token([last[key.column] for key in self.keys], self.arguments)


def page_size(asked: int) -> int:
    """The page size for what was asked: 0 is the default, more than the most is the most."""
    if asked < 0:
        raise invalid_field("page_size", f"Invalid page_size {asked}: it must not be negative.")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _beyond(keys: Sequence[_Key], after: Sequence[Any]) -> ColumnElement[bool]:
    """What comes after ``after`` in the order of ``keys``."""
    directions = {key.descending for key in keys}
    if len(directions) == 1:
        # Row values: both databases walk one index for them, which they do not for ORs.
        mine = tuple_(*(key.column for key in keys))
        theirs = tuple_(*after)
        return mine < theirs if directions == {True} else mine > theirs
    cases: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, value in zip(keys, after, strict=True):
        further = key.column < value if key.descending else key.column > value
        cases.append(and_(*equal, further))
        equal.append(key.column == value)
    return or_(false(), *cases)


def _token(position: Sequence[Any], arguments: bytes) -> str:
    text = orjson.dumps(position)
    return base64.urlsafe_b64encode(_digest(text, arguments) + text).decode().rstrip("=")


def _open_token(token: str, arguments: bytes) -> Sequence[Any]:
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    digest, text = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if digest != _digest(text, arguments):
        raise invalid_field(
            "page_token",
            "Invalid page_token: it is not one of this list, or parent, filter or order_by are not"
            " those of the request that it came from. Start again without a token.",
        )
    position: Sequence[Any] = orjson.loads(text)
    return position


def _digest(text: bytes, arguments: bytes) -> bytes:
    size = len(arguments).to_bytes(8, "big")
    return hashlib.blake2b(size + arguments + text, digest_size=_DIGEST_BYTES).digest()
