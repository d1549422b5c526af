"""Contents as they arrive, at once or in a session of several requests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import google_crc32c

from longshore.api.replies import Answer
from longshore.emulator.digests import Digests
from longshore.emulator.requests import Conditions

MEMORY_MAX_BYTES = 4 << 20
"""How much of a content is kept in memory while it arrives."""


class Incoming:
    """A content as it arrives, with its digests: in memory, or in a file if it is large."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is there; what this leaves in it is removed by ``discard``."""
        self.size = 0
        self._folder = folder
        self._data = bytearray()
        self._path: Path | None = None
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add ``data``."""
        self._crc = google_crc32c.extend(self._crc, bytes(data))
        self._md5.update(data)
        self.size += len(data)
        self._data += data
        if len(self._data) > MEMORY_MAX_BYTES:
            self._spill()

    def _spill(self) -> None:
        self._path = self._path or self._folder / uuid4().hex
        with self._path.open("ab") as file:
            file.write(self._data)
        self._data.clear()

    def content(self) -> bytes | Path:
        """All of it, for the store."""
        if self._path is None:
            return bytes(self._data)
        self._spill()
        return self._path

    def digests(self) -> Digests:
        """Of what has arrived."""
        crc = self._crc.to_bytes(4, "big")
        return Digests(
            base64.b64encode(crc).decode(), base64.b64encode(self._md5.digest()).decode()
        )

    def discard(self) -> None:
        """Remove what is in the folder."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class New(NamedTuple):
    """An object that is to be: its bucket, its resource, and what must hold before."""

    bucket: str
    name: str
    resource: Mapping[str, Any]
    conditions: Conditions


@dataclass(slots=True, kw_only=True)
class Session:
    """An upload that may come in several requests; ``total`` None: nobody has said yet how much it
    is. ``finished``: the reply of the request that ended it. ``turn``: of the requests of an
    upload, one works at a time."""

    id: str
    new: New
    incoming: Incoming
    total: int | None
    finished: Answer | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
