"""One of several processes that change the same bucket: see test_processes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from longshore.patch import Patch
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock
from tests.local_store.test_processes import ROUNDS, SHARED


async def main(directory: Path, number: int) -> None:
    shelf = Shelf(LocalStore(directory), TurnedClock())
    names = [f"shared/{n:02d}" for n in range(SHARED)]
    for round_ in range(ROUNDS):
        batch = await shelf.there(*names)
        change = Patch(content_type=f"{number}/{round_}")
        outcome = await shelf.store.patch_objects(BUCKET, batch, change)
        assert not outcome.failures
        await shelf.write(f"own/{number}/{round_}", b"x" * (round_ * 700))
        if round_ % 10 == 0:
            assert len(await shelf.names(prefix=f"own/{number}/")) == round_ + 1
    await shelf.store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
