"""What goes wrong below: of the database or of the file system, as errors of longshore."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from longshore.errors import DataLoss, Error, Internal, ResourceExhausted, Unavailable
from longshore.stores.local.schema import BUSY_SECONDS

T = TypeVar("T")


class Gone(Exception):
    """The bucket was deleted while it was open; one of that name may exist again."""


def translate(error: sqlite3.Error | OSError, bucket: str) -> Error:
    """The error to raise for what befell ``bucket``."""
    if isinstance(error, OSError):
        return _of_the_file_system(error, bucket)
    name = getattr(error, "sqlite_errorname", "")
    text = f"The database of bucket '{bucket}' says: {error}"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(f"{text}. Other processes kept it busy for {BUSY_SECONDS:.0f} s.")
    if name.startswith("SQLITE_FULL"):
        return ResourceExhausted(f"{text}. Free some space on its disk.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DataLoss(f"{text}. Restore the bucket from a backup.")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return Unavailable(f"{text}. Check the disk and the permissions of its folder.")
    return Internal(text)


async def in_thread(bucket: str, work: Callable[..., T], *args: Any) -> T:
    """What ``work`` gives, in a thread, so that the loop does not wait for a disk."""
    try:
        return await to_its_end(asyncio.get_running_loop().run_in_executor(None, work, *args))
    except (sqlite3.Error, OSError) as error:
        raise translate(error, bucket) from error


async def to_its_end(running: asyncio.Future[T]) -> T:
    """The result of what runs in a thread, which cannot be stopped.

    If this is cancelled it still waits, then ends cancelled: nothing of the call is under way any
    more, nor uses what the caller closes next.
    """
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # whatever it was, nobody asks for it any more
        raise


def _of_the_file_system(error: OSError, bucket: str) -> Error:
    text = f"The folder of bucket '{bucket}' cannot be used: {error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"{text}. Free some space on its disk.")
    return Unavailable(f"{text}. Check the disk and the permissions of the folder.")
