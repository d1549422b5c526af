"""Where the bytes of objects are: small ones in the database, large ones in files.

A file is named by a number, never by its object. Its life, such that a crash between any two steps
leaves the object old or new and no file that nobody knows of:

1. its number is put into ``gc``, durably;
2. the file is made and locked (flock) inside a write transaction, so while no sweep runs;
3. it is filled, synced, and its folder synced;
4. one transaction takes the number out of ``gc`` and gives it to the object.

Versions share a file after a rewrite, a restore or a move. When the last one goes, be it an object
or soft-deleted, the same transaction puts the number into ``gc``; the file is removed after that
has been committed. What is in ``gc`` and not locked is nobody's: a process sweeps it when it first
writes to the bucket.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from longshore.errors import Aborted
from longshore.stores.local import schema
from longshore.stores.local.failures import Gone
from longshore.stores.local.transaction import Transaction

INLINE_MAX_BYTES = 16 << 10
PIECE_BYTES = 64 << 10
"""Of what is read at a time: a worker may be reading four manifests at once."""
_SHARED = (  # "file > 0" says that the indexes of files will do
    "SELECT 1 FROM object WHERE file = ? AND file > 0"
    " UNION ALL SELECT 1 FROM soft_deleted WHERE file = ? AND file > 0"
)


class Content(NamedTuple):
    """The bytes of an object: ``data`` if they are small, else the number of their ``file``."""

    size: int
    checksum: str
    data: bytes = b""
    file: int = 0


def inline(data: bytes) -> Content:
    """Small content."""
    return Content(len(data), _checksum(zlib.crc32(data)), data)


def _checksum(crc: int) -> str:
    # CRC-32 is in the standard library, fast, and eight characters long in an intent; a checksum
    # here tells one content from the next of the same object, it does not guard against forgery.
    return f"{crc:08x}"


class StagedFile:
    """A large content being written; nobody removes the file while this is open."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self._path = folder / str(number)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._size = 0
        self._crc = 0

    def write(self, data: bytes | bytearray) -> None:
        """Add ``data``."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(data)
        self._crc = zlib.crc32(data, self._crc)

    def finish(self) -> Content:
        """What was written, once it is on the disk under its name."""
        os.fsync(self._descriptor)
        try:
            schema.sync_folder(self._path.parent)
        except FileNotFoundError:  # removed with the bucket; this file is still open
            raise Gone from None
        return Content(self._size, _checksum(self._crc), file=self.number)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def reserve(transaction: Transaction, count: int) -> range:
    """Numbers for ``count`` files, which are in ``gc`` once this is committed."""
    numbers = transaction.numbers(count)
    transaction.connection.executemany(
        "INSERT INTO gc VALUES (?)", ((number,) for number in numbers)
    )
    return numbers


def stage(transaction: Transaction, *, numbers: range, files: list[StagedFile]) -> None:
    """Add the files for the numbers of ``reserve`` to ``files``; none if a sweep came between."""
    known = transaction.connection.execute(
        "SELECT count(*) FROM gc WHERE file BETWEEN ? AND ?", (numbers[0], numbers[-1])
    ).fetchone()
    if known == (len(numbers),):
        for number in numbers:
            files.append(StagedFile(transaction.content, number))


def adopt(transaction: Transaction, file: int) -> None:
    """Take a staged file out of ``gc``: an object has it now.

    Raises Aborted if it was swept, which cannot be while its StagedFile is open.
    """
    if transaction.connection.execute("DELETE FROM gc WHERE file = ?", (file,)).rowcount != 1:
        raise Aborted("The content was removed before its object was made: write it again.")


def release(transaction: Transaction, generation: int, file: int) -> None:
    """Let go of the content of a version whose row is gone."""
    execute = transaction.connection.execute
    execute("DELETE FROM inline_content WHERE generation = ?", (generation,))
    if file and not execute(_SHARED, (file, file)).fetchone():
        transaction.discard(file)


def sweep(transaction: Transaction) -> None:
    """Remove every file in ``gc`` that no process is writing just now."""
    for (file,) in transaction.connection.execute("SELECT file FROM gc").fetchall():
        path = transaction.content / str(file)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            remove(transaction, [file])
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(transaction, [file])
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def remove(transaction: Transaction, files: Iterable[int]) -> None:
    """Remove those of ``files`` that no object has, then their numbers from ``gc``.

    A write that was cancelled may yet have given its file to an object.
    """
    execute = transaction.connection.execute
    for file in files:
        if execute("SELECT 1 FROM gc WHERE file = ?", (file,)).fetchone():
            (transaction.content / str(file)).unlink(missing_ok=True)
            execute("DELETE FROM gc WHERE file = ?", (file,))
