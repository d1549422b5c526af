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
    Sequence,
)
from copy import copy
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any
from zlib import crc32

from longshore import object_rules as rules
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from longshore.patch import MapPatch, Patch
from longshore.settings import StoreSettings
from longshore.store import (
    ABSENT,
    COLUMNS,
    PAGE_SIZE,
    Batch,
    Bucket,
    Capabilities,
    Failure,
    NewObject,
    Outcome,
    Store,
)

_FIXED = ("name", "generation", "metageneration", "size")


def open_store(settings: StoreSettings, data_dir: Path) -> Store:
    """A new, empty store. It takes no options and keeps nothing in ``data_dir``."""
    for option in settings.options:
        raise InvalidArgument(f"The memory store {settings.name!r} has no option {option!r}.")
    return MemoryStore()


@dataclass(slots=True, kw_only=True)
class _Version:
    """One version of an object, or with nothing but a name the want of one."""

    name: str
    generation: int = ABSENT
    metageneration: int = 0
    size: int = 0
    content: bytes = b""
    live: bool = False
    retained_from_us: int = 0
    temporary_hold: bool = False
    event_based_hold: bool = False
    content_type: str = ""
    content_encoding: str = ""
    content_language: str = ""
    content_disposition: str = ""
    cache_control: str = ""
    custom_time_us: int = 0
    retention: str = ""
    custom_metadata: str = ""
    contexts: str = ""
    acl: str = ""
    storage_class: str = ""
    kms_key: str = ""
    checksum: str = ""
    create_time_us: int = 0
    update_time_us: int = 0


_guard = attrgetter(*rules.Guard._fields)


class _Bucket:
    """Versions by name: the live ones, and the noncurrent ones with the newest first."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self.rules = bucket
        self.clock = clock
        self.live: dict[str, _Version] = {}
        self.noncurrent: dict[str, list[_Version]] = {}
        self._names: list[str] = []
        self._sorted = True
        self._last_number = 0

    def names_from(self, start: str) -> Iterator[str]:
        """Names in order, ``start`` being the first possible; some may have no version left.

        Code points and the bytes of UTF-8 have the same order.
        """
        known = len(self.live) + len(self.noncurrent)
        if not self._sorted or len(self._names) > 2 * known + PAGE_SIZE:
            self._names = sorted({*self.live, *self.noncurrent})
            self._sorted = True
        names = self._names
        return (names[i] for i in range(bisect_left(names, start), len(names)))

    def versions(self, name: str) -> Iterator[_Version]:
        """The versions of a name, the newest first."""
        if name in self.live:
            yield self.live[name]
        yield from self.noncurrent.get(name, ())

    def find(self, name: str, generation: int) -> _Version | None:
        """One version, or for ABSENT the live one."""
        live = self.live.get(name)
        if generation == ABSENT or (live is not None and live.generation == generation):
            return live
        found = (v for v in self.noncurrent.get(name, ()) if v.generation == generation)
        return next(found, None)

    def add(self, version: _Version) -> None:
        """Make ``version`` the live one of its name."""
        self._last_number = max(self._last_number + 1, self.clock.now_us())
        version.generation = self._last_number
        self.live[version.name] = version
        if self._names and version.name <= self._names[-1]:
            self._sorted = False
        else:
            self._names.append(version.name)

    def remove(self, version: _Version, *, archived: bool) -> Failure | None:
        """Delete a version, or make it noncurrent; or what forbids that."""
        failure = self.refuse_removal(version, archived=archived)
        if failure is not None:
            return failure
        if version.live:
            del self.live[version.name]
        else:
            self.noncurrent[version.name].remove(version)
            if not self.noncurrent[version.name]:
                del self.noncurrent[version.name]
        if archived:
            version.live = False
            self.noncurrent.setdefault(version.name, []).insert(0, version)
        return None

    def refuse_removal(self, version: _Version, *, archived: bool) -> Failure | None:
        held = version.temporary_hold or version.event_based_hold or version.retention
        period = self.rules.retention_period_seconds
        if not held and not period:
            return None
        guard = rules.Guard(*_guard(version))
        path = self.path(version.name)
        return rules.refuse_removal(path, guard, period, self.clock.now_us(), archived=archived)

    def missing(self, name: str) -> Failure:
        return rules.missing(self.path(name), live=name in self.live)

    def path(self, name: str) -> str:
        return f"{self.rules.name}/{name}"


class MemoryStore:
    """Buckets in dictionaries. For what its methods promise see the contract, store.Store."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

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
        columns: Sequence[str] = (),
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Batch]:
        _check_columns(columns)
        position = after, after_generation
        while True:
            found = await self._bucket(bucket)
            page: list[_Version] = []
            for name in found.names_from(max(prefix, position[0])):
                if not name.startswith(prefix) or (before is not None and name >= before):
                    break
                of_name = found.versions(name) if versions else _live(found, name)
                if name == position[0]:
                    bound = position[1] or 0
                    of_name = (v for v in of_name if versions and v.generation < bound)
                page += of_name
                if len(page) >= page_size:
                    break
            del page[page_size:]
            if page:
                yield _batch(page, columns)
            if len(page) < page_size:
                return
            position = page[-1].name, page[-1].generation

    async def read_objects(
        self,
        bucket: str,
        names: Sequence[str],
        generations: Sequence[int],
        *,
        columns: Sequence[str] = (),
    ) -> Batch:
        _check_columns(columns)
        found = await self._bucket(bucket)
        versions = [
            found.find(name, generation) or _Version(name=name)
            for name, generation in zip(names, generations, strict=True)
        ]
        return _batch(versions, columns)

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
        written = _write(await self._bucket(bucket), NewObject(name, data, metadata))
        if isinstance(written, Failure):
            raise PermissionDenied(written.message)
        return written

    async def write_objects(self, bucket: str, objects: Iterable[NewObject]) -> Outcome:
        found = await self._bucket(bucket)
        failures = {}
        for index, new in enumerate(objects):
            try:
                rules.check_name(new.name)
            except InvalidArgument as error:
                failures[index] = Failure(error.code, error.message)
                continue
            written = _write(found, new)
            if isinstance(written, Failure):
                failures[index] = written
        return Outcome(failures=failures)

    async def delete_objects(self, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
        found = await self._bucket(bucket)
        archived = found.rules.versioning and not permanent
        failures = {}
        for index, name in enumerate(batch.names):
            version = found.find(name, batch.generations[index] or -1)
            if version is None or not (version.live or permanent):
                failures[index] = found.missing(name)
            elif failure := found.remove(version, archived=archived):
                failures[index] = failure
        return Outcome(failures=failures)

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        found = await self._bucket(bucket)
        now_us = found.clock.now_us()
        refused = rules.refuse_patch(found.rules, patch, now_us)
        live = batch.columns.get("live") or [True] * len(batch)
        change = _change(patch)
        failures: dict[int, Failure] = {}
        for index, name in enumerate(batch.names):
            version = found.find(name, batch.generations[index] or -1)
            if version is None or (live[index] and not version.live):
                failures[index] = found.missing(name)
            elif match_metageneration and version.metageneration != batch.metagenerations[index]:
                failures[index] = rules.moved(found.path(name))
            elif failure := refused or change(found, version):
                failures[index] = failure
            else:
                version.metageneration += 1
                version.update_time_us = now_us
        return Outcome(failures=failures)

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        found = await self._bucket(bucket)
        live = batch.columns.get("live") or [True] * len(batch)
        failures = {}
        for index, name in enumerate(batch.names):
            version = found.find(name, batch.generations[index] or -1)
            if version is None or (live[index] and not version.live):
                failures[index] = found.missing(name)
            elif not version.live:
                failures[index] = rules.noncurrent(found.path(name))
            elif failure := _rewrite(found, version, storage_class, kms_key):
                failures[index] = failure
        return Outcome(failures=failures)

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
        self._buckets[bucket.name] = _Bucket(made, self._clock)
        return made

    async def update_bucket(self, bucket: str, **changes: Any) -> Bucket:
        rules.check_bucket_changes(changes)
        found = await self._bucket(bucket)
        changed = replace(found.rules, **changes)
        rules.check_bucket(changed)
        found.rules = changed
        return changed

    async def delete_bucket(self, bucket: str) -> None:
        found = await self._bucket(bucket)
        if found.live or found.noncurrent:
            raise rules.not_empty(bucket)
        del self._buckets[bucket]

    async def close(self) -> None:
        """Keeps everything: there is nothing to let go of."""

    async def _bucket(self, name: str) -> _Bucket:
        await asyncio.sleep(0)  # as a store that waits for something, let others run
        if name not in self._buckets:
            raise rules.no_bucket(name)
        return self._buckets[name]


def _write(bucket: _Bucket, new: NewObject) -> int | Failure:
    now_us = bucket.clock.now_us()
    columns = rules.new_object(bucket.rules, new.metadata, now_us)
    data = _read(new.content)
    if isinstance(data, Failure):
        return data
    before = bucket.live.get(new.name)
    if before is not None:
        failure = bucket.remove(before, archived=bucket.rules.versioning)
        if failure is not None:
            return failure
    version = _Version(
        name=new.name,
        metageneration=1,
        size=len(data),
        content=data,
        checksum=f"{crc32(data):08x}",
        live=True,
        retained_from_us=now_us,
        create_time_us=now_us,
        update_time_us=now_us,
        **columns,
    )
    bucket.add(version)
    return version.generation


def _read(content: bytes | Path) -> bytes | Failure:
    if isinstance(content, bytes):
        return content
    try:
        return content.read_bytes()
    except OSError as error:
        return rules.unreadable(content, error)


def _rewrite(
    bucket: _Bucket, version: _Version, storage_class: str, kms_key: str
) -> Failure | None:
    now_us = bucket.clock.now_us()
    new = copy(version)
    failure = bucket.remove(version, archived=bucket.rules.versioning)
    if failure is not None:
        return failure
    new.storage_class = storage_class or new.storage_class
    new.kms_key = kms_key or new.kms_key
    new.metageneration = 1
    new.event_based_hold = bucket.rules.default_event_based_hold and not new.retention
    new.retained_from_us = new.create_time_us = new.update_time_us = now_us
    bucket.add(new)
    return None


def _change(patch: Patch) -> Callable[[_Bucket, _Version], Failure | None]:
    """A function that makes the change in a version, or gives what forbids it."""
    changes = patch.changes()
    maps = {name: change for name, change in changes.items() if isinstance(change, MapPatch)}
    plain = [(name, value) for name, value in changes.items() if name not in maps]
    known: dict[tuple[str, str], str] = {}
    judged = not changes.keys().isdisjoint(rules.CHANGE_COLUMNS)

    def set_(version: _Version) -> None:
        for name, value in plain:
            setattr(version, name, value)
        for name, change in maps.items():
            text = getattr(version, name)
            if (name, text) not in known:
                known[name, text] = change.apply(text)
            setattr(version, name, known[name, text])

    def careful(bucket: _Bucket, version: _Version) -> Failure | None:
        before = {name: getattr(version, name) for name in (*changes, *rules.CHANGE_COLUMNS)}
        failure = rules.refuse_change(
            bucket.path(version.name),
            before,
            rules.apply_changes(before, changes),
            override=patch.override_unlocked_retention,
        )
        if failure is None:
            set_(version)
            if before["event_based_hold"] and not version.event_based_hold:
                version.retained_from_us = bucket.clock.now_us()
        return failure

    def quick(bucket: _Bucket, version: _Version) -> None:
        set_(version)

    return careful if judged else quick


def _live(bucket: _Bucket, name: str) -> Iterator[_Version]:
    if name in bucket.live:
        yield bucket.live[name]


def _check_columns(columns: Sequence[str]) -> None:
    for column in columns:
        rules.check_known("column of an object", column, COLUMNS)


def _batch(versions: list[_Version], columns: Sequence[str]) -> Batch:
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
