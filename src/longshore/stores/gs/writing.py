"""Writing: small objects by one request, large ones by a resumable upload."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from longshore import object_rules as rules
from longshore.errors import Error, Internal, InvalidArgument, NotFound, Unavailable
from longshore.patch import load_map
from longshore.store import COLUMNS, Failure, NewObject, Outcome
from longshore.stores.gs import resources, targets
from longshore.stores.gs.client import Call, Client
from longshore.stores.gs.failures import failure_of
from longshore.stores.gs.patching import retention_body
from longshore.stores.gs.resources import HOLDS, TEXTS, time_text
from longshore.transport.http import Reply

PIECE_BYTES = 8 << 20
"""What one request carries; the API takes multiples of 256 KiB."""
WRITERS = 16
_READ_BYTES = 1 << 20
_WRITTEN = rules.PATCH_COLUMNS | {"storage_class", "kms_key"}


async def write(
    client: Client,
    bucket: str,
    name: str,
    content: AsyncIterable[bytes],
    metadata: Mapping[str, Any],
) -> int:
    """Create or replace the live object, and give its generation."""
    rules.check_name(name)
    if not targets.is_possible(name):
        raise InvalidArgument(f"No object can be called {name!r}.")
    body = _body_of(metadata)
    pieces = _filled(content)
    first = await anext(pieces)
    parameters = {"name": name, "fields": "generation"}
    if metadata.get("kms_key"):
        parameters["kmsKeyName"] = metadata["kms_key"]
    upload = _Upload(client, bucket, name, parameters, body)
    if len(first) < PIECE_BYTES:
        return await upload.at_once(first)
    return await upload.in_pieces(first, pieces)


async def write_many(client: Client, bucket: str, objects: Iterable[NewObject]) -> Outcome:
    """Create or replace many, some at a time."""
    failures: dict[int, Failure] = {}

    async def one(item: tuple[int, NewObject]) -> None:
        index, new = item
        try:
            await write(client, bucket, new.name, _content(new.content), new.metadata)
        except NotFound:
            raise  # of the bucket
        except Error as error:
            failures[index] = failure_of(error)
        except OSError as error:
            failures[index] = rules.unreadable(str(new.content), error)

    await client.in_lanes(enumerate(objects), one, WRITERS)
    return Outcome(failures=failures)


class _Upload:
    """The upload of one object."""

    def __init__(
        self,
        client: Client,
        bucket: str,
        name: str,
        parameters: Mapping[str, str],
        body: Mapping[str, Any],
    ) -> None:
        self._client = client
        self._parameters = parameters
        self._body = orjson.dumps(body)
        self._media_type = str(body.get("contentType", ""))
        self._call = Call(
            "objects.insert",
            "POST",
            f"/upload{targets.objects_path(bucket)}",
            bucket=bucket,
            name=name,
        )

    async def at_once(self, content: bytes) -> int:
        """By one request that has metadata and content."""
        boundary = f"longshore{secrets.token_hex(16)}".encode()
        media = f"Content-Type: {self._media_type}\r\n" if self._media_type else ""
        body = b"".join(
            (
                b"--%s\r\nContent-Type: application/json\r\n\r\n" % boundary,
                self._body,
                b"\r\n--%s\r\n%s\r\n" % (boundary, media.encode()),
                content,
                b"\r\n--%s--\r\n" % boundary,
            )
        )
        call = self._call._replace(
            parameters=targets.query({"uploadType": "multipart", **self._parameters}),
            content_type=f"multipart/related; boundary={boundary.decode()}",
            body=body,
        )
        return _generation(await self._client.change(call))

    async def in_pieces(self, piece: bytes, more: AsyncIterator[bytes]) -> int:
        """By a request a piece, the first of which is full."""
        session = await self._session()
        sent = 0
        while True:
            following = await anext(more, b"")
            end = sent + len(piece)
            total = "*" if following else str(end)
            reply = await self._client.change(
                session._replace(
                    body=piece,
                    content_type="application/octet-stream",
                    headers=(("content-range", f"bytes {sent}-{end - 1}/{total}"),),
                ),
                objects=0,
            )
            if reply.status != 308:
                return _generation(reply)
            if reply.header("range") != f"bytes=0-{end - 1}":
                raise Unavailable("The store has not kept all of a piece of an upload.")
            piece, sent = following, end

    async def _session(self) -> Call:
        """Where the pieces go. Whatever host the service says it is at, they go to the endpoint."""
        call = self._call._replace(
            parameters=targets.query({"uploadType": "resumable", **self._parameters}),
            body=self._body,
        )
        location = urlsplit((await self._client.change(call)).header("location"))
        if not location.path.startswith("/"):
            raise Internal("The store begins an upload, but does not say where it goes.")
        return self._call._replace(method="PUT", path=location.path, parameters=location.query)


def _generation(reply: Reply) -> int:
    return int(resources.read(reply.body)["generation"])


def _body_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What is written with the content; raises InvalidArgument for what is no column."""
    body: dict[str, Any] = {}
    for name, value in metadata.items():
        _check(name, value)
        declined = name == "event_based_hold" and value is False  # where a bucket has a default
        if name == "kms_key" or not (value or declined):
            continue
        if name == "custom_metadata":
            body["metadata"] = load_map(value)
        elif name == "contexts":
            custom = {key: {"value": text} for key, text in load_map(value).items()}
            body["contexts"] = {"custom": custom}
        elif name == "acl":
            pairs = load_map(value).items()
            body["acl"] = [{"entity": entity, "role": role} for entity, role in pairs]
        elif name == "retention":
            body["retention"] = retention_body(value)
        elif name == "custom_time_us":
            body["customTime"] = time_text(value)
        else:
            body[HOLDS.get(name) or TEXTS[name]] = value
    return body


def _check(name: str, value: Any) -> None:
    rules.check_known("column of an object", name, _WRITTEN)
    if not isinstance(value, COLUMNS[name]):
        raise InvalidArgument(
            f"The column {name!r} of an object takes {COLUMNS[name].__name__}, not {value!r}."
        )


async def _filled(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The content in full pieces, and the rest; one that is empty if there is nothing."""
    buffer = bytearray()
    any_piece = False
    async for chunk in content:
        buffer += chunk
        while len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            any_piece = True
            del buffer[:PIECE_BYTES]
    if buffer or not any_piece:
        yield bytes(buffer)


async def _content(content: bytes | Path) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with await asyncio.to_thread(content.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, _READ_BYTES):
            yield piece
