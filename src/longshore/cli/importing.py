"""Copying a directory into a bucket: the work behind ``longshore objects import``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from longshore.cli import output
from longshore.store import NewObject

if TYPE_CHECKING:
    from longshore.store import Store

OBJECTS_PER_CALL = 1000
REFUSALS_SHOWN = 20


@dataclass(slots=True)
class Import:
    """What has come of an import so far.

    ``skipped``: links, and what is neither file nor directory. ``refused``: what should have been
    imported and was not.
    """

    objects: int = 0
    size_bytes: int = 0
    skipped: int = 0
    refused: int = 0

    def refuse(self, name: str, why: str) -> None:
        """Count a refusal, and say it unless there have been many."""
        self.refused += 1
        if self.refused <= REFUSALS_SHOWN:
            sys.stderr.write(f"longshore: {output.printable(f'{name}: {why}')}\n")
        elif self.refused == REFUSALS_SHOWN + 1:
            sys.stderr.write("longshore: more are refused; only counted from here on\n")


class _File(NamedTuple):
    new: NewObject
    size_bytes: int


async def import_directory(
    store: Store, directory: Path, bucket: str, prefix: str, *, leave_out: Path
) -> Import:
    """Copy the files below ``directory`` into ``bucket``, in the order of their names.

    ``leave_out`` is a directory that is passed over: the service's own data. Raises NotFound if
    there is no such bucket. What cannot be imported is said on stderr and counted; the rest is.
    """
    await store.get_bucket(bucket)
    done = Import()
    files = _files(directory, prefix, leave_out, done)
    began = time.monotonic()
    with _progress(f"gs://{bucket}/{prefix}") as show:
        while part := list(islice(files, OBJECTS_PER_CALL)):
            outcome = await store.write_objects(bucket, [file.new for file in part])
            for index, failure in outcome.failures.items():
                done.refuse(part[index].new.name, failure.message)
            written = [f for index, f in enumerate(part) if index not in outcome.failures]
            done.objects += len(written)
            done.size_bytes += sum(file.size_bytes for file in written)
            show(done)
    _report(done, f"gs://{bucket}/{prefix}", time.monotonic() - began)
    return done


def _files(directory: Path, prefix: str, leave_out: Path, done: Import) -> Iterator[_File]:
    """Every file, in the order of the objects' names; a directory is read when its turn comes."""
    left_out = _identity(leave_out)
    open_directories = [(_entries(str(directory), done), prefix)]
    while open_directories:
        entries, prefix = open_directories[-1]
        entry = next(entries, None)
        if entry is None:
            open_directories.pop()
        elif entry.is_dir(follow_symlinks=False):
            if left_out is None or _identity(Path(entry.path)) != left_out:
                below = f"{prefix}{entry.name}/"
                open_directories.append((_entries(entry.path, done), below))
        elif entry.is_file(follow_symlinks=False):
            try:
                size_bytes = entry.stat(follow_symlinks=False).st_size
            except OSError as error:
                done.refuse(entry.path, f"cannot be read: {error.strerror}")
                continue
            yield _File(NewObject(f"{prefix}{entry.name}", Path(entry.path)), size_bytes)
        else:
            done.skipped += 1


def _entries(directory: str, done: Import) -> Iterator[os.DirEntry[str]]:
    """What is in a directory and can be named, in the order of the objects' names."""
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=_order)
    except OSError as error:
        done.refuse(directory, f"cannot be read: {error.strerror}")
        return
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            done.refuse(entry.path, "the name is not UTF-8: rename it")
        else:
            yield entry


def _order(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _progress(target: str) -> Iterator[Callable[[Import], None]]:
    """Shows how far an import is, on a terminal; in a pipe nobody would see it."""
    if not sys.stdout.isatty():
        yield lambda done: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("Importing into {task.fields[target]}", markup=False),
        TextColumn("{task.fields[objects]} objects"),
        TextColumn("[dim]{task.fields[rate]}/s[/]"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=output.console(), transient=True) as progress:
        task = progress.add_task(
            "", total=None, target=output.printable(target), objects="0", rate="0"
        )
        began = time.monotonic()

        def show(done: Import) -> None:
            rate = done.objects / (time.monotonic() - began)
            progress.update(task, objects=f"{done.objects:,}", rate=f"{rate:,.0f}")

        yield show


def _report(done: Import, target: str, seconds: float) -> None:
    line = (
        f"Imported {done.objects:,} objects ({output.size(done.size_bytes)})"
        f" into {output.printable(target)} in {seconds:.1f} s"
    )
    if done.skipped:
        line += f"; {done.skipped:,} links and special files passed over"
    if done.refused:
        line += f"; {done.refused:,} refused"
    sys.stdout.write(f"{line}.\n")
