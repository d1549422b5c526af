"""Pages of lists: sizes, orders, filters and tokens, from a request to its reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Column

from longshore.api import page_tokens
from longshore.api.conditions import Fields, Filter, compiled
from longshore.database.jobs import Counted
from longshore.database.lists import Found, Key, Page
from longshore.errors import invalid_field

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 500
PAGE_MAX_BYTES = 8 << 20
_ORDER_TERM = re.compile(r"\s*([A-Za-z_.]+)(?:\s+(asc|desc))?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a list may be ordered: columns by the name of their field, of which ``name`` differs from
    row to row, and the row id that breaks ties. ``default`` is an orderBy."""

    columns: Mapping[str, Column[Any]]
    id: Column[Any]
    default: str

    def keys(self, order_by: str) -> list[Key]:
        """The keys of an orderBy, the last of which breaks all ties; raises InvalidArgument."""
        keys: list[Key] = []
        for term in (order_by.strip() or self.default).split(","):
            match = _ORDER_TERM.fullmatch(term)
            name = re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), match[1]) if match else ""
            if match is None or name not in self.columns:
                known = " and ".join(self.columns)
                raise invalid_field(
                    "order_by",
                    f"Invalid order_by {order_by!r}: can't order by {term.strip()!r}; the fields"
                    f" are {known}, each with an optional 'desc', separated by commas.",
                    reason="ORDER_BY_INVALID",
                )
            if self.columns[name] not in [key.column for key in keys]:
                keys.append(Key(self.columns[name], match[2] == "desc"))
        columns = [key.column for key in keys]
        if self.columns["name"] in columns:
            return keys[: columns.index(self.columns["name"]) + 1]
        return [*keys, Key(self.id, keys[-1].descending)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of one list, from the request's arguments to the token for the next."""

    keys: Sequence[Key]
    filter: Filter
    size: int
    after: Sequence[Any] | None
    arguments: bytes
    token_key: bytes

    @staticmethod
    def of(
        request: Any, *, scope: str, order_by: str, order: Order, fields: Fields, token_key: bytes
    ) -> Listing:
        """``scope``: the method and its parent, to which tokens are bound.

        Raises InvalidArgument for a bad size, token, filter or order.
        """
        size = page_size(request.page_size)
        keys = order.keys(order_by)
        arguments = orjson.dumps([scope, request.filter, order_by])
        token = request.page_token
        return Listing(
            keys=keys,
            filter=compiled(request.filter, fields, keys[0].column),
            size=size,
            after=page_tokens.unseal(token, arguments, token_key) if token else None,
            arguments=arguments,
            token_key=token_key,
        )

    @property
    def page(self) -> Page:
        """What to ask the database for: a row more than the page has, to see whether it ends."""
        return Page(
            keys=self.keys,
            limit=self.size + 1,
            after=self.after,
            seek=self.filter.seek,
            rest=self.filter.rest,
            terms=self.filter.terms,
            counts=self.filter.counts,
        )

    def fill(self, found: Found, make: Callable[[Counted], Any]) -> tuple[list[Any], str]:
        """The page's messages, and the token for the next page, "" at the end.

        A page ends early at PAGE_MAX_BYTES: a thousand buckets with as many prefixes are 15 MB.
        """
        filled: list[Any] = []
        size_bytes = 0
        for one in found.rows[: self.size]:
            filled.append(make(one))
            size_bytes += filled[-1].ByteSize()
            if size_bytes > PAGE_MAX_BYTES:
                break
        if len(filled) < len(found.rows):
            last = found.rows[len(filled) - 1].row._mapping
            return filled, self._token([last[key.column] for key in self.keys])
        return filled, "" if found.end is None else self._token(found.end)

    def _token(self, position: Sequence[Any]) -> str:
        return page_tokens.seal(position, self.arguments, self.token_key)


def page_size(asked: int) -> int:
    """The page size for what was asked: 0 is the default, more than the most is the most."""
    if asked < 0:
        text = f"Invalid page_size {asked}: it must not be negative."
        raise invalid_field("page_size", text, reason="PAGE_SIZE_INVALID")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
