"""Taking contents in: a stream for one object, or many objects in each transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from longshore import object_rules as rules
from longshore.errors import InvalidArgument, PermissionDenied
from longshore.store import Failure, NewObject, Outcome
from longshore.stores.local import contents, writing
from longshore.stores.local.bucket import OpenBucket
from longshore.stores.local.contents import INLINE_MAX_BYTES, Content, StagedFile
from longshore.stores.local.failures import in_thread
from longshore.stores.local.transaction import Transaction

OBJECTS_PER_TRANSACTION = 500
LARGE_PER_TRANSACTION = 64
"""Files that are open at a time."""


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
    (staged,) = await _stage(opened, 1)
    try:
        await in_thread(opened.name, staged.write, head)
        async for piece in stream:
            await in_thread(opened.name, staged.write, piece)
        content = await in_thread(opened.name, staged.finish)
        return await opened.write(partial(put, content=content))
    except BaseException:
        opened.discard([staged.number])
        raise
    finally:
        staged.close()


async def write_many(opened: OpenBucket, objects: Iterable[NewObject]) -> Outcome:
    """Create or replace objects, taking them from ``objects`` in another thread."""
    failures: dict[int, Failure] = {}
    start = 0
    source = iter(objects)
    while part := await asyncio.to_thread(_next_part, source):
        failed = await _write_part(opened, part)
        failures |= {start + index: failure for index, failure in failed.items()}
        start += len(part)
    return Outcome(failures=failures)


async def _write_part(opened: OpenBucket, part: list[NewObject]) -> dict[int, Failure]:
    ready = await asyncio.to_thread(lambda: list(map(_read_small, part)))
    large = [index for index, content in enumerate(ready) if content is None]
    with ExitStack() as files:
        staged = await _stage(opened, len(large)) if large else []
        for file in staged:
            files.callback(file.close)
        unused = {index: file.number for index, file in zip(large, staged, strict=True)}
        try:
            for index, file in zip(large, staged, strict=True):
                ready[index] = await in_thread(opened.name, _fill, file, part[index])
            failures = await opened.write(partial(_put_all, part=part, ready=ready))
            unused = {index: unused[index] for index in failures.keys() & unused.keys()}
        finally:
            if unused:
                opened.discard(list(unused.values()))
    return failures


async def _stage(opened: OpenBucket, count: int) -> list[StagedFile]:
    """``count`` new files, safe from every sweep; see contents for the steps."""
    while True:
        numbers = await opened.write(partial(contents.reserve, count=count))
        if staged := await opened.write(partial(contents.stage, numbers=numbers)):
            return staged


def _next_part(source: Iterator[NewObject]) -> list[NewObject]:
    part: list[NewObject] = []
    large = 0
    for new in source:
        part.append(new)
        large += _is_large(new)
        if len(part) == OBJECTS_PER_TRANSACTION or large == LARGE_PER_TRANSACTION:
            break
    return part


def _is_large(new: NewObject) -> bool:
    if isinstance(new.content, bytes):
        return len(new.content) > INLINE_MAX_BYTES
    try:
        return new.content.stat().st_size > INLINE_MAX_BYTES
    except OSError:  # reading it will say so
        return False


def _read_small(new: NewObject) -> Content | Failure | None:
    """The content if it is small, None if it is large."""
    try:
        rules.check_name(new.name)
    except InvalidArgument as error:
        return Failure(error.code, error.message)
    if isinstance(new.content, bytes):
        data = new.content
    else:
        try:
            with new.content.open("rb", buffering=0) as file:
                data = file.read(INLINE_MAX_BYTES + 1)
        except OSError as error:
            return rules.unreadable(new.content, error)
    return contents.inline(data) if len(data) <= INLINE_MAX_BYTES else None


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
    columns = rules.new_object(transaction.bucket, metadata, transaction.now_us)
    (generation,) = transaction.numbers(1)
    failure = writing.put(transaction, name.encode(), content, columns, generation)
    if failure is not None:
        raise PermissionDenied(failure.message)
    return generation


def _put_all(
    transaction: Transaction, *, part: list[NewObject], ready: list[Content | Failure | None]
) -> dict[int, Failure]:
    failures: dict[int, Failure] = {}
    columns: dict[tuple[Any, ...], dict[str, Any]] = {}
    numbers = transaction.numbers(len(part))
    for index, (new, content) in enumerate(zip(part, ready, strict=True)):
        key = tuple(sorted(new.metadata.items()))
        if key not in columns:
            columns[key] = rules.new_object(transaction.bucket, new.metadata, transaction.now_us)
        if isinstance(content, Content):
            args = (new.name.encode(), content, columns[key], numbers[index])
            failure = writing.put(transaction, *args)
        else:
            failure = content
        if failure is not None:
            failures[index] = failure
    return failures
