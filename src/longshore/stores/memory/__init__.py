"""A store in the memory of one process: for tests, and to measure the engine without a disk.

It has the semantics of the local store (both decide by object_rules) and lives as long as its
Store object: other processes, and workers in particular, do not see it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from functools import partial
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from longshore import object_rules as rules
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.embedded import Check
from longshore.errors import InvalidArgument, NotFound, PermissionDenied
from longshore.patch import Patch
from longshore.settings import StoreSettings, check_options
from longshore.store import (
    ABSENT,
    PAGE_BYTES,
    PAGE_SIZE,
    Batch,
    Bucket,
    Capabilities,
    Failure,
    NewObject,
    Outcome,
)
from longshore.stores.memory.versions import MemoryBucket, Version

_FIXED = ("name", "generation", "metageneration", "size")
Found = tuple[Iterator[str], Callable[[str], Sequence[Version]]]
"""Names in order, and what gives the versions of one, the newest first."""


class _Span(NamedTuple):
    """What of a bucket to list, and in pages of how many."""

    prefix: str
    before: str | None
    page_size: int


def open_store(settings: StoreSettings, data_dir: Path, clock: Clock = SYSTEM_CLOCK) -> MemoryStore:
    """A new, empty store. It takes no options and keeps nothing in ``data_dir``."""
    check_options(settings, ())
    return MemoryStore(clock)


class MemoryStore:
    """Buckets in dictionaries. For what its methods promise see the contract, store.Store."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._buckets: dict[str, MemoryBucket] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            patch_columns=rules.PATCH_COLUMNS, versions=True, rewrite=True, preconditions=True
        )

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: str = "",
        after_generation: int | None = None,
        before: str | None = None,
        versions: bool = False,
        columns: Sequence[str] | None = (),
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Batch]:
        def look(found: MemoryBucket, start: str) -> Found:
            of_name = found.versions if versions else found.live_versions
            return found.names_from(start), of_name

        columns = columns or ()
        _check_columns(columns, rules.OWN_COLUMNS)
        position = after, (after_generation or 0 if versions else 0)
        span = _Span(prefix, before, page_size)
        async for first in self._pages(bucket, look, span, position, columns):
            yield first

    async def list_soft_deleted(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: str = "",
        after_generation: int | None = None,
        before: str | None = None,
        columns: Sequence[str] = (),
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Batch]:
        def look(found: MemoryBucket, start: str) -> Found:
            return found.soft_deleted_names(start), found.soft_deleted_versions

        _check_columns(columns, rules.SOFT_DELETED_COLUMNS)
        position = after, after_generation or 0
        span = _Span(prefix, before, page_size)
        async for first in self._pages(bucket, look, span, position, columns):
            yield first

    async def _pages(
        self,
        bucket: str,
        look: Callable[[MemoryBucket, str], Found],
        span: _Span,
        position: tuple[str, int],
        columns: Sequence[str],
    ) -> AsyncIterator[Batch]:
        """Pages of what ``look`` gives from a name on, after ``position``."""
        prefix, before, page_size = span
        while True:
            found = await self._bucket(bucket)
            page: list[Version] = []
            names, versions = look(found, max(prefix, position[0]))
            for name in names:
                if not name.startswith(prefix) or (before is not None and name >= before):
                    break
                if name == position[0]:
                    page += [one for one in versions(name) if one.generation < position[1]]
                else:
                    page += versions(name)
                if len(page) >= page_size:
                    break
            del page[page_size:]
            first = _first_bytes(page, columns)
            if first:
                yield _batch(first, columns)
            if len(first) == len(page) < page_size:
                return
            position = first[-1].name, first[-1].generation

    async def read_objects(
        self,
        bucket: str,
        names: Sequence[str],
        generations: Sequence[int],
        *,
        columns: Sequence[str] = (),
    ) -> Batch:
        _check_columns(columns, rules.OWN_COLUMNS)
        found = await self._bucket(bucket)
        versions = [
            found.find(name, generation) or Version(name=name)
            for name, generation in zip(names, generations, strict=True)
        ]
        return _batch(versions, columns)

    async def read_soft_deleted(
        self, bucket: str, name: str, generation: int, *, columns: Sequence[str] = ()
    ) -> Batch:
        _check_columns(columns, rules.SOFT_DELETED_COLUMNS)
        found = await self._bucket(bucket)
        return _batch([found.find_soft_deleted(name, generation) or Version(name=name)], columns)

    async def read_bytes(
        self, bucket: str, name: str, generation: int = ABSENT, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        if start < 0:
            raise InvalidArgument(f"Cannot read from byte {start} on: it must not be negative.")
        found = await self._bucket(bucket)
        version = found.find(name, generation)
        if version is None:
            raise NotFound(rules.missing(found.path(name), live=False).message)
        content = version.content
        for position in range(start, len(content), 1 << 20):
            yield content[position : position + (1 << 20)]

    async def write_object(
        self, bucket: str, name: str, content: AsyncIterable[bytes], **metadata: Any
    ) -> int:
        rules.check_name(name)
        await self._bucket(bucket)
        data = b"".join([piece async for piece in content])
        written = (await self._bucket(bucket)).write(NewObject(name, data, metadata))
        if isinstance(written, Failure):
            raise PermissionDenied(written.message)
        return written

    async def write_objects(self, bucket: str, objects: Iterable[NewObject]) -> Outcome:
        found = await self._bucket(bucket)
        written = enumerate(map(found.write, objects))
        return Outcome(failures={i: one for i, one in written if isinstance(one, Failure)})

    async def delete_objects(self, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
        found = await self._bucket(bucket)
        delete = partial(found.delete, permanent=permanent)
        return _each(found, batch, [not permanent] * len(batch), delete)

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        found = await self._bucket(bucket)
        named = batch.metagenerations if match_metageneration else None
        return _each(found, batch, _means_live(batch), found.change(patch), named)

    async def put_object(
        self, bucket: str, new: NewObject, *, check: Check, columns: Sequence[str] = ()
    ) -> Batch:
        found = await self._bucket(bucket)
        rules.check_name(new.name)
        found.ask(new.name, check)
        written = found.write(new)
        if isinstance(written, Failure):
            raise rules.error_of(written)
        return _batch([found.live[new.name]], columns)

    async def delete_object(self, bucket: str, name: str, generation: int, *, check: Check) -> None:
        found = await self._bucket(bucket)
        version = found.checked(name, generation, check)
        if failure := found.delete(version, permanent=generation != ABSENT):
            raise rules.error_of(failure)

    async def patch_object(
        self,
        bucket: str,
        name: str,
        generation: int,
        *,
        patch: Patch,
        check: Check,
        columns: Sequence[str] = (),
    ) -> Batch:
        found = await self._bucket(bucket)
        version = found.checked(name, generation, check)
        if failure := found.change(patch)(version):
            raise rules.error_of(failure)
        return _batch([version], columns)

    async def move_object(
        self,
        bucket: str,
        name: str,
        to: str,
        *,
        check_source: Check,
        check: Check,
        columns: Sequence[str] = (),
    ) -> Batch:
        found = await self._bucket(bucket)
        version = found.checked(name, ABSENT, check_source)
        rules.check_move(name, to)
        found.ask(to, check)
        if failure := found.move(version, to):
            raise rules.error_of(failure)
        return _batch([found.live[to]], columns)

    async def restore_object(
        self,
        bucket: str,
        name: str,
        generation: int,
        *,
        acl: str | None,
        check: Check,
        columns: Sequence[str] = (),
    ) -> Batch:
        found = await self._bucket(bucket)
        deleted = found.find_soft_deleted(name, generation)
        if deleted is None:
            raise rules.not_soft_deleted(found.path(name), generation)
        found.ask(name, check)
        if failure := found.restore(deleted, acl):
            raise rules.error_of(failure)
        return _batch([found.live[name]], columns)

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        found = await self._bucket(bucket)

        def rewrite(version: Version) -> Failure | None:
            if version.live:
                return found.rewrite(version, storage_class, kms_key)
            return rules.noncurrent(found.path(version.name))

        return _each(found, batch, _means_live(batch), rewrite)

    async def list_buckets(self) -> AsyncIterator[Bucket]:
        for name in sorted(self._buckets):
            if name in self._buckets:
                yield self._buckets[name].rules

    async def get_bucket(self, bucket: str) -> Bucket:
        return (await self._bucket(bucket)).rules

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        rules.check_bucket(bucket)
        if bucket.name in self._buckets:
            raise rules.bucket_exists(bucket.name)
        made = replace(bucket, create_time_us=self._clock.now_us())
        self._buckets[bucket.name] = MemoryBucket(made, self._clock)
        return made

    async def update_bucket(self, bucket: str, **changes: Any) -> Bucket:
        rules.check_bucket_changes(changes)
        return await self.change_bucket(bucket, lambda before: replace(before, **changes))

    async def change_bucket(self, bucket: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        found = await self._bucket(bucket)
        changed = change(found.rules)
        rules.check_bucket(changed)
        found.rules = changed
        return changed

    async def delete_bucket(self, bucket: str) -> None:
        found = await self._bucket(bucket)
        if found.live or found.noncurrent:
            raise rules.not_empty(bucket)
        del self._buckets[bucket]

    async def discard_bucket(self, bucket: str) -> None:
        await self._bucket(bucket)
        self._buckets.pop(bucket, None)

    async def close(self) -> None:
        """Keeps everything: there is nothing to let go of."""

    async def _bucket(self, name: str) -> MemoryBucket:
        await asyncio.sleep(0)  # as a store that waits for something, let others run
        if name not in self._buckets:
            raise rules.no_bucket(name)
        return self._buckets[name]


def _each(
    bucket: MemoryBucket,
    batch: Batch,
    means_live: list[bool],
    act: Callable[[Version], Failure | None],
    metagenerations: list[int] | None = None,
) -> Outcome:
    """Do ``act`` to each version that is there, and of the named metageneration if any is."""
    failures: dict[int, Failure] = {}
    for index, name in enumerate(batch.names):
        version = bucket.find(name, batch.generations[index] or -1)
        if version is None or (means_live[index] and not version.live):
            failures[index] = rules.missing(bucket.path(name), live=name in bucket.live)
        elif metagenerations and version.metageneration != metagenerations[index]:
            failures[index] = rules.moved(bucket.path(name))
        elif failure := act(version):
            failures[index] = failure
    return Outcome(failures=failures)


def _means_live(batch: Batch) -> list[bool]:
    return batch.columns.get("live") or [True] * len(batch)


def _check_columns(columns: Sequence[str], known: Mapping[str, type]) -> None:
    for column in columns:
        rules.check_known("column of an object", column, known)


def _first_bytes(page: list[Version], columns: Sequence[str]) -> list[Version]:
    """The first versions of ``page`` whose texts take PAGE_BYTES; mostly that is all of them."""
    kinds = rules.SOFT_DELETED_COLUMNS
    texts = [attrgetter(name) for name in ("name", *columns) if kinds.get(name, str) is str]
    sizes = [sum(len(text(version)) for text in texts) for version in page]
    return page[: bisect_left(list(accumulate(sizes)), PAGE_BYTES) + 1]


def _batch(versions: list[Version], columns: Sequence[str]) -> Batch:
    rows = map(attrgetter(*_FIXED, *columns), versions)
    names, generations, metagenerations, sizes, *asked = (
        map(list, zip(*rows, strict=True)) if versions else [[] for _ in (*_FIXED, *columns)]
    )
    return Batch(
        names=names,
        generations=generations,
        metagenerations=metagenerations,
        sizes=sizes,
        columns=dict(zip(columns, asked, strict=True)),
    )
