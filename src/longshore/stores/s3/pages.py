"""Pages of listings as columns: ListObjectsV2 and ListObjectVersions.

Servers put the same elements in orders of their own, so the pattern that reads a page is made from
the page's first entry, and kept. It must account for each entry of the page; else lxml reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from longshore.errors import FailedPrecondition
from longshore.stores.s3 import markup
from longshore.stores.s3.markup import Element

_OBJECT = ("Key", "LastModified", "ETag", "Size", "StorageClass")
_VERSION = (*_OBJECT, "VersionId", "IsLatest")
_MARKER = ("Key", "LastModified", "VersionId", "IsLatest")
_OPTIONAL = "StorageClass"
_LISTS = ("ListBucketResult", "ListObjectsV2Result")
_VERSION_LISTS = ("ListVersionsResult", "ListObjectVersionsResult")
_OPENING = re.compile(r"<([A-Za-z]+)>", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_QUOTED = {
    "&quot;": "&quot;([^&]*+)&quot;",
    "&#34;": "&#34;([^&]*+)&#34;",
    '"': '"([^"]*+)"',
    "": "([^<]*+)",
}
"""An ETag by what it is quoted with. That a text has no reference is seen by the column: to exclude
two characters takes a pattern twice as long."""
_MAX_TIMES = 10_000

_Columns = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Objects, versions or delete markers as columns of equal length, in the order of the page.

    ``modified`` is in whole seconds since 1970. Of live objects there are no ``version_ids`` and no
    ``latest``; of delete markers no ``etags``, ``sizes`` and ``classes``. ``classes`` are "" where
    a server names none.
    """

    names: list[str]
    modified: list[int]
    etags: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    version_ids: list[str] = field(default_factory=list)
    latest: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of ListObjectsV2. ``next_token`` is "" on the last one."""

    objects: Entries
    next_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsPage:
    """A page of ListObjectVersions. ``next_key`` and ``next_version_id`` are "" on the last one."""

    versions: Entries
    markers: Entries
    next_key: str
    next_version_id: str


def read_page(body: bytes) -> Page:
    """A reply to ListObjectsV2; raises Internal for what is none, and FailedPrecondition for a
    name that is no UTF-8."""
    (objects,), root = _read(body, {"Contents": _OBJECT}, _LISTS)
    token = root.first("NextContinuationToken").text if _goes_on(root) else ""
    if not token and _goes_on(root):
        raise markup.unreadable(body, "a list that goes on without a token")
    return Page(objects=objects, next_token=token)


def read_versions_page(body: bytes) -> VersionsPage:
    """A reply to ListObjectVersions; raises as ``read_page`` does."""
    kinds = {"Version": _VERSION, "DeleteMarker": _MARKER}
    (versions, markers), root = _read(body, kinds, _VERSION_LISTS)
    next_key = next_version_id = ""
    if _goes_on(root):
        raw = root.first("NextKeyMarker").text
        if not raw:
            raise markup.unreadable(body, "a list that goes on without a marker")
        next_key = _next_key(raw, versions.names + markers.names) if _is_encoded(root) else raw
        next_version_id = root.get("NextVersionIdMarker")
    return VersionsPage(
        versions=versions, markers=markers, next_key=next_key, next_version_id=next_version_id
    )


def _goes_on(root: Element) -> bool:
    return root.get("IsTruncated") == "true"


def _is_encoded(root: Element) -> bool:
    """Whether names are percent-encoded: not every server does as it is asked."""
    return root.get("EncodingType") == "url"


def _next_key(raw: str, names: Sequence[str]) -> str:
    """The name to go on after. Ceph leaves it as it is on pages whose names are encoded; that it is
    the name of an entry tells the two apart."""
    (decoded,) = _decode_names([raw])
    return raw if raw in names and decoded not in names else decoded


def _read(
    body: bytes, kinds: Mapping[str, Sequence[str]], roots: Sequence[str]
) -> tuple[list[Entries], Element]:
    """The entries of each kind, and the document without them."""
    text = markup.decode(body)
    plain = _read_plain(text, kinds) if text is not None else None
    if plain is None:
        root = markup.read_any(body)
        of_lxml = {
            kind: {
                name: [entry.first(name).text for entry in root.all(kind) if entry.children]
                for name in names
            }
            for kind, names in kinds.items()
        }
        plain = of_lxml, root
    columns, root = plain
    if root.name not in roots:
        raise markup.unreadable(body, f"<{root.name}>")
    encoded = _is_encoded(root)
    try:
        return [_entries(columns[kind], encoded) for kind in kinds], root
    except (ValueError, TypeError) as error:
        raise markup.unreadable(body, "a list with an odd size or time") from error


def _read_plain(
    text: str, kinds: Mapping[str, Sequence[str]]
) -> tuple[Mapping[str, _Columns], Element] | None:
    """What ``_read`` gives, by patterns; None if they do not account for all of it."""
    columns: dict[str, _Columns] = {}
    starts, ends = [], []
    for kind, names in kinds.items():
        found = _columns(text, kind, names)
        if found is None:
            return None
        columns[kind] = found
        if found["Key"]:
            starts.append(text.index(f"<{kind}>"))
            ends.append(text.rindex(f"</{kind}>") + len(kind) + 3)
    without = text[: min(starts)] + text[max(ends) :] if starts else text
    root = markup.read_plain(without)
    # What stands between entries would be lost; this much stands outside in each known list.
    if root is None or not root.get("IsTruncated"):
        return None
    return columns, root


def _columns(text: str, kind: str, names: Sequence[str]) -> _Columns | None:
    """The columns of the entries of a kind; None if there are others than the pattern finds."""
    tags = text.count(f"{kind}>")
    start = text.find(f"<{kind}>")
    if start < 0:
        return None if tags else dict.fromkeys(names, ())
    entry = text[start : text.find(f"</{kind}>", start)]
    order = [name for name in _OPENING.findall(entry) if name in names]
    if _OPTIONAL in names and _OPTIONAL not in order:
        order.append(_OPTIONAL)
    if sorted(order) != sorted(names):
        return None
    quote = next(quote for quote in _QUOTED if f"<ETag>{quote}" in entry or not quote)
    for others in (False, True):
        pattern = _pattern(kind, tuple(order), quote, others)
        rows = pattern.findall(text) if pattern.match(text, start) else []
        # One that the pattern does not find has its tags all the same.
        if 2 * len(rows) == tags:
            return _unescaped(dict(zip(order, zip(*rows, strict=True), strict=True)))
    return None


def _unescaped(columns: _Columns) -> _Columns | None:
    """Columns without references; None if that takes lxml."""
    if not any("&" in "".join(column) for column in columns.values()):
        return columns
    texts = {name: list(map(markup.unescape, column)) for name, column in columns.items()}
    known = {name: [text for text in column if text is not None] for name, column in texts.items()}
    return known if known == texts else None


@lru_cache(maxsize=64)
def _pattern(kind: str, order: tuple[str, ...], quote: str, others: bool) -> re.Pattern[str]:
    """An entry whose known elements stand in that order, perhaps with others between them."""
    known = "|".join(order)
    between = rf"(?:\s++|<(?!(?:{known})>|/?{kind}>)[^>]*+>[^<]*+)*+" if others else ""
    contents = {"ETag": _QUOTED[quote], "Size": "([0-9]++)"}
    parts = []
    for name in order:
        part = f"<{name}>{contents.get(name, '([^<]*+)')}</{name}>"
        parts.append(f"(?:{part})?+" if name == _OPTIONAL else part)
    return re.compile(f"<{kind}>{between}{between.join(parts)}{between}</{kind}>", re.ASCII)


def _entries(columns: _Columns, encoded: bool) -> Entries:
    """Columns of texts as columns of values."""
    raw = columns["Key"]
    return Entries(
        names=_decode_names(raw) if encoded else list(raw),
        modified=_seconds(columns["LastModified"]),
        etags=[etag.strip('"') for etag in columns.get("ETag", ())],
        sizes=list(map(int, columns.get("Size", ()))),
        classes=list(columns.get("StorageClass", ())),
        version_ids=list(columns.get("VersionId", ())),
        latest=[text.strip() == "true" for text in columns.get("IsLatest", ())],
    )


def _decode_names(raw: Sequence[str]) -> list[str]:
    """Names out of their percent-encoding, where "+" is a space."""
    if not any("%" in name or "+" in name for name in raw):
        return list(raw)
    # All at once, separated by a byte that no UTF-8 has.
    decoded = unquote_to_bytes("%FF".join(raw).replace("+", " ")).split(b"\xff")
    try:
        names = [name.decode() for name in decoded]
    except UnicodeDecodeError as error:
        raise _not_utf8(error.object) from error
    if len(names) != len(raw):
        raise _not_utf8(b"\xff".join(decoded))
    return names


def _not_utf8(name: bytes) -> FailedPrecondition:
    return FailedPrecondition(
        f"The bucket has a name that is no UTF-8, like {name[:200]!r}; exclude it by prefix, or"
        " delete it."
    )


class _Times(dict[str, int]):
    """Whole seconds since 1970 by a time's text: objects are often written together."""

    def __missing__(self, text: str) -> int:
        self[text] = seconds = (datetime.fromisoformat(text) - _EPOCH) // _SECOND
        return seconds


_times = _Times()


def _seconds(texts: Sequence[str]) -> list[int]:
    if len(_times) > _MAX_TIMES:
        _times.clear()
    return list(map(_times.__getitem__, texts))
