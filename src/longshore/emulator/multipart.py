"""``multipart/related``: the resource of an object and then its content, in one body (RFC 2387).

Clients differ in what they put around the boundary and at the ends of lines: gcloud sends single
quotes, which RFC 2046 takes for a part of it, and ends its lines with a line feed alone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from longshore.emulator.incoming import Incoming
from longshore.emulator.refusals import invalid

HEADER_MAX_BYTES = 16 << 10
RESOURCE_MAX_BYTES = 1 << 20
_BOUNDARY = re.compile(r"""boundary=("[^"]+"|'[^']+'|[^\s;]+)""", re.IGNORECASE)


class Related(NamedTuple):
    """The first part, and the type of the second one, whose content is in ``incoming``."""

    resource: bytes
    content_type: str


def boundary(content_type: str) -> bytes:
    """The boundary that the header names; raises Refused."""
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/related") or match is None:
        raise invalid("The body of a multipart upload must be multipart/related with a boundary.")
    text = match[1]
    if len(text) > 2 and text[0] in "\"'":
        text = text[1:-1]
    return text.encode("latin-1")


async def read(pieces: AsyncIterator[bytes], mark: bytes, incoming: Incoming) -> Related:
    """Read a body whose parts are divided by ``mark``, its content into ``incoming``.

    Raises Refused where it is not of two parts.
    """
    reader = _Reader(pieces)
    await reader.until(b"--" + mark, HEADER_MAX_BYTES)
    newline = await reader.newline()
    end = newline + b"--" + mark
    headers = await reader.headers(newline)
    resource = await reader.until(end, RESOURCE_MAX_BYTES)
    if not headers.get("content-type", "application/json").startswith("application/json"):
        raise invalid("The first part of a multipart upload must be application/json.")
    await reader.newline()
    headers = await reader.headers(newline)
    await reader.pour(end, incoming)
    return Related(resource, headers.get("content-type", ""))


class _Reader:
    """A stream, read up to marks."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._data = bytearray()

    async def _more(self) -> None:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise invalid("The body of the multipart upload ends too early.")
        self._data += piece

    async def until(self, mark: bytes, max_bytes: int) -> bytes:
        """What stands before ``mark``, which is skipped."""
        while (at := self._data.find(mark)) < 0:
            if len(self._data) > max_bytes:
                raise invalid(f"A part of the multipart upload has more than {max_bytes} bytes.")
            await self._more()
        before = bytes(self._data[:at])
        del self._data[: at + len(mark)]
        return before

    async def newline(self) -> bytes:
        """The end of the line of a boundary, and how lines end."""
        rest = await self.until(b"\n", HEADER_MAX_BYTES)
        if rest.strip():
            raise invalid("The parts of the multipart upload are not two.")
        return b"\r\n" if rest.endswith(b"\r") else b"\n"

    async def headers(self, newline: bytes) -> dict[str, str]:
        """The headers of a part, by their names in lower case."""
        found: dict[str, str] = {}
        while line := await self.until(newline, HEADER_MAX_BYTES):
            name, _, value = line.decode("latin-1").partition(":")
            found[name.strip().lower()] = value.strip()
        return found

    async def pour(self, mark: bytes, incoming: Incoming) -> None:
        """Move what stands before ``mark`` to ``incoming``."""
        while (at := self._data.find(mark)) < 0:
            surely = len(self._data) - len(mark) + 1
            if surely > 0:
                incoming.write(self._data[:surely])
                del self._data[:surely]
            await self._more()
        incoming.write(self._data[:at])
        while True:  # what follows the last boundary has no meaning
            self._data.clear()
            piece = await anext(self._pieces, None)
            if piece is None:
                return
