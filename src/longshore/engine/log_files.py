"""Logs of jobs in files of the data directory: ``logs/<project>/<job>/shard-<id>.jsonl``.

Where a shard's files would outgrow their limit, the oldest go.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from longshore.model import Shard
from longshore.settings import LogSettings

_NAME_MAX_BYTES = 255  # of a file, on every usual file system
_FILE = re.compile(r"shard-(\d+)(\.\d+)?\.jsonl")


class Files:
    """The files of one shard."""

    def __init__(self, logs_dir: Path, limits: LogSettings, shard: Shard) -> None:
        folder = logs_dir / folder_of(shard.project, shard.job_id)
        self._path = folder / f"shard-{shard.id}.jsonl"
        self._limits = limits
        self._file: BinaryIO | None = None

    async def keep(self, pieces: Iterator[bytes]) -> None:
        """Have the pieces on the disk."""
        await asyncio.to_thread(self._keep, pieces)

    def _keep(self, pieces: Iterator[bytes]) -> None:
        file = None
        for piece in pieces:
            file = self._open()
            file.write(piece)
        if file is not None:
            file.flush()
            os.fsync(file.fileno())
            if file.tell() >= self._limits.max_file_bytes:
                self._rotate()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            # All that counts is on the disk; what could not be written fails here once more.
            with suppress(OSError):
                file.close()

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_whole(self._path)
            _sync_directories(self._path)
        return self._file

    def _rotate(self) -> None:
        self.close()
        olds = sorted(self._path.parent.glob(f"{self._path.stem}.*.jsonl"))
        number = int(olds[-1].suffixes[-2][1:]) + 1 if olds else 1
        self._path.rename(self._path.with_suffix(f".{number:06d}.jsonl"))
        _sync_directories(self._path)
        keep = max(0, self._limits.max_shard_bytes // self._limits.max_file_bytes - 2)
        for old in olds[: max(0, len(olds) - keep)]:
            old.unlink(missing_ok=True)


def folder_of(project: str, job_id: str) -> str:
    """Where a job's log lies, below that of all jobs. Project ids are any text, so they are quoted,
    dots at the front too: nothing that a user names can lead out of there. What is too long for the
    name of a directory then ends in a digest."""
    quoted = quote(project, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _NAME_MAX_BYTES:
        digest = hashlib.blake2b(project.encode(), digest_size=16).hexdigest()
        quoted = f"{quoted[: _NAME_MAX_BYTES - len(digest) - 1]}~{digest}"
    return f"{quoted}/{job_id}"


def shards_with_logs(logs_dir: Path) -> dict[int, list[Path]]:
    """The log files there are, by the id of their shard."""
    found: dict[int, list[Path]] = {}
    for path in logs_dir.glob("*/*/shard-*.jsonl"):
        match = _FILE.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return found


def remove(paths: Iterable[Path]) -> None:
    """Remove log files, and the directories that this leaves empty."""
    for path in paths:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: another job of that id has begun
            path.parent.rmdir()


def _open_whole(path: Path) -> BinaryIO:
    """``path`` for appending, without the half line that a crash may have left at its end."""
    file = path.open("ab+")
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - (1 << 16))
    file.seek(start)
    tail = file.read()
    if tail and not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
    return file


def _sync_directories(path: Path) -> None:
    """Make a file's name durable, and those of its two directories."""
    for directory in list(path.parents)[:3]:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
