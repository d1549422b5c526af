"""The contract of store.Store over the open buckets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from longshore import object_rules as rules
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.embedded import Check
from longshore.errors import InvalidArgument, NotFound
from longshore.patch import Patch
from longshore.store import (
    ABSENT,
    PAGE_SIZE,
    Batch,
    Bucket,
    Capabilities,
    Failure,
    NewObject,
    Outcome,
)
from longshore.stores.local import (
    contents,
    folder,
    patching,
    reading,
    receiving,
    rewriting,
    rows,
    schema,
    writing,
)
from longshore.stores.local.bucket import OpenBucket
from longshore.stores.local.failures import Gone, in_thread
from longshore.stores.local.transaction import Transaction

T = TypeVar("T")
Verb = Callable[[Transaction, rows.Targets], dict[int, Failure]]
MAX_OPEN = 4
"""Buckets kept open that nobody uses just now: as many as a worker works on at a time, since each
takes two threads, six files and 1.5 MB."""


class LocalStore:
    """The buckets in ``directory``. Opens each when it is used, and keeps the last few open.

    A call that is cancelled ends when what it does just then is done: it may have its effect, but
    nothing of it is under way any more.
    """

    def __init__(self, directory: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._directory = directory
        self._clock = clock
        self._open: dict[str, OpenBucket] = {}

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
        """Pages, each of one state of the bucket."""
        names = reading.name_range(prefix, after, after_generation, before)
        kind = reading.ANY if versions else reading.LIVE
        page = partial(reading.page, limit=page_size, kind=kind, columns=columns or ())
        async for batch in self._pages(bucket, names, page):
            yield batch

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
        """Pages of what can be restored."""
        names = reading.name_range(prefix, after, after_generation, before)
        kind = reading.SOFT_DELETED
        page = partial(reading.page, limit=page_size, kind=kind, columns=columns)
        async for batch in self._pages(bucket, names, page):
            yield batch

    async def _pages(
        self, bucket: str, names: reading.Range, page: Callable[..., reading.Page]
    ) -> AsyncIterator[Batch]:
        while True:
            batch, last = await self._read(bucket, partial(page, names=names))
            if batch.names:
                yield batch
            if last:
                return
            names = reading.rest(names, batch)

    async def read_objects(
        self,
        bucket: str,
        names: Sequence[str],
        generations: Sequence[int],
        *,
        columns: Sequence[str] = (),
    ) -> Batch:
        """What is there now, position by position."""
        there = partial(reading.there, names=names, generations=generations, columns=columns)
        return await self._read(bucket, there)

    async def read_soft_deleted(
        self, bucket: str, name: str, generation: int, *, columns: Sequence[str] = ()
    ) -> Batch:
        """One version that can be restored."""
        look = partial(reading.soft_deleted, name=name, generation=generation, columns=columns)
        return await self._read(bucket, look)

    async def read_bytes(
        self, bucket: str, name: str, generation: int = ABSENT, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        """The content of one version to its end, even if that is deleted meanwhile."""
        if start < 0:
            raise InvalidArgument(f"Cannot read from byte {start} on: it must not be negative.")
        find = partial(reading.open_content, name=name, generation=generation)
        source: BinaryIO | int = 0
        while isinstance(source, int):
            source = await self._read(bucket, partial(find, lost=source))
        with source:
            source.seek(start)
            while piece := await in_thread(bucket, source.read, contents.PIECE_BYTES):
                yield piece

    async def write_object(
        self, bucket: str, name: str, content: AsyncIterable[bytes], **metadata: Any
    ) -> int:
        """Create or replace the live object and give its generation."""
        rules.check_name(name)
        await self.get_bucket(bucket)  # before anything is taken from the stream
        try:
            async with self._use(bucket) as opened:
                return await receiving.write(opened, name, content, metadata)
        except Gone:
            raise rules.no_bucket(bucket) from None

    async def write_objects(self, bucket: str, objects: Iterable[NewObject]) -> Outcome:
        """Create or replace many objects, hundreds in a transaction."""
        await self.get_bucket(bucket)
        try:
            async with self._use(bucket) as opened:
                return await receiving.write_many(opened, objects)
        except Gone:
            raise rules.no_bucket(bucket) from None

    async def delete_objects(self, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
        """Delete each (name, generation)."""
        return await self._in_parts(bucket, batch, partial(writing.delete, permanent=permanent))

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        """Change the metadata of each (name, generation)."""
        change = partial(patching.patch, change=patch, match_metageneration=match_metageneration)
        return await self._in_parts(bucket, batch, change)

    async def put_object(
        self, bucket: str, new: NewObject, *, check: Check, columns: Sequence[str] = ()
    ) -> Batch:
        """Create or replace one object, if ``check`` lets it; gives the new one."""
        try:
            async with self._use(bucket) as opened:
                return await receiving.put(opened, new, check=check, columns=columns)
        except Gone:
            raise rules.no_bucket(bucket) from None

    async def delete_object(self, bucket: str, name: str, generation: int, *, check: Check) -> None:
        """Delete one object, if ``check`` lets it."""
        verb = partial(writing.delete, permanent=generation != ABSENT)

        def delete(transaction: Transaction) -> None:
            rows.change_one(transaction, name, generation, check=check, verb=verb)

        await self._write(bucket, delete)

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
        """Change the metadata of one version, if ``check`` lets it; gives it as it is then."""
        verb = partial(patching.patch, change=patch, match_metageneration=False)

        def change(transaction: Transaction) -> Batch:
            found = rows.change_one(transaction, name, generation, check=check, verb=verb)
            names, generations = found.names, found.generations
            return reading.there(transaction, names=names, generations=generations, columns=columns)

        return await self._write(bucket, change)

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
        """Give one object another name, if both checks let it; gives the new one."""
        move = partial(rewriting.move, name=name, to=to, check_source=check_source, check=check)
        return await self._write(bucket, partial(_made, move, to, columns))

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
        """Make one soft-deleted version live, if ``check`` lets it; gives the new one."""
        restore = partial(rewriting.restore, name=name, generation=generation)
        make = partial(restore, check=check, acl=acl)
        return await self._write(bucket, partial(_made, make, name, columns))

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        """Make each a new generation. The key's name is recorded only: nothing is encrypted."""
        rewrite = partial(rewriting.rewrite, storage_class=storage_class, kms_key=kms_key)
        return await self._in_parts(bucket, batch, rewrite)

    async def list_buckets(self) -> AsyncIterator[Bucket]:
        """Every bucket, by name."""
        for name in await asyncio.to_thread(folder.names, self._directory):
            with contextlib.suppress(NotFound):  # deleted meanwhile
                yield await self.get_bucket(name)

    async def get_bucket(self, bucket: str) -> Bucket:
        """The bucket's rules."""
        return await self._read(bucket, lambda transaction: transaction.bucket)

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        """Make a bucket, as of now; raises AlreadyExists."""
        made = replace(bucket, create_time_us=self._clock.now_us())
        await in_thread(bucket.name, folder.create, self._directory, made)
        return made

    async def update_bucket(self, bucket: str, **changes: Any) -> Bucket:
        """Change rules; they hold for every call that begins after this one."""
        rules.check_bucket_changes(changes)

        return await self.change_bucket(bucket, lambda before: replace(before, **changes))

    async def change_bucket(self, bucket: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Give a bucket the rules that ``change`` makes of those that it has."""

        def apply(transaction: Transaction) -> Bucket:
            changed = change(transaction.bucket)
            rules.check_bucket(changed)
            schema.write_rules(transaction.connection, changed)
            return changed

        return await self._write(bucket, apply)

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; raises FailedPrecondition if there is any version in it."""
        await self._remove(bucket, only_empty=True)

    async def discard_bucket(self, bucket: str) -> None:
        """Remove a bucket with everything in it."""
        await self._remove(bucket, only_empty=False)

    async def _remove(self, bucket: str, *, only_empty: bool) -> None:
        def mark(transaction: Transaction) -> None:
            execute = transaction.connection.execute
            if only_empty and execute("SELECT 1 FROM object LIMIT 1").fetchone():
                raise rules.not_empty(bucket)
            execute("UPDATE bucket SET deleted = 1")

        await self._write(bucket, mark)
        if opened := self._open.get(bucket):
            await self._forget(opened)
        await in_thread(bucket, folder.remove_deleted, self._directory, bucket)

    async def close(self) -> None:
        """Let go of connections and files."""
        for opened in list(self._open.values()):
            await self._forget(opened)

    async def _in_parts(
        self,
        bucket: str,
        batch: Batch,
        verb: Verb,
    ) -> Outcome:
        targets = rows.Targets.of(batch)
        failures: dict[int, Failure] = {}
        for start in range(0, len(targets), rows.MAX_ROWS):
            part = targets.part(start, rows.MAX_ROWS)
            failed = await self._write(bucket, partial(_apply, verb, part))
            failures |= {start + index: failure for index, failure in failed.items()}
        return Outcome(failures=failures)

    async def _read(self, bucket: str, work: Callable[[Transaction], T]) -> T:
        return await self._attempt(bucket, lambda opened: opened.read(work))

    async def _write(self, bucket: str, work: Callable[[Transaction], T]) -> T:
        return await self._attempt(bucket, lambda opened: opened.write(work))

    async def _attempt(self, bucket: str, call: Callable[[OpenBucket], Awaitable[T]]) -> T:
        """What ``call`` gives; if the bucket was deleted, of the one that has its name now."""
        gone: Path | None = None
        while True:
            async with self._use(bucket) as opened:
                if opened.home == gone:  # marked as deleted, but not removed yet
                    raise rules.no_bucket(bucket)
                try:
                    return await call(opened)
                except Gone:
                    gone = opened.home
                    await self._forget(opened)

    @contextlib.asynccontextmanager
    async def _use(self, name: str) -> AsyncIterator[OpenBucket]:
        """The bucket, opened if need be, and not closed for another one's sake meanwhile."""
        opened = self._open.pop(name, None)
        if opened is None:
            home = folder.find(self._directory, name)
            opened = OpenBucket(name, home, self._clock)
        self._open[name] = opened  # the last in the order of use
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            idle = [other for other in self._open.values() if not other.users]
            for other in idle[:-MAX_OPEN]:
                await self._forget(other)

    async def _forget(self, opened: OpenBucket) -> None:
        if self._open.get(opened.name) is opened:
            del self._open[opened.name]
        await opened.close()


def _apply(verb: Verb, targets: rows.Targets, transaction: Transaction) -> dict[int, Failure]:
    return verb(transaction, targets)


def _made(
    make: Callable[[Transaction], int], name: str, columns: Sequence[str], transaction: Transaction
) -> Batch:
    """The object ``name`` of the generation that ``make`` gives."""
    made = [make(transaction)]
    return reading.there(transaction, names=[name], generations=made, columns=columns)
