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
_PLACE = "Entries"
_OPENING = re.compile(r"<([A-Za-z]+)>", re.ASCII)
_ETAGS = {
    "&quot;": "&quot;([^&]*+)&quot;",
    "&#34;": "&#34;([^&]*+)&#34;",
    '"': '"([^"]*+)"',
    "": "([^<]*+)",
}
"""An ETag by what it is quoted with. What may not be in a text is seen by the column: a pattern
that excludes two characters takes twice as long as one that excludes one."""


class Kind(NamedTuple):
    """A kind of entry: its element, and of those inside the ones that matter."""

    element: str
    names: tuple[str, ...]
    optional: frozenset[str] = frozenset()


def read_entries(
    body: bytes, kinds: Sequence[Kind], roots: Sequence[str]
) -> tuple[list[Columns], Element]:
    """The entries of each kind, and the document, whose root must be one of ``roots``; it may come
    without the entries, and ETags without their quotes. Raises Internal for what can't be read.
    """
    text = markup.decode(body)
    plain = _read_plain(text, kinds) if text is not None else None
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


def _read_plain(text: str, kinds: Sequence[Kind]) -> tuple[list[Columns], Element] | None:
    """By patterns; None if they do not account for all of it."""
    elements = tuple(kind.element for kind in kinds)
    starts = [start for element in elements if (start := text.find(f"<{element}>")) >= 0]
    if not starts:
        start = end = 0
    else:
        start = min(starts)
        end = max(text.rfind(f"</{element}>") + len(element) + 3 for element in elements)
    found: list[Columns] = []
    for kind in kinds:
        columns = _columns(text, end, kind, elements)
        if columns is None:
            return None
        found.append(columns)
    # In place of the entries, one that shows whether they stand where they should.
    root = markup.read_plain(f"{text[:start]}<{_PLACE}/>{text[end:]}" if starts else text)
    if root is None or any(root.all(_PLACE)) is not bool(starts):
        return None
    return found, root


def _columns(text: str, end: int, kind: Kind, elements: tuple[str, ...]) -> Columns | None:
    """The columns of the entries of a kind; None if there are others than the pattern finds.
    ``end``: where the last entry of any kind ends."""
    tags = text.count(f"{kind.element}>")
    start = text.find(f"<{kind.element}>")
    if start < 0:
        return None if tags else dict.fromkeys(kind.names, ())
    shape = _shape(text[start : text.find(f"</{kind.element}>", start)], kind, elements)
    if shape is None:
        return None
    for tried in (shape, shape._replace(gaps=(True,) * len(shape.gaps))):
        pattern = _pattern(tried)
        rows = pattern.findall(text, start, end) if pattern.match(text, start, end) else []
        # One that the pattern does not find has its tags all the same.
        if 2 * len(rows) == tags:
            return _unescaped(dict(zip(shape.order, zip(*rows, strict=True), strict=True)))
    return None


class _Shape(NamedTuple):
    """How a server writes entries: in which order, with what around ETags, and before which
    elements, and at the end, others may stand; ``elements`` are those of all kinds of entries."""

    kind: Kind
    order: tuple[str, ...]
    gaps: tuple[bool, ...]
    quote: str
    elements: tuple[str, ...]


def _shape(entry: str, kind: Kind, elements: tuple[str, ...]) -> _Shape | None:
    """The shape of an entry, which comes without its last tag; None if it is not of the kind."""
    order = [name for name in _OPENING.findall(entry) if name in kind.names]
    between = re.split(
        f"<(?:{'|'.join(kind.names)})>[^<]*</[A-Za-z]+>", entry[len(kind.element) + 2 :]
    )
    absent = [name for name in kind.names if name in kind.optional and name not in order]
    if sorted(order + absent) != sorted(kind.names) or len(between) != len(order) + 1:
        return None
    gaps = [bool(text) for text in between] + [True] * len(absent)
    quote = next(quote for quote in _ETAGS if f"<ETag>{quote}" in entry or not quote)
    return _Shape(kind, (*order, *absent), tuple(gaps), quote, elements)


@lru_cache(maxsize=64)
def _pattern(shape: _Shape) -> re.Pattern[str]:
    """An entry of that shape, behind which stands the next one or nothing."""
    kind = shape.kind
    others = _others("|".join((*kind.names, kind.element)))
    contents = {"ETag": _ETAGS[shape.quote], "Size": "([0-9]++)"}
    inside = ""
    for name, gap in zip((*shape.order, ""), shape.gaps, strict=True):
        part = f"<{name}>{contents.get(name, '([^<]*+)')}</{name}>" if name else ""
        inside += others * gap + (f"(?:{part})?+" if name in kind.optional else part)
    following = rf"<{kind.element}>|\s*+(?:<(?:{'|'.join(shape.elements)})>|\Z)"
    return re.compile(f"<{kind.element}>{inside}</{kind.element}>(?={following})", re.ASCII)


def _others(known: str) -> str:
    """Any number of elements that are not ``known`` and have none of these inside, at most two
    deep."""
    opening, closing = rf"<(?!/|(?:{known})[\s/>])[^>]*+>", rf"</(?!(?:{known})>)[^>]*+>"
    empty = rf"<(?!(?:{known})[\s/>])[^>/]*+/>"
    leaf = rf"(?:{empty}|{opening}[^<]*+{closing})"
    return rf"(?:\s++|{leaf}|{opening}\s*+(?:{leaf}\s*+)++{closing})*+"


def _unescaped(columns: Columns) -> Columns | None:
    """Columns without references; None if that takes lxml."""
    if "<" in "".join(columns.get("ETag", ())):
        return None
    if not any("&" in "".join(column) for column in columns.values()):
        return columns
    texts = {name: list(map(markup.unescape, column)) for name, column in columns.items()}
    known = {name: [text for text in column if text is not None] for name, column in texts.items()}
    return known if known == texts else None
