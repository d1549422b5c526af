"""Replies that are long lists of entries, as columns of texts.

Servers put the same elements in orders of their own, so the pattern that reads a reply is made from
its first entry, and kept. It must account for every entry of the reply; else lxml reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from longshore.stores.s3 import markup
from longshore.stores.s3.markup import Element

Columns = Mapping[str, Sequence[str]]
"""Texts by the name of their element, "" where an entry has none."""
_OPENING = re.compile(r"<([A-Za-z]+)>", re.ASCII)
_ETAGS = {
    "&quot;": "&quot;([^&]*+)&quot;",
    "&#34;": "&#34;([^&]*+)&#34;",
    '"': '"([^"]*+)"',
    "": "([^<]*+)",
}
"""An ETag by what it is quoted with. That a text has no reference is seen by the column: to exclude
two characters takes a pattern twice as long."""


class Kind(NamedTuple):
    """A kind of entry: its element, and of those inside the ones that matter."""

    element: str
    names: tuple[str, ...]
    optional: frozenset[str] = frozenset()


def read_entries(
    body: bytes, kinds: Sequence[Kind], roots: Sequence[str], proof: str = ""
) -> tuple[list[Columns], Element]:
    """The entries of each kind, and the document without them.

    Its root must be one of ``roots``, and ``proof`` an element that stands outside of the entries:
    where it is not found there, the document is not as it is thought to be. Quotes of ETags may be
    left out. Raises Internal for what can't be read.
    """
    text = markup.decode(body)
    plain = _read_plain(text, kinds, proof) if text is not None else None
    columns, root = plain or _read_any(body, kinds)
    if root.name not in roots:
        raise markup.unreadable(body, f"<{root.name}>")
    return columns, root


def _read_any(body: bytes, kinds: Sequence[Kind]) -> tuple[list[Columns], Element]:
    root = markup.read_any(body)
    columns: list[Columns] = []
    for kind in kinds:
        entries = [entry for entry in root.all(kind.element) if entry.children]
        columns.append({name: [entry.first(name).text for entry in entries] for name in kind.names})
    return columns, root


def _read_plain(
    text: str, kinds: Sequence[Kind], proof: str
) -> tuple[list[Columns], Element] | None:
    """By patterns; None if they do not account for all of it."""
    found: list[Columns] = []
    starts, ends = [], []
    for kind in kinds:
        columns = _columns(text, kind)
        if columns is None:
            return None
        found.append(columns)
        if columns[kind.names[0]]:
            starts.append(text.index(f"<{kind.element}>"))
            ends.append(text.rindex(f"</{kind.element}>") + len(kind.element) + 3)
    root = markup.read_plain(text[: min(starts)] + text[max(ends) :] if starts else text)
    # What stands between the first entry and the last is not looked at otherwise.
    if root is None or (proof and not root.get(proof)):
        return None
    return found, root


def _columns(text: str, kind: Kind) -> Columns | None:
    """The columns of the entries of a kind; None if there are others than the pattern finds."""
    tags = text.count(f"{kind.element}>")
    start = text.find(f"<{kind.element}>")
    if start < 0:
        return None if tags else dict.fromkeys(kind.names, ())
    entry = text[start : text.find(f"</{kind.element}>", start)]
    order = [name for name in _OPENING.findall(entry) if name in kind.names]
    order += [name for name in kind.names if name in kind.optional and name not in order]
    if sorted(order) != sorted(kind.names):
        return None
    quote = next(quote for quote in _ETAGS if f"<ETag>{quote}" in entry or not quote)
    for others in (False, True):
        pattern = _pattern(kind, tuple(order), quote, others)
        rows = pattern.findall(text) if pattern.match(text, start) else []
        # One that the pattern does not find has its tags all the same.
        if 2 * len(rows) == tags:
            return _unescaped(dict(zip(order, zip(*rows, strict=True), strict=True)))
    return None


@lru_cache(maxsize=64)
def _pattern(kind: Kind, order: tuple[str, ...], quote: str, others: bool) -> re.Pattern[str]:
    """An entry whose elements stand in that order, perhaps with others between them."""
    known = "|".join(order)
    between = rf"(?:\s++|<(?!(?:{known})>|/?{kind.element}>)[^>]*+>[^<]*+)*+" if others else ""
    contents = {"ETag": _ETAGS[quote], "Size": "([0-9]++)"}
    parts = []
    for name in order:
        part = f"<{name}>{contents.get(name, '([^<]*+)')}</{name}>"
        parts.append(f"(?:{part})?+" if name in kind.optional else part)
    inside = f"{between}{between.join(parts)}{between}"
    return re.compile(f"<{kind.element}>{inside}</{kind.element}>", re.ASCII)


def _unescaped(columns: Columns) -> Columns | None:
    """Columns without references; None if that takes lxml."""
    if not any("&" in "".join(column) for column in columns.values()):
        return columns
    texts = {name: list(map(markup.unescape, column)) for name, column in columns.items()}
    known = {name: [text for text in column if text is not None] for name, column in texts.items()}
    return known if known == texts else None
