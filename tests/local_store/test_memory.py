"""Memory stays the same however much there is; each figure is of a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from longshore.store import NewObject
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock

OBJECTS = 200_000
FILE_BYTES = 64 << 20
SLACK_KIB = 8 << 10

LIST = """
async for page in store.list_objects("shelf", prefix=argument, columns=("custom_metadata",)):
    count += len(page)
"""
IMPORT = """
await store.write_objects("shelf", [NewObject("big", Path(argument))])
count = Path(argument).stat().st_size
"""
READ = """
async for piece in store.read_bytes("shelf", argument):
    count += len(piece)
"""
WRITE = """
async def pieces():
    for _ in range(int(argument)):
        yield bytes(1 << 20)
await store.write_object("shelf", "written", pieces())
count = int(argument) << 20
"""
PROGRAM = """
import asyncio, resource, sys
from pathlib import Path
from longshore.store import NewObject
from longshore.stores.local.store import LocalStore

async def main(directory, argument):
    count, store = 0, LocalStore(Path(directory))
{body}
    await store.close()
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(main(*sys.argv[1:]))
"""


def measure(directory: Path, body: str, argument: object) -> tuple[int, int]:
    """What ``body`` counted, and the most memory its process ever had, in KiB."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=indented), str(directory), str(argument)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, peak = done.stdout.split()
    return int(count), int(peak)


async def test_a_listing_of_many_takes_no_more_than_one_of_few(tmp_path: Path) -> None:
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    await shelf.make()
    objects = (NewObject(f"{n:06d}/{'x' * 50}", b"") for n in range(OBJECTS))
    await shelf.store.write_objects(BUCKET, objects)
    await shelf.store.close()
    few, little = measure(tmp_path, LIST, "00")
    many, much = measure(tmp_path, LIST, "")
    assert (few, many) == (10_000, OBJECTS)
    assert much < little + SLACK_KIB


async def test_no_large_content_is_in_memory_as_a_whole(tmp_path: Path) -> None:
    directory, file = tmp_path / "buckets", tmp_path / "file"
    with file.open("wb") as large:
        large.truncate(FILE_BYTES)
    shelf = Shelf(LocalStore(directory), TurnedClock())
    await shelf.make()
    await shelf.write("small", b"x" * (2 << 20))
    await shelf.store.close()
    read, little = measure(directory, READ, "small")
    assert read == 2 << 20
    for body, argument in ((IMPORT, file), (READ, "big"), (WRITE, FILE_BYTES >> 20)):
        count, much = measure(directory, body, argument)
        assert count == FILE_BYTES
        assert much < little + SLACK_KIB
