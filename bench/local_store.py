"""What the stores of our own cost: import, list, read, patch, rewrite and delete.

::

    python bench/local_store.py [--store local|memory] [--objects 100000] [--directory DIR]

Prints a table: objects a second, and microseconds of CPU an object. Needs a quiet machine; the
directory should lie on the disk that is meant.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from longshore import extensions
from longshore.patch import MapPatch, Patch
from longshore.settings import StoreSettings
from longshore.store import Batch, Bucket, NewObject, Outcome, Store

BUCKET = "bench"
SIZE = 1000


@asynccontextmanager
async def measured(what: str, count: int) -> AsyncIterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rate, each = count / wall, cpu / count * 1e6
    print(f"| {what:<44} | {wall:7.2f} s | {rate:10,.0f} | {each:6.2f} |", flush=True)


async def pages(store: Store, *columns: str) -> AsyncIterator[Batch]:
    async for page in store.list_objects(BUCKET, columns=columns):
        yield page


async def over(
    store: Store, what: str, count: int, verb: Callable[[Batch], Coroutine[Any, Any, Outcome]]
) -> None:
    """Do ``verb`` to every page of a listing, as the engine does; the listing is not counted."""
    batches = [page async for page in pages(store)]
    async with measured(what, count):
        for batch in batches:
            assert not (await verb(batch)).failures


async def run(store: Store, directory: Path, count: int) -> None:
    await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
    files = directory / "files"
    files.mkdir()
    for number in range(count):
        (files / f"{number:07d}.log").write_bytes(b"x" * SIZE)
    objects = (NewObject(f"logs/2026/{path.name}", path) for path in sorted(files.iterdir()))
    async with measured(f"import of {count:,} files of {SIZE} B", count):
        assert not (await store.write_objects(BUCKET, objects)).failures
    for columns in ((), ("temporary_hold",), ("custom_metadata", "contexts", "retention")):
        async with measured(f"list, {len(columns)} columns", count):
            assert sum([len(page) async for page in pages(store, *columns)]) == count

    async def read(batch: Batch) -> Outcome:
        await store.read_objects(BUCKET, batch.names, batch.generations, columns=("live",))
        return Outcome()

    async def patch(batch: Batch, change: Patch) -> Outcome:
        return await store.patch_objects(BUCKET, batch, change)

    metadata = MapPatch(updates={"owner": "harbour"})
    changes = {
        "hold": Patch(temporary_hold=True),
        "release the hold": Patch(temporary_hold=False),
        "content type and one custom key": Patch(content_type="a/b", custom_metadata=metadata),
        "one context": Patch(contexts=metadata),
    }
    await over(store, "read 1,000 names", count, read)
    for what, change in changes.items():
        await over(store, what, count, lambda batch, change=change: patch(batch, change))
    await over(
        store,
        "rewrite",
        count,
        lambda batch: store.rewrite_objects(BUCKET, batch, storage_class="COLDLINE"),
    )
    await over(store, "delete", count, lambda b: store.delete_objects(BUCKET, b, permanent=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"\nMost memory of the process (it holds every page of a listing): {peak} MiB")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="local", choices=("local", "memory"))
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    settings = StoreSettings(name=given.store, kind=given.store)
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        store = extensions.load("stores", given.store).open_store(settings, Path(directory))
        print(f"| {given.store} store | time | objects/s | µs CPU |\n|---|---|---|---|")
        await run(store, Path(directory), given.objects)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
