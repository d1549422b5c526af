"""A process that writes to a bucket and says what it has done, to be killed while it does.

``python -m tests.local_store.writer DIRECTORY ROUND [STEP]`` changes objects for ever. A line
``VERB NAME VALUE`` is printed once the change has been answered. With STEP it kills itself right
after that step of writing a large content.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from longshore.patch import Patch
from longshore.store import ABSENT, NewObject, Store
from longshore.stores.local import contents, writing
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET

NAMES = 12
SIZES = (10, 3_000, 20_000, 300_000)


def content_of(value: int) -> bytes:
    """Bytes of which every part tells which value they are of."""
    unit = f"{value:09d};".encode()
    return unit * (SIZES[value % len(SIZES)] // len(unit))


async def write(store: Store, value: int) -> None:
    name = f"n{value % NAMES}"

    async def pieces() -> AsyncIterator[bytes]:
        content = content_of(value)
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    await store.write_object(BUCKET, name, pieces(), content_type=str(value))
    say("write", name, value)


async def write_many(store: Store, value: int) -> None:
    objects = [
        NewObject(f"m{n}", content_of(value + n), {"content_type": str(value + n)})
        for n in range(NAMES)
    ]
    await store.write_objects(BUCKET, objects)
    for n in range(NAMES):
        say("write", f"m{n}", value + n)


async def patch(store: Store, value: int) -> None:
    names = [f"n{n}" for n in range(NAMES)]
    batch = await store.read_objects(BUCKET, names, [ABSENT] * NAMES)
    outcome = await store.patch_objects(BUCKET, batch, Patch(cache_control=str(value)))
    for index, name in enumerate(names):
        if index not in outcome.failures:
            say("patch", name, value)


async def rewrite(store: Store, value: int) -> None:
    names = [f"m{n}" for n in range(NAMES)]
    batch = await store.read_objects(BUCKET, names, [ABSENT] * NAMES)
    await store.rewrite_objects(BUCKET, batch, kms_key=str(value))


async def delete(store: Store, value: int) -> None:
    names = [f"n{value % NAMES}", f"m{value % NAMES}"]
    batch = await store.read_objects(BUCKET, names, [ABSENT] * 2)
    outcome = await store.delete_objects(BUCKET, batch, permanent=True)
    for index, name in enumerate(names):
        if index not in outcome.failures:
            say("delete", name, value)


def say(*words: Any) -> None:
    print(*words, flush=True)


def die_after(step: str) -> None:
    """Kill this process when ``step`` has been done for the third time."""
    module, name = {"adopt": (contents, "adopt"), "put": (writing, "put")}.get(
        step, (contents, step)
    )
    owner: Any = contents.StagedFile if step in ("write", "finish") else module
    original: Callable[..., Any] = getattr(owner, name)
    calls = itertools.count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, deadly)


async def main(directory: Path, round_: int, step: str = "") -> None:
    if step:
        die_after(step)
    store = LocalStore(directory)
    await store.get_bucket(BUCKET)
    say("ready")
    verbs = (write, write, write_many, write, patch, write, delete, rewrite)
    for index in itertools.count():
        value = round_ * 1_000_000 + index * NAMES + index % 7
        await verbs[index % len(verbs)](store, value)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
