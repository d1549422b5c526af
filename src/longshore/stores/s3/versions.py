"""Versions of objects as rows: how one is told from another, and columns of many."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from longshore import object_rules as rules
from longshore.store import ABSENT, COLUMNS, Batch
from longshore.stores.s3.pages import Entries, VersionsPage

VERSION = "version"
"""The column of our own that every batch has: what addresses just that version, as Version.dump
has it; () where there is nothing."""
_HASH_BITS = 30
_HASH = (1 << _HASH_BITS) - 1
_NO_IDS = ("", "null")
_MD5 = re.compile("[0-9a-f]{32}", re.ASCII)


class Version(NamedTuple):
    """What tells a version from others. ``version_id`` is "" where the bucket never had versions;
    ``etag`` is without quotes, and "" for a delete marker; ``modified`` in seconds since 1970."""

    version_id: str
    etag: str
    modified: int

    def dump(self) -> tuple[str, str, int]:
        """A plain tuple, since zip makes a column of these at a fifth of the CPU."""
        return self.version_id, self.etag, self.modified

    @staticmethod
    def load(dumped: tuple[Any, ...]) -> Version:
        return Version(*dumped)

    @property
    def has_id(self) -> bool:
        """Whether its id is its own: "null" is that of whatever was written without versions."""
        return self.version_id not in _NO_IDS

    @property
    def query(self) -> dict[str, str]:
        """What names this version in a request's query."""
        return {"versionId": self.version_id} if self.version_id else {}


def fingerprint(version_id: str, etag: str, modified: int, size: int) -> int:
    """The generation of a version: S3 has none.

    Its upper bits are the time in seconds, so that generations grow; its lower ones come from the
    version's id, or where it has none from what it contains. Two writes of a name in one second
    with the same content are one generation in a bucket that keeps no versions.
    """
    no_id = version_id in _NO_IDS
    hashed = zlib.crc32(etag.encode(), size) if no_id else zlib.crc32(version_id.encode())
    return modified << _HASH_BITS | hashed & _HASH or 1


def checksum(size: int, etag: str) -> str:
    """Of the content, as far as size and ETag tell: of its size, and where the ETag may be its MD5
    of that. A copy may have an ETag of the other kind."""
    known = zlib.crc32(b"%d" % size).to_bytes(4, "big")[1:]
    if _MD5.fullmatch(etag):
        known += bytes.fromhex(etag[:6])
    return base64.b64encode(known).decode()


def is_same(wanted: int, version_id: str, generation: int) -> bool:
    """Whether what has this version id and generation is the ``wanted`` generation. A version that
    has an id stays what it is whatever its time, which Ceph moves when its tags or its hold
    change."""
    if wanted == generation:
        return True
    return version_id not in _NO_IDS and (wanted ^ generation) & _HASH == 0 and wanted != 0


def of_objects(objects: Entries) -> Entries:
    """Live objects with the columns of versions."""
    count = len(objects)
    return Entries(
        names=objects.names,
        modified=objects.modified,
        etags=objects.etags,
        sizes=objects.sizes,
        classes=objects.classes,
        version_ids=[""] * count,
        latest=[True] * count,
    )


def of_page(page: VersionsPage) -> Entries:
    """Versions and delete markers together. ``latest`` says which are live objects; a marker is of
    size 0, and has no etag."""
    versions, markers = page.versions, page.markers
    if not markers.names:
        return versions
    count = len(markers)
    rows = [
        *zip(versions.names, versions.modified, versions.etags, versions.sizes,
             versions.classes, versions.version_ids, versions.latest, strict=True),
        *zip(markers.names, markers.modified, [""] * count, [0] * count,
             [""] * count, markers.version_ids, [False] * count, strict=True),
    ]  # fmt: skip
    rows.sort(key=lambda row: row[0])
    names, modified, etags, sizes, classes, version_ids, live = map(list, zip(*rows, strict=True))
    return Entries(
        names=names,
        modified=modified,
        etags=etags,
        sizes=sizes,
        classes=classes,
        version_ids=version_ids,
        latest=live,
    )


def pick(entries: Entries, indexes: Iterable[int]) -> Entries:
    """The entries at ``indexes``."""
    chosen = list(indexes)
    return Entries(
        names=[entries.names[i] for i in chosen],
        modified=[entries.modified[i] for i in chosen],
        etags=[entries.etags[i] for i in chosen],
        sizes=[entries.sizes[i] for i in chosen],
        classes=[entries.classes[i] for i in chosen],
        version_ids=[entries.version_ids[i] for i in chosen],
        latest=[entries.latest[i] for i in chosen],
    )


def fingerprints(entries: Entries) -> list[int]:
    """The generations of listed versions."""
    if not any(entries.version_ids):  # as ``fingerprint``, at a third of the CPU
        hashed = map(zlib.crc32, map(str.encode, entries.etags), entries.sizes)
        times = zip(entries.modified, hashed, strict=True)
        return [modified << _HASH_BITS | one & _HASH or 1 for modified, one in times]
    rows = zip(entries.version_ids, entries.etags, entries.modified, entries.sizes, strict=True)
    return [fingerprint(*row) for row in rows]


class Rows:
    """A batch while it is put together: what is not set is absent."""

    def __init__(self, names: Sequence[str], columns: Sequence[str]) -> None:
        """Raises InvalidArgument for an unknown column."""
        count = len(names)
        check_columns(columns)
        self.names = list(names)
        self.generations = [ABSENT] * count
        self.sizes = [0] * count
        self.versions: list[tuple[Any, ...]] = [()] * count
        self.columns: dict[str, list[Any]] = {
            name: [COLUMNS[name]()] * count for name in dict.fromkeys(columns)
        }

    @classmethod
    def listed(cls, entries: Entries, columns: Sequence[str]) -> Rows:
        """All that a listing says of ``entries``."""
        rows = cls(entries.names, columns)
        rows.generations = fingerprints(entries)
        rows.sizes = list(entries.sizes)
        rows.versions = [*zip(entries.version_ids, entries.etags, entries.modified, strict=True)]
        if "live" in rows.columns:
            rows.columns["live"] = list(entries.latest)
        if "storage_class" in rows.columns:
            rows.columns["storage_class"] = [name or "STANDARD" for name in entries.classes]
        if "checksum" in rows.columns:
            rows.columns["checksum"] = list(map(checksum, entries.sizes, entries.etags))
        for name in ("create_time_us", "update_time_us"):
            if name in rows.columns:
                rows.columns[name] = [second * 1_000_000 for second in entries.modified]
        return rows

    def put(
        self, index: int, generation: int, size: int, version: tuple[Any, ...], **columns: Any
    ) -> None:
        """Set a row, and of ``columns`` those that are wanted."""
        self.generations[index] = generation
        self.sizes[index] = size
        self.versions[index] = version
        for name, column in self.columns.items():
            if name in columns:
                column[index] = columns[name]

    def remove(self, index: int) -> None:
        """Make a row absent."""
        self.put(index, ABSENT, 0, (), **rules.ZERO)

    def is_marker(self, index: int) -> bool:
        """Whether the row is a delete marker."""
        version = self.versions[index]
        return bool(version) and not Version.load(version).etag

    def _metagenerations(self) -> list[int]:
        if ABSENT not in self.generations:
            return [1] * len(self.generations)
        return [int(generation != ABSENT) for generation in self.generations]

    def batch(self) -> Batch:
        return Batch(
            names=self.names,
            generations=self.generations,
            metagenerations=self._metagenerations(),
            sizes=self.sizes,
            columns={**self.columns, VERSION: self.versions},
        )


def check_columns(columns: Iterable[str]) -> None:
    """Raises InvalidArgument for an unknown column."""
    for name in columns:
        rules.check_known("column of an object", name, COLUMNS)
