"""Somebody else, as a process: adds, overwrites and deletes objects under a prefix.

Run as ``python -m tests.crash.meddler DIRECTORY BUCKET PREFIX SEED``, until it is ended. Each line
of its journal is written before the change (``{"will": …}``) and after it (``{"did": …}``); a
change whose second line is missing may or may not have happened.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from longshore.errors import Error
from longshore.patch import Patch
from longshore.settings import Settings, StoreSettings
from longshore.store import ABSENT, Stores
from tests.service import stream


async def meddle(directory: Path, bucket: str, prefix: str, seed: int) -> None:
    local = StoreSettings(name="main", kind="local", buckets=("*",))
    store = Stores(Settings(data_dir=directory / "data", stores={"main": local})).open("main")
    choose = random.Random(seed)
    with (directory / "meddler.jsonl").open("a", buffering=1) as journal:

        def note(**entry: Any) -> None:
            journal.write(json.dumps(entry) + "\n")

        while True:
            name = f"{prefix}{choose.randrange(200_000):06d}"
            there = await store.read_objects(bucket, [name], [ABSENT])
            generation = there.generations[0]
            action = choose.choice(("write", "delete", "patch"))
            note(will=action, name=name, generation=generation)
            try:
                if action == "write":
                    new = await store.write_object(bucket, name, stream(b"meddled"))
                    note(did="write", name=name, generation=generation, new=new, size=7)
                elif action == "delete" and generation != ABSENT:
                    outcome = await store.delete_objects(bucket, there, permanent=False)
                    if not outcome.failures:
                        note(did="delete", name=name, generation=generation)
                elif generation != ABSENT:
                    patch = Patch(cache_control=str(choose.random()))
                    await store.patch_objects(bucket, there, patch)
                    note(did="patch", name=name, generation=generation)
            except Error as error:
                note(refused=str(error), name=name)
            await asyncio.sleep(choose.random() * 0.004)


if __name__ == "__main__":
    asyncio.run(meddle(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
