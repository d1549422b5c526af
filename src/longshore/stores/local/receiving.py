"""Taking contents in: a stream for one object, or many objects in each transaction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from longshore import object_rules as rules
from longshore.embedded import Check
from longshore.errors import InvalidArgument, PermissionDenied
from longshore.store import ABSENT, Batch, Failure, NewObject, Outcome
from longshore.stores.local import contents, reading, rows, writing
from longshore.stores.local.bucket import OpenBucket
from longshore.stores.local.contents import INLINE_MAX_BYTES, Content, StagedFile
from longshore.stores.local.failures import in_thread
from longshore.stores.local.transaction import Transaction

OBJECTS_PER_TRANSACTION = 500
LARGE_PER_TRANSACTION = 64
"""Files that are open at a time."""

Ready = Content | Failure | None
"""The content of a new object; or why it has none; None if it is large, and yet to be read."""


async def write(
    opened: OpenBucket, name: str, pieces: AsyncIterable[bytes], metadata: Mapping[str, Any]
) -> int:
    """Create or replace one object from a stream, of which one piece at a time is in memory."""
    head = bytearray()
    stream = aiter(pieces)
    async for piece in stream:
        head += piece
        if len(head) > INLINE_MAX_BYTES:
            break
    put = partial(_put, name=name, metadata=metadata)
    if len(head) <= INLINE_MAX_BYTES:
        return await opened.write(partial(put, content=contents.inline(bytes(head))))
    async with _staged(opened, 1) as (file,):
        await in_thread(opened.name, file.write, head)
        async for piece in stream:
            await in_thread(opened.name, file.write, piece)
        content = await in_thread(opened.name, file.finish)
        return await opened.write(partial(put, content=content))


async def put(opened: OpenBucket, new: NewObject, *, check: Check, columns: Sequence[str]) -> Batch:
    """Create or replace one object if ``check`` has nothing against what is live; gives it."""
    rules.check_name(new.name)
    small = isinstance(new.content, bytes)
    ready = _read_small(new) if small else await in_thread(opened.name, _read_small, new)
    work = partial(_put_checked, new=new, check=check, columns=columns)
    if ready is not None:
        return await opened.write(partial(work, ready=ready))
    async with _staged(opened, 1) as (file,):
        ready = await in_thread(opened.name, _fill, file, new)
        return await opened.write(partial(work, ready=ready))


async def write_many(opened: OpenBucket, objects: Iterable[NewObject]) -> Outcome:
    """Create or replace objects, taking them from ``objects`` in another thread."""
    failures: dict[int, Failure] = {}
    start = 0
    source = iter(objects)
    while part := await asyncio.to_thread(_next_part, source):
        objects_, ready = map(list, zip(*part, strict=True))
        failed = await _write_part(opened, objects_, ready)
        failures |= {start + index: failure for index, failure in failed.items()}
        start += len(part)
    return Outcome(failures=failures)


async def _write_part(
    opened: OpenBucket, part: list[NewObject], ready: list[Ready]
) -> dict[int, Failure]:
    large = [index for index, content in enumerate(ready) if content is None]
    async with _staged(opened, len(large)) as files:
        for index, file in zip(large, files, strict=True):
            ready[index] = await in_thread(opened.name, _fill, file, part[index])
        failures = await opened.write(partial(_put_all, part=part, ready=ready))
    if unused := [
        file.number for index, file in zip(large, files, strict=True) if index in failures
    ]:
        opened.discard(unused)
    return failures


@asynccontextmanager
async def _staged(opened: OpenBucket, count: int) -> AsyncIterator[list[StagedFile]]:
    """``count`` new files, safe from every sweep while this lasts; see contents for the steps."""
    files: list[StagedFile] = []
    try:
        while len(files) < count:
            numbers = await opened.write(partial(contents.reserve, count=count))
            await opened.write(partial(contents.stage, numbers=numbers, files=files))
        yield files
    except BaseException:
        opened.discard([file.number for file in files])
        raise
    finally:
        for file in files:
            file.close()


def _next_part(source: Iterator[NewObject]) -> list[tuple[NewObject, Ready]]:
    part: list[tuple[NewObject, Ready]] = []
    large = 0
    for new in source:
        ready = _read_small(new)
        part.append((new, ready))
        large += ready is None
        if len(part) == OBJECTS_PER_TRANSACTION or large == LARGE_PER_TRANSACTION:
            break
    return part


def _read_small(new: NewObject) -> Ready:
    try:
        rules.check_name(new.name)
        data = new.content if isinstance(new.content, bytes) else _head(new.content)
    except InvalidArgument as error:
        return Failure(error.code, error.message)
    except OSError as error:
        return rules.unreadable(str(new.content), error)
    return contents.inline(data) if len(data) <= INLINE_MAX_BYTES else None


def _head(path: Path) -> bytes:
    # An import is mostly this: os.open costs a third of what Path.open does.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while len(data) <= INLINE_MAX_BYTES:
            piece = os.read(descriptor, INLINE_MAX_BYTES + 1 - len(data))
            if not piece:
                break
            data += piece
        return data
    finally:
        os.close(descriptor)


def _fill(file: StagedFile, new: NewObject) -> Content | Failure:
    if isinstance(new.content, bytes):
        file.write(new.content)
        return file.finish()
    try:
        source = new.content.open("rb", buffering=0)
    except OSError as error:
        return rules.unreadable(new.content, error)
    with source:
        while piece := source.read(contents.PIECE_BYTES):
            file.write(piece)
    return file.finish()


def _put(
    transaction: Transaction, *, name: str, content: Content, metadata: Mapping[str, Any]
) -> int:
    shared = writing.shared_values(transaction, metadata)
    (generation,) = transaction.numbers(1)
    failure = writing.put(transaction, name.encode(), content, shared, generation)
    if failure is not None:
        raise PermissionDenied(failure.message)
    return generation


def _put_checked(
    transaction: Transaction,
    *,
    new: NewObject,
    ready: Content | Failure,
    check: Check,
    columns: Sequence[str],
) -> Batch:
    rows.look(transaction, new.name, ABSENT, check)
    if isinstance(ready, Failure):
        raise rules.error_of(ready)
    generation = _put(transaction, name=new.name, content=ready, metadata=new.metadata)
    return reading.there(transaction, names=[new.name], generations=[generation], columns=columns)


def _put_all(
    transaction: Transaction, *, part: list[NewObject], ready: list[Ready]
) -> dict[int, Failure]:
    failures: dict[int, Failure] = {}
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    numbers = transaction.numbers(len(part))
    for index, (new, content) in enumerate(zip(part, ready, strict=True)):
        key = tuple(new.metadata.items())
        if key not in known:
            known[key] = writing.shared_values(transaction, new.metadata)
        if isinstance(content, Content):
            args = (new.name.encode(), content, known[key], numbers[index])
            failure = writing.put(transaction, *args)
        else:
            failure = content
        if failure is not None:
            failures[index] = failure
    return failures
