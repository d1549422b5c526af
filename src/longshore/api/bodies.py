"""Bodies of requests as they arrive: how much of them, how slowly, how many large ones at once.

A small body waits for nobody. A large one (more than SMALL_MAX_BYTES) first takes its room, so that
however many arrive together, the memory that they cost is bounded.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from longshore.api.status import Refusal
from longshore.errors import Code, InvalidArgument, ResourceExhausted

BODY_MAX_BYTES = 32 << 20
BODY_SECONDS = 60.0
SMALL_MAX_BYTES = 256 << 10
_DECODED_AT_ONCE = 256 << 10
_GZIP_WINDOW = 16 + zlib.MAX_WBITS

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Room:
    """So many bytes, of which each holder has a part. Who finds too few left waits, and those who
    come later wait behind."""

    def __init__(self, size_bytes: int) -> None:
        self._free = size_bytes
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    def take(self, size_bytes: int) -> None:
        """Have ``size_bytes`` of it, until they are given back (negative: now). Raises
        ResourceExhausted where too few are left."""
        if size_bytes > self._free:
            raise _full()
        self._free -= size_bytes
        if size_bytes < 0:
            self._returned.set()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Have ``size_bytes`` of it. Raises ResourceExhausted after BODY_SECONDS of waiting."""
        try:
            async with asyncio.timeout(BODY_SECONDS), self._turn:
                while self._free < size_bytes:
                    self._returned.clear()
                    await self._returned.wait()
                self.take(size_bytes)
        except TimeoutError as error:
            raise _full() from error
        try:
            yield
        finally:
            self.take(-size_bytes)


def _full() -> ResourceExhausted:
    return ResourceExhausted(
        f"Too many requests of more than {SMALL_MAX_BYTES} bytes at once: try again later."
    )


class Body:
    """The body of one request. ``complete``: all of it has been read."""

    def __init__(self, headers: Mapping[str, str], receive: Receive) -> None:
        self._receive = receive
        self._data = bytearray()
        self._raw = b""
        length = headers.get("content-length", "")
        self._announced = int(length) if length.isdecimal() else 0
        self._more = bool(self._announced) or "transfer-encoding" in headers
        self.complete = not self._more
        self._late = False
        self._coding = headers.get("content-encoding", "").strip().lower() or "identity"
        self._gzip = zlib.decompressobj(_GZIP_WINDOW) if "gzip" in self._coding else None

    @property
    def data(self) -> bytes:
        """What has been read of it, decoded."""
        return bytes(self._data)

    @property
    def expected_bytes(self) -> int:
        """How large it may become."""
        return self._announced if self._announced and not self._gzip else BODY_MAX_BYTES

    @property
    def may_be_left(self) -> bool:
        """Can what has not been read be skipped, to find the next request behind it?"""
        return self.complete or (0 < self._announced <= SMALL_MAX_BYTES and not self._late)

    async def read(self, max_bytes: int) -> bool:
        """Read on, to the end (True) or until there are more than ``max_bytes`` (False).

        Raises ClientGone; Refusal for one that is announced too large, takes more than BODY_SECONDS
        or is in another coding than gzip; InvalidArgument for what is no gzip.
        """
        if self.complete:
            return True
        if self._coding not in ("identity", "gzip", "x-gzip"):
            text = f"Unsupported Content-Encoding {self._coding[:100]!r}: send gzip, or none."
            accepted = [(b"accept-encoding", b"gzip")]
            raise Refusal(415, Code.INVALID_ARGUMENT, text, accepted)
        if self._announced > BODY_MAX_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while await self._decode(max_bytes) and self._more:
                    await self._receive_more()
        except TimeoutError as error:
            self._late = True
            text = f"The request body did not arrive within {BODY_SECONDS:.0f} seconds."
            raise Refusal(408, Code.CANCELLED, text) from error
        if len(self._data) > max_bytes:
            return False
        if self._gzip is not None and not self._gzip.eof:
            raise InvalidArgument("The gzip of the request body ends too early.")
        self.complete = True
        return True

    async def read_all(self) -> None:
        """Read it to its end. Raises what ``read`` does, and Refusal above BODY_MAX_BYTES."""
        if not await self.read(BODY_MAX_BYTES):
            raise _too_large()

    async def _receive_more(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._raw = message.get("body", b"")
        self._more = message.get("more_body", False)

    async def _decode(self, max_bytes: int) -> bool:
        """Decode what has been received, a little at a time, as one byte of gzip can stand for a
        thousand; False if there are more than ``max_bytes``."""
        if self._gzip is None:
            self._data += self._raw
            self._raw = b""
            return len(self._data) <= max_bytes
        while len(self._data) <= max_bytes:
            room = min(_DECODED_AT_ONCE, max_bytes + 1 - len(self._data))
            try:
                piece = self._gzip.decompress(self._raw, room)
            except zlib.error as error:
                raise InvalidArgument(f"The request body is no gzip: {error}.") from error
            if self._gzip.unused_data:
                raise InvalidArgument("The gzip of the request body has something behind its end.")
            self._data += piece
            self._raw = self._gzip.unconsumed_tail
            if len(piece) < room:
                return True
            await asyncio.sleep(0)
        return False


def _too_large() -> Refusal:
    text = f"The request body has more than {BODY_MAX_BYTES} bytes."
    return Refusal(413, Code.RESOURCE_EXHAUSTED, text)
