"""Pages of listings as columns: ListObjectsV2 and ListObjectVersions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from longshore.errors import FailedPrecondition
from longshore.stores.s3 import markup
from longshore.stores.s3.entries import Columns, Kind, read_entries
from longshore.stores.s3.markup import Element

_NAMES = ("Key", "LastModified")
_OPTIONAL = frozenset({"StorageClass"})
_OBJECT = Kind("Contents", (*_NAMES, "ETag", "Size", "StorageClass"), _OPTIONAL)
_VERSION = Kind("Version", (*_OBJECT.names, "VersionId", "IsLatest"), _OPTIONAL)
_MARKER = Kind("DeleteMarker", (*_NAMES, "VersionId", "IsLatest"))
_LISTS = ("ListBucketResult", "ListObjectsV2Result")
_VERSION_LISTS = ("ListVersionsResult", "ListObjectVersionsResult")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MAX_TIMES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Objects, versions or delete markers as columns of equal length, in the order of the page.

    ``modified`` is in whole seconds since 1970. Of live objects there are no ``version_ids`` and no
    ``latest``; of delete markers no ``etags``, ``sizes`` and ``classes``. ``classes`` are "" where
    a server names none. What was skipped is "" and 0.
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


def read_page(body: bytes, skipped: frozenset[str] = frozenset()) -> Page:
    """A reply to ListObjectsV2, of which these elements of entries need not be read (any but names
    and sizes); raises Internal for what is none, and FailedPrecondition for a name that is no
    UTF-8."""
    (objects,), root = _read(body, (_OBJECT._replace(skipped=skipped),), _LISTS)
    token = root.first("NextContinuationToken").text if _goes_on(root) else ""
    if not token and _goes_on(root):
        raise markup.unreadable(body, "a list that goes on without a token")
    return Page(objects=objects, next_token=token)


def read_versions_page(body: bytes, skipped: frozenset[str] = frozenset()) -> VersionsPage:
    """A reply to ListObjectVersions; skips, and raises, as ``read_page`` does."""
    kinds = _VERSION._replace(skipped=skipped), _MARKER._replace(skipped=skipped)
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
    body: bytes, kinds: Sequence[Kind], roots: Sequence[str]
) -> tuple[list[Entries], Element]:
    """The entries of each kind, and the document without them."""
    columns, root = read_entries(body, kinds, roots)
    encoded = _is_encoded(root)
    try:
        rows = zip(columns, kinds, strict=True)
        return [_entries(of_kind, kind, encoded) for of_kind, kind in rows], root
    except (ValueError, TypeError) as error:
        raise markup.unreadable(body, "a list with an odd size or time") from error


def _entries(columns: Columns, kind: Kind, encoded: bool) -> Entries:
    """Columns of texts as columns of values."""
    raw = columns["Key"]
    texts = {**dict.fromkeys(kind.skipped.intersection(kind.names), [""] * len(raw)), **columns}
    known = "LastModified" in columns
    return Entries(
        names=_decode_names(raw) if encoded else list(raw),
        modified=_seconds(columns["LastModified"]) if known else [0] * len(raw),
        etags=[etag.strip('"') for etag in texts.get("ETag", ())],
        sizes=list(map(int, columns.get("Size", ()))),
        classes=list(texts.get("StorageClass", ())),
        version_ids=list(columns.get("VersionId", ())),
        latest=[text.strip() == "true" for text in columns.get("IsLatest", ())],
    )


def _decode_names(raw: Sequence[str]) -> list[str]:
    """Names out of their percent-encoding, where "+" is a space."""
    # All at once; a slash is what most names have that needs it, where it is encoded at all.
    joined = "\0".join(raw)
    if "%" not in joined and "+" not in joined:
        return list(raw)
    joined = joined.replace("+", " ").replace("%2F", "/")
    if "%" in joined:
        decoded = unquote_to_bytes(joined)
        try:
            joined = decoded.decode()
        except UnicodeDecodeError as error:
            start = decoded.rfind(b"\0", 0, error.start) + 1
            raise _unusable(decoded[start:].partition(b"\0")[0]) from error
    names = joined.split("\0") if raw else []
    if len(names) != len(raw):
        raise _unusable(b"\0")
    return names


def _unusable(name: bytes) -> FailedPrecondition:
    return FailedPrecondition(
        f"The bucket has a name that is no UTF-8 or has a zero byte, like {name[:200]!r}: exclude"
        " it by prefix, or delete it."
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
