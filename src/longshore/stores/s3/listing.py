"""Listing: pages of live objects, or of all versions, between two bounds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from longshore.errors import Internal
from longshore.store import PAGE_BYTES, Batch
from longshore.stores.s3 import buckets, heads, targets
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.pages import Entries, read_page, read_versions_page
from longshore.stores.s3.versions import (
    VERSION,
    Rows,
    check_columns,
    fingerprints,
    of_objects,
    of_page,
    pick,
)

MAX_KEYS = 1000
HIDDEN = ".longshore-probe/"
"""What calls are tried on has names that begin so; nobody else sees them."""
_CLASS = frozenset({"StorageClass"})
_COUNTED = frozenset({"StorageClass", "LastModified", "ETag"})
"""What of an entry is not read where nobody asks for its class, and where objects are counted."""
_AFTER_HIDDEN = HIDDEN[:-1] + chr(ord("/") + 1)


class Range(NamedTuple):
    """Names that begin with ``prefix`` and lie after ``after`` and before ``before``."""

    prefix: str = ""
    after: str = ""
    before: str | None = None

    def has(self, name: str) -> bool:
        """Whether ``name`` lies in the range."""
        inside = name.startswith(self.prefix) and name > self.after
        return inside and (self.before is None or name < self.before)


class Listed(NamedTuple):
    """What one request listed, and where the next goes on; None: that was all."""

    entries: Entries
    following: Mapping[str, str] | None


async def pages(
    client: Client,
    bucket: str,
    names: Range,
    *,
    after_generation: int | None,
    versions: bool,
    columns: Sequence[str] | None,
    page_size: int,
) -> AsyncIterator[Batch]:
    """Pages as of ``Store.list_objects``."""
    counts = columns is None and not versions
    columns = columns or ()
    check_columns(columns)
    versioned = await buckets.keeps_versions(client, bucket)
    held: Batch | None = None
    if versions and after_generation is not None and names.after:
        older = await _older(client, bucket, names, after_generation)
        held = (await _filled(client, bucket, older, columns)) if older.names else None
    skipped = frozenset() if "storage_class" in columns else _COUNTED if counts else _CLASS
    size = min(page_size, MAX_KEYS)
    async for listed, last in _ranged(client, bucket, names, versioned, size, skipped):
        entries = listed
        if versioned and not versions:
            entries = pick(listed, [i for i, live in enumerate(listed.latest) if live])
        batch = _counted(entries) if counts else await _filled(client, bucket, entries, columns)
        batch = held + batch if held else batch
        ready = len(batch)
        if versions:
            batch = _by_generation(batch)
            if not last and ready:  # of the last name there may be more
                ready = bisect_left(batch.names, batch.names[-1])
        start = 0
        while start < ready:
            end = _cut(batch, start, min(ready, start + page_size))
            yield batch.pick(range(start, end)) if end - start < len(batch) else batch
            start = end
        held = batch.pick(range(start, len(batch))) if start < len(batch) else None


def _by_generation(batch: Batch) -> Batch:
    """The batch with the newest generation of each name first: who goes on after a version that is
    gone by then knows which are older only by this. S3's own order tells versions of one second
    apart, which nobody can who does not see them all."""
    names, generations = batch.names, batch.generations
    if len(set(names)) == len(names):
        return batch
    return batch.pick(sorted(range(len(batch)), key=lambda i: (names[i], -generations[i])))


def _counted(entries: Entries) -> Batch:
    """The entries for who looks at names and sizes; their generation is no object's."""
    ones = [1] * len(entries)
    return Batch(names=entries.names, generations=ones, metagenerations=ones, sizes=entries.sizes)


async def _filled(client: Client, bucket: str, entries: Entries, columns: Sequence[str]) -> Batch:
    """The entries with all ``columns``, without those that have gone meanwhile."""
    rows = Rows.listed(entries, columns)
    told = not heads.needs_head(name for name in columns if name != "checksum")
    await heads.fill(client, bucket, rows, range(len(entries)) if told else range(0))
    batch = rows.batch()
    if all(batch.generations):
        return batch
    return batch.pick([i for i, generation in enumerate(batch.generations) if generation])


def _cut(batch: Batch, start: int, end: int) -> int:
    """Where the page that begins at ``start`` ends, at ``end`` at the latest."""
    texts = [batch.names, *(column for name, column in batch.columns.items() if name != VERSION)]
    texts = [column for column in texts if isinstance(column[0], str)]
    if sum(sum(map(len, column[start:end])) for column in texts) <= PAGE_BYTES:
        return end
    lengths = accumulate(sum(len(column[i]) for column in texts) for i in range(start, end))
    return start + max(1, bisect_right(list(lengths), PAGE_BYTES))


async def _ranged(
    client: Client,
    bucket: str,
    names: Range,
    versioned: bool,
    page_size: int,
    skipped: frozenset[str],
) -> AsyncIterator[tuple[Entries, bool]]:
    """What lies in the range, page by page, and whether it is the last."""
    # No object of S3 has U+0000 in its name, and some servers cannot even be asked for it.
    prefix, after = names.prefix.partition("\0")[0], names.after.partition("\0")[0]
    at: Mapping[str, str] | None = start_after(after, versioned)
    if names.before is not None and names.before <= max(names.after, names.prefix):
        at = None
    last_name = after
    while at is not None:
        entries, at = await page(client, bucket, versioned, prefix, at, page_size, skipped)
        if entries.names:
            _check_order(bucket, last_name, entries.names, versioned)
            last_name = entries.names[-1]
            if names.before is not None and last_name >= names.before:
                at = None
                entries = pick(entries, range(bisect_left(entries.names, names.before)))
            if entries.names and (entries.names[0] <= names.after or prefix != names.prefix):
                # Ceph begins with the versions of the name that it was to begin after.
                entries = pick(
                    entries, [i for i, one in enumerate(entries.names) if names.has(one)]
                )
            entries = _without_hidden(entries)
        if entries.names or at is None:
            yield entries, at is None


def start_after(name: str, versioned: bool) -> dict[str, str]:
    """Where a listing begins that has what lies after ``name``."""
    return {"key-marker" if versioned else "start-after": name} if name else {}


async def page(
    client: Client,
    bucket: str,
    versioned: bool,
    prefix: str,
    at: Mapping[str, str],
    max_keys: int = MAX_KEYS,
    skipped: frozenset[str] = frozenset(),
) -> Listed:
    """One page of what begins with ``prefix``, from ``at`` on; ``skipped`` as of ``read_page``."""
    query = {"encoding-type": "url", "max-keys": str(max_keys), "prefix": prefix, **at}
    if not prefix:
        del query["prefix"]
    if not versioned:
        query["list-type"] = "2"
        call = Call("ListObjectsV2", "GET", bucket, query=targets.query(query))
        listed = read_page((await client.read(call)).body, skipped)
        token = {"continuation-token": listed.next_token} if listed.next_token else None
        return Listed(of_objects(listed.objects), token)
    query["versions"] = ""
    call = Call("ListObjectVersions", "GET", bucket, query=targets.query(query))
    found = read_versions_page((await client.read(call)).body, skipped)
    following = {"key-marker": found.next_key, "version-id-marker": found.next_version_id}
    following = {name: text for name, text in following.items() if text}
    return Listed(of_page(found), following or None)


async def _older(client: Client, bucket: str, names: Range, generation: int) -> Entries:
    """The versions of the name ``names.after`` that are older than ``generation``."""
    name = names.after
    if not name.startswith(names.prefix) or (names.before is not None and name >= names.before):
        return Entries(names=[], modified=[])
    versions = await of_name(client, bucket, name)
    known = fingerprints(versions)
    return pick(versions, [i for i, one in enumerate(known) if one < generation])


async def of_name(client: Client, bucket: str, name: str) -> Entries:
    """All versions of one name."""
    found: list[Entries] = []
    at: Mapping[str, str] | None = {}
    while at is not None:
        entries, at = await page(client, bucket, True, name, at)
        end = len(entries)
        while end and entries.names[end - 1] != name:
            end -= 1
        found.append(pick(entries, range(end)))
        if end < len(entries):
            break
    return Entries(
        names=[one for entries in found for one in entries.names],
        modified=[one for entries in found for one in entries.modified],
        etags=[one for entries in found for one in entries.etags],
        sizes=[one for entries in found for one in entries.sizes],
        classes=[one for entries in found for one in entries.classes],
        version_ids=[one for entries in found for one in entries.version_ids],
        latest=[one for entries in found for one in entries.latest],
    )


def _check_order(bucket: str, before: str, names: Sequence[str], versioned: bool) -> None:
    """Raises Internal if a listing is not in order: what a shard has done is known by the last
    name that it has listed."""
    first = names[0]
    in_order = before <= first if versioned else before < first
    if not (in_order or not before) or list(names) != sorted(names):
        raise Internal(
            f"The store does not list bucket '{bucket}' in the order of names: longshore cannot"
            " work on it."
        )


def _without_hidden(entries: Entries) -> Entries:
    names = entries.names
    start, end = bisect_left(names, HIDDEN), bisect_left(names, _AFTER_HIDDEN)
    if start == end:
        return entries
    return pick(entries, (*range(start), *range(end, len(names))))
