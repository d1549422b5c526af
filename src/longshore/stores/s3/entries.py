"""Replies that are long lists of entries, as columns of texts.

Servers put the same elements in orders of their own, so the pattern that reads a reply is made from
its first entry, and kept. It must account for every entry of the reply; else lxml reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any, NamedTuple

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
    """A kind of entry: its element, and of those inside the ones that matter, ``Key`` among them.
    Those that are ``skipped`` must be there, but are not read."""

    element: str
    names: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()

    def read(self, order: Sequence[str]) -> list[str]:
        """``order`` without what is skipped."""
        return [name for name in order if name not in self.skipped]


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
        columns.append(
            {name: [entry.first(name).text for entry in entries] for name in kind.read(kind.names)}
        )
    return columns, root


def _read_plain(text: str, kinds: Sequence[Kind]) -> tuple[list[Columns], Element] | None:
    """By patterns; None if they do not account for all of it."""
    there = [kind for kind in kinds if f"<{kind.element}>" in text]
    found: dict[Kind, Columns] | None = {}
    if there:
        start = min(text.find(f"<{kind.element}>") for kind in there)
        end = max(text.rfind(f"</{kind.element}>") + len(kind.element) + 3 for kind in there)
        found = _columns(text, start, end, there)
        # In place of the entries, one that shows whether they stand where they should.
        text = f"{text[:start]}<{_PLACE}/>{text[end:]}"
    root = markup.read_plain(text) if found is not None else None
    if found is None or root is None or any(root.all(_PLACE)) is not bool(there):
        return None
    if any(child for kind in kinds for child in root.all(kind.element)):
        return None
    return [found.get(kind) or dict.fromkeys(kind.read(kind.names), ()) for kind in kinds], root


def _columns(text: str, start: int, end: int, kinds: Sequence[Kind]) -> dict[Kind, Columns] | None:
    """The columns of what stands between ``start`` and ``end``, which has entries of all these
    kinds; None if there is more than entries shaped as the first of their kind."""
    shapes: list[_Shape] = []
    for kind in kinds:
        at = text.find(f"<{kind.element}>")
        shape = _shape(text[at : text.find(f"</{kind.element}>", at)], kind)
        if shape is None:
            return None
        shapes.append(shape)
    wider = [shape._replace(gaps=(True,) * len(shape.gaps)) for shape in shapes]
    for tried in (shapes, wider):
        # A list of all texts one after the other: a tuple for each entry is work for Python's
        # garbage collector.
        found = _by_kind(_pattern(tuple(tried)).split(text[start:end]), tried)
        if found is not None:
            unescaped = {kind: _unescaped(columns) for kind, columns in found.items()}
            known = {kind: columns for kind, columns in unescaped.items() if columns is not None}
            return known if len(known) == len(found) else None
    return None


def _by_kind(pieces: list[Any], shapes: Sequence[_Shape]) -> dict[Kind, Columns] | None:
    """What a pattern has found, as columns; None if something stands between."""
    width = 1 + sum(len(kind.read(order)) for kind, order, *_ in shapes)
    if len(pieces) == 1 or any(pieces[::width]):
        return None
    columns = (pieces[place::width] for place in range(1, width))
    found: dict[Kind, Columns] = {}
    for kind, order, *_ in shapes:
        mine = dict(zip(kind.read(order), columns, strict=False))
        if len(shapes) > 1:
            ours = [key is not None for key in mine["Key"]]
            mine = {name: list(compress(column, ours)) for name, column in mine.items()}
        for name in kind.optional.intersection(mine):
            if None in mine[name]:
                mine[name] = [text or "" for text in mine[name]]
        found[kind] = mine
    return found


class _Shape(NamedTuple):
    """How a server writes entries: in which order, with what around ETags, and before which
    elements, and at the end, others may stand."""

    kind: Kind
    order: tuple[str, ...]
    gaps: tuple[bool, ...]
    quote: str


def _shape(entry: str, kind: Kind) -> _Shape | None:
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
    return _Shape(kind, (*order, *absent), tuple(gaps), quote)


@lru_cache(maxsize=64)
def _pattern(shapes: tuple[_Shape, ...]) -> re.Pattern[str]:
    """An entry of one of these shapes, and space behind it."""
    return re.compile(rf"(?:{'|'.join(map(_entry, shapes))})\s*+", re.ASCII)


def _entry(shape: _Shape) -> str:
    kind = shape.kind
    others = _others("|".join((*kind.names, kind.element)))
    contents = {"ETag": _ETAGS[shape.quote], "Size": "([0-9]++)"}
    contents |= dict.fromkeys(kind.skipped, "[^<]*+")
    inside = ""
    for name, gap in zip((*shape.order, ""), shape.gaps, strict=True):
        part = f"<{name}>{contents.get(name, '([^<]*+)')}</{name}>" if name else ""
        inside += others * gap + (f"(?:{part})?+" if name in kind.optional else part)
    return f"<{kind.element}>{inside}</{kind.element}>"


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
    if not any("&" in "".join(column) for name, column in columns.items() if name != "Size"):
        return columns
    texts = {name: list(map(markup.unescape, column)) for name, column in columns.items()}
    known = {name: [text for text in column if text is not None] for name, column in texts.items()}
    return known if known == texts else None
