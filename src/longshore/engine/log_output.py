"""Logs of jobs on standard output, for whoever collects it: lines of all workers of a machine,
none within another.

A line is kept once the kernel has it: what becomes of it then is its reader's affair.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from longshore.errors import Unavailable

STANDARD_OUTPUT: Final = 1
PIPE_BUF: Final = getattr(select, "PIPE_BUF", 512)
"""What a pipe takes whole, or not yet."""


class Output:
    """Standard output, which a worker's shards share with each other and with its siblings."""

    def __init__(self, lock: Path, *, stalls: float) -> None:
        """``lock``: a file that all workers with the same output have in common. ``stalls``: after
        how many seconds in which its reader takes nothing it is given up for now."""
        self._lock = lock
        self._stalls = stalls
        # Of the threads that all of the worker shares, one at most waits for the reader.
        self._turn = asyncio.Lock()

    async def keep(self, pieces: Iterator[bytes]) -> None:
        """Have the pieces with the kernel. Raises OSError if the reader is gone, Unavailable if it
        takes nothing; some of the lines may then be out."""
        async with self._turn:
            await asyncio.to_thread(self._keep, pieces)

    def _keep(self, pieces: Iterator[bytes]) -> None:
        content = b"".join(pieces)
        if not content:
            return
        # A lock of who has it open: it goes with the process that holds it.
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_size:  # who was before us may have ended within a line
                self._write(b"\n")
            os.pwrite(lock, b"\n", 0)
            self._write(content)
            os.ftruncate(lock, 0)
        finally:
            os.close(lock)

    def _write(self, content: bytes) -> None:
        """Whole lines, as many at a time as a pipe takes at once: so no line of a log that goes
        to the same pipe gets within one either, unless that is longer than this."""
        ready = select.poll()
        ready.register(STANDARD_OUTPUT, select.POLLOUT)
        start = 0
        while start < len(content):
            end = content.rfind(b"\n", start, start + PIPE_BUF) + 1 or start + PIPE_BUF
            try:
                if not ready.poll(self._stalls * 1000):
                    raise Unavailable(
                        "The log of objects cannot be written: whoever reads standard output has"
                        f" taken nothing for {self._stalls:g} s."
                    )
                start += os.write(STANDARD_OUTPUT, content[start:end])
            except BlockingIOError:
                continue  # somebody else has written, where whoever made it does not want to wait
            except OSError as error:
                raise OSError(error.errno, error.strerror, "standard output") from error

    def close(self) -> None:
        """It stays open, for the other shards."""
