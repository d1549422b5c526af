"""Contents going out: ranges, digests, and the unpacking of what was stored as gzip.

docs: cloud.google.com/storage/docs/transcoding (a content with ``Content-Encoding: gzip`` is
unpacked for who does not accept gzip; ranges are ignored then), RFC 9110 for ranges.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
)
from typing import Any, NamedTuple

from longshore.api.parameters import accepts_gzip
from longshore.api.replies import Answer
from longshore.emulator.digests import Digests
from longshore.emulator.refusals import Refused
from longshore.emulator.requests import Request, etag
from longshore.emulator.verbs import Backend
from longshore.store import Batch

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_UNPACKED_AT_ONCE = 1 << 20
_NO_LINES = {ord("\r"): " ", ord("\n"): " "}
"""Metadata is any text; in a header a new line would begin another one."""
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Part(NamedTuple):
    """Bytes from ``start`` on and before ``end``; ``whole``: that is all there is."""

    start: int
    end: int
    whole: bool


class Streamed(Answer):
    """A reply whose body comes in pieces; ``pieces`` are as many bytes as the header says, if it
    does."""

    def __init__(
        self, http: int, headers: list[tuple[bytes, bytes]], pieces: AsyncIterator[bytes]
    ) -> None:
        super().__init__(http, b"")
        self.headers = headers
        self._pieces = pieces

    async def send(self, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.http, "headers": self.headers})
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def of_content(backend: Backend, request: Request, bucket: str, batch: Batch) -> Answer:
    """The content of the first object of ``batch``, or the range of it that is asked for."""
    name, generation, size = batch.names[0], batch.generations[0], batch.sizes[0]
    row = {column: values[0] for column, values in batch.columns.items()}
    headers = _headers(batch, row)
    packed = row["content_encoding"] == "gzip" and "no-transform" not in row["cache_control"]
    if packed and not accepts_gzip(request.headers.get("accept-encoding", "")):
        pieces = _unpacked(backend.store.read_bytes(bucket, name, generation))
        headers.append((b"warning", b"214 UploadServer gunzipped"))
        return Streamed(200, headers, pieces)
    if row["content_encoding"]:
        value = row["content_encoding"].translate(_NO_LINES)
        headers.append((b"content-encoding", value.encode()))
    part = _part(request.headers.get("range", ""), size)
    headers.append((b"content-length", b"%d" % (part.end - part.start)))
    headers.append((b"accept-ranges", b"bytes"))
    if not part.whole:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (part.start, part.end - 1, size)))
    if part.end - part.start < size:  # the digests are of the whole
        headers = [header for header in headers if header[0] != b"x-goog-hash"]
    if part.start == part.end:
        return Streamed(200, headers, _nothing())
    stream = backend.store.read_bytes(bucket, name, generation, start=part.start)
    return Streamed(200 if part.whole else 206, headers, _first(stream, part.end - part.start))


def _headers(batch: Batch, row: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    generation, metageneration = batch.generations[0], batch.metagenerations[0]
    values = {
        "content-type": row["content_type"] or "application/octet-stream",
        "content-disposition": row["content_disposition"],
        "content-language": row["content_language"],
        "cache-control": row["cache_control"] or "private, max-age=0",
        "etag": etag(generation, metageneration),
        "x-goog-hash": Digests.load(row["digests"]).header(),
        "x-goog-generation": str(generation),
        "x-goog-metageneration": str(metageneration),
        "x-goog-storage-class": row["storage_class"],
        "x-goog-stored-content-length": str(batch.sizes[0]),
        "x-goog-stored-content-encoding": row["content_encoding"] or "identity",
    }
    return [
        (name.encode(), value.translate(_NO_LINES).encode())
        for name, value in values.items()
        if value
    ]


def _part(header: str, size: int) -> _Part:
    """What ``Range`` asks for; one that is not understood, or of several parts, counts as none."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return _Part(0, size, whole=True)
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(0, size - int(last)), size
    if last and first and int(last) < start:
        return _Part(0, size, whole=True)
    if start >= size or start >= end:
        raise Refused(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
            locationType="header",
            location="Range",
        )
    return _Part(start, end, whole=False)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _first(stream: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    """The first ``count`` bytes of ``stream``, which is closed then."""
    try:
        async for piece in stream:
            yield piece[:count]
            count -= len(piece)
            if count <= 0:
                return
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


class Gunzip:
    """Unpacks a gzip that comes in pieces; ``unpack`` raises zlib.error for what is none."""

    def __init__(self) -> None:
        self._gzip = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def ended(self) -> bool:
        """Whether all of it was there."""
        return self._gzip.eof

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """What is in ``piece``, never much at once."""
        while piece and not self.ended:
            if data := self._gzip.decompress(piece, _UNPACKED_AT_ONCE):
                yield data
            piece = self._gzip.unconsumed_tail


async def _unpacked(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The content of a gzip; what is none breaks off, as the header is sent already."""
    gzip = Gunzip()
    async for piece in stream:
        for data in gzip.unpack(piece):
            yield data
