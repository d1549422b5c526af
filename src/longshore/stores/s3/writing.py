"""Writing objects: by a PUT what is small, else by an upload in parts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longshore import object_rules as rules
from longshore.errors import Aborted, Error
from longshore.store import Bucket, Failure, NewObject, Outcome
from longshore.stores.s3 import buckets, headers, heads, markup, targets
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.failures import failure_of

PART_BYTES = 8 << 20
"""Of the first parts. There may be 10,000, so they grow; each is in memory as a whole."""
_PARTS_OF_A_SIZE = 1000
_LANES = 16
"""How many objects are written at a time, for the sake of the memory of their parts."""


async def write(
    client: Client,
    bucket: str,
    name: str,
    content: AsyncIterable[bytes],
    metadata: Mapping[str, Any],
) -> int:
    """Write, as of ``Store.write_object``."""
    rules.check_name(name)
    described = _described(client, bucket, metadata)
    await buckets.keeps_versions(client, bucket)  # before anything is taken from the stream
    version_id = await _put(client, bucket, name, _parts(content), described)
    head = await heads.find(client, bucket, name, version_id)
    if head is None:
        raise Aborted(f"Object '{bucket}/{name}' was written, and deleted by somebody else.")
    return head.generation


async def write_many(client: Client, bucket: str, objects: Iterable[NewObject]) -> Outcome:
    """Write, as of ``Store.write_objects``."""
    await buckets.keeps_versions(client, bucket)
    failures: dict[int, Failure] = {}

    async def one(item: tuple[int, NewObject]) -> None:
        index, new = item
        try:
            rules.check_name(new.name)
            described = _described(client, bucket, new.metadata)
            await _put(client, bucket, new.name, _parts(_pieces(new.content)), described)
        except Error as error:
            failures[index] = failure_of(error)
        except OSError as error:
            if not isinstance(new.content, Path):
                raise
            failures[index] = rules.unreadable(new.content, error)

    await client.in_lanes(enumerate(objects), one, _LANES)
    return Outcome(failures=failures)


def _described(client: Client, bucket: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """The headers that give a new object its columns; raises InvalidArgument for what no object
    may have."""
    now_us = client.service.clock.now_us()
    rules.new_object(Bucket(name=bucket, create_time_us=0), metadata, now_us)
    return headers.of_columns(metadata, client.service.settings.kms_keys)


async def _put(
    client: Client,
    bucket: str,
    name: str,
    parts: AsyncIterator[bytes],
    described: Mapping[str, str],
) -> str:
    """Write the parts as one object, and give its version's id ("" without one)."""
    first = await anext(parts)
    second = await anext(parts, None)
    if second is None:
        sent = {**described, "content-md5": _md5(first)}
        call = Call("PutObject", "PUT", bucket, name, headers=sent, body=first)
        return (await client.change(call)).header("x-amz-version-id")
    call = Call("CreateMultipartUpload", "POST", bucket, name, "uploads", described)
    upload = upload_id((await client.change(call)).body)
    try:
        done = [await _send_part(client, bucket, name, upload, 1, first)]
        done.append(await _send_part(client, bucket, name, upload, 2, second))
        async for part in parts:
            done.append(await _send_part(client, bucket, name, upload, len(done) + 1, part))
        query, body = targets.query({"uploadId": upload}), complete_upload(done)
        call = Call("CompleteMultipartUpload", "POST", bucket, name, query, body=body)
        return (await client.change(call)).header("x-amz-version-id")
    except BaseException:
        await abort(client, bucket, name, upload)
        raise


def upload_id(body: bytes) -> str:
    """What a reply to CreateMultipartUpload calls the upload."""
    found = markup.read(body, "InitiateMultipartUploadResult").get("UploadId")
    if not found:
        raise markup.unreadable(body, "an upload without an id")
    return found


def complete_upload(etags: Sequence[str]) -> bytes:
    """The body of CompleteMultipartUpload; the parts are numbered from 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{markup.escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    root = "CompleteMultipartUpload"
    return f'<{root} xmlns="{markup.NAMESPACE}">{parts}</{root}>'.encode()


async def abort(client: Client, bucket: str, name: str, upload: str) -> None:
    """Give up an upload in parts. Where that fails too, its parts stay until a rule of the bucket
    removes them."""
    query = targets.query({"uploadId": upload})
    with contextlib.suppress(Error):
        await client.change(Call("AbortMultipartUpload", "DELETE", bucket, name, query))


async def _send_part(
    client: Client, bucket: str, name: str, upload: str, number: int, body: bytes
) -> str:
    """Send a part, and give its ETag."""
    query = targets.query({"partNumber": str(number), "uploadId": upload})
    sent = {"content-md5": _md5(body)}
    reply = await client.change(Call("UploadPart", "PUT", bucket, name, query, sent, body))
    return reply.header("etag")


async def _parts(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The content as parts, of which all but the last are large; at least one."""
    number, buffer = 0, bytearray()
    async for piece in content:
        buffer += piece
        while len(buffer) > (size := PART_BYTES << number // _PARTS_OF_A_SIZE):
            yield bytes(buffer[:size])
            del buffer[:size]
            number += 1
    yield bytes(buffer)


async def _pieces(content: bytes | Path) -> AsyncIterator[bytes]:
    """The bytes, or what is in the file, in pieces."""
    if isinstance(content, bytes):
        yield content
        return
    file = await asyncio.to_thread(content.open, "rb")
    with file:
        while piece := await asyncio.to_thread(file.read, PART_BYTES):
            yield piece


def _md5(body: bytes) -> str:
    """What buckets with locks want of everything that is written to them."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
