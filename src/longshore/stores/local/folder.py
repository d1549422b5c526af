"""The folder of all buckets: made, found and removed such that a crash leaves each whole or gone.

``DIRECTORY/BUCKET/ID/`` holds a bucket's database and contents. ID is new with every bucket that
is made, so that whoever still has a deleted bucket open never meets the files of its successor. A
bucket appears and goes by one rename; what is being made or removed has a name with a dot in
front, which no bucket can have.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
import uuid
from pathlib import Path

from longshore import object_rules
from longshore.errors import NotFound
from longshore.names import is_bucket_name
from longshore.store import Bucket
from longshore.stores.local import schema

_NEW = ".new-"
_REMOVED = ".removed-"
_ABANDONED_SECONDS = 3600.0
"""To make a bucket takes milliseconds; what is older than this was left by a crash."""


def find(directory: Path, bucket: str) -> Path:
    """The folder with the database of ``bucket``; raises NotFound, also for an impossible name."""
    if is_bucket_name(bucket):
        try:
            for home in (directory / bucket).iterdir():
                if (home / schema.DATABASE).exists():
                    return home
        except (FileNotFoundError, NotADirectoryError):
            pass
    raise object_rules.no_bucket(bucket)


def names(directory: Path) -> list[str]:
    """The names under which there is, or was just now, a bucket; in order."""
    try:
        return sorted(path.name for path in directory.iterdir() if is_bucket_name(path.name))
    except FileNotFoundError:
        return []


def create(directory: Path, bucket: Bucket) -> None:
    """Make ``bucket`` durably; raises AlreadyExists."""
    object_rules.check_bucket(bucket)
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in new:
        schema.sync_folder(path.parent)
    remove_deleted(directory, bucket.name)
    _sweep(directory)
    made = directory / f"{_NEW}{uuid.uuid4().hex}"
    home = made / uuid.uuid4().hex
    home.mkdir(parents=True)
    try:
        schema.create(home, bucket)
        schema.sync_folder(made)
        made.rename(directory / bucket.name)  # fails unless that is absent (or an empty folder)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if (directory / bucket.name).exists():
            raise object_rules.bucket_exists(bucket.name) from None
        raise
    schema.sync_folder(directory)


def remove_deleted(directory: Path, bucket: str) -> None:
    """Remove the files of ``bucket`` if it is marked as deleted; does nothing otherwise.

    Whoever deletes a bucket calls this; whoever creates one does, too, lest the other was killed.
    """
    try:
        home = find(directory, bucket)
        connection = schema.connect(home, read_only=True)
    except (NotFound, FileNotFoundError):
        return
    except sqlite3.Error:
        if (home / schema.DATABASE).exists():
            raise
        return  # removed under our hands
    try:
        deleted = schema.read_rules(connection, bucket) is None
    finally:
        connection.close()
    if not deleted:
        return
    # The folder of this very bucket is renamed: a successor's has another name.
    removed = directory / f"{_REMOVED}{home.name}"
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        home.rename(removed)
    with contextlib.suppress(OSError):  # there is a successor
        home.parent.rmdir()
    schema.sync_folder(directory)
    shutil.rmtree(removed, ignore_errors=True)


def _sweep(directory: Path) -> None:
    """Remove what crashes left behind of buckets that were being made or removed."""
    for path in directory.glob(f"{_REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob(f"{_NEW}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
