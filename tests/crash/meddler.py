"""Somebody else, as a process: adds, overwrites, deletes and patches objects.

Run as ``python -m tests.crash.meddler DIRECTORY SEED COUNT BUCKET PREFIX [BUCKET PREFIX ...]``,
until it is ended; SIGTERM lets it finish its sentence. It chooses from COUNT names: a prefix and
six digits. In a bucket that keeps a journal (see chaos) it likes names near the last one that was
changed: there somebody is at work. Each line of its own journal is written before the change
(``{"will": …}``) and after it (``{"did": …}``); a change whose second line is missing may or may
not have happened.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from pathlib import Path
from typing import IO, Any

from longshore.errors import Error
from longshore.patch import MapPatch, Patch
from longshore.settings import Settings, StoreSettings
from longshore.store import ABSENT, Stores
from tests.crash.chaos.journal import MEDDLED, Journal
from tests.service import stream

CONTENT = b"meddled"
CONTEXT = {"old": "meddled"}
NEAR = 1_500


class Meddler:
    """What it writes is no job's wish: other contexts, another class, no hold."""

    def __init__(self, directory: Path, seed: int, count: int, places: list[tuple[str, str]]):
        data_dir = directory / "data"
        local = StoreSettings(name="main", kind="local", buckets=("*",))
        self._stores = Stores(Settings(data_dir=data_dir, stores={"main": local}))
        self._store = self._stores.open("main")
        self._choose = random.Random(seed)
        self._count = count
        self._places = places
        journals = [Journal(data_dir, bucket) for bucket, _ in places]
        self._journals = {one.bucket: one for one in journals if one.kept()}
        self._changes = 0

    async def run(self, journal: IO[str], stop: asyncio.Event) -> None:
        """Meddle until ``stop`` is set."""
        while not stop.is_set():
            bucket, prefix = self._choose.choice(self._places)
            await self._meddle(journal, bucket, f"{prefix}{self._number(bucket, prefix):06d}")
            await asyncio.sleep(self._choose.random() * 0.004)
        await self._stores.close()

    def _number(self, bucket: str, prefix: str) -> int:
        latest = None
        if bucket in self._journals and self._choose.random() < 0.7:
            latest = self._journals[bucket].latest(prefix)
        if latest is None:
            return self._choose.randrange(self._count)
        near = int(latest.removeprefix(prefix)) + self._choose.randint(-NEAR // 4, NEAR)
        return min(max(near, 0), self._count - 1)

    async def _meddle(self, journal: IO[str], bucket: str, name: str) -> None:
        def note(**entry: Any) -> None:
            journal.write(json.dumps({**entry, "bucket": bucket, "name": name}) + "\n")

        there = await self._store.read_objects(bucket, [name], [ABSENT])
        generation = there.generations[0]
        action = self._choose.choice(("write", "delete", "patch", "relabel"))
        self._changes += 1
        mark = f"{MEDDLED}{self._changes}"
        note(will=action, generation=generation)
        try:
            if action == "write":
                new = await self._store.write_object(
                    bucket,
                    name,
                    stream(CONTENT),
                    cache_control=mark,
                    contexts=json.dumps(CONTEXT, separators=(",", ":")),
                )
                note(did="write", generation=generation, new=new, size=len(CONTENT))
            elif generation == ABSENT:
                note(did="nothing")
            elif action == "delete":
                outcome = await self._store.delete_objects(bucket, there, permanent=False)
                note(did="nothing" if outcome.failures else "delete", generation=generation)
            else:
                contexts = MapPatch(updates={"team": "crane"})
                patch = Patch(cache_control=mark)
                if action == "relabel":
                    patch = Patch(cache_control=mark, contexts=contexts)
                await self._store.patch_objects(bucket, there, patch)
                note(did=action, generation=generation)
        except Error as error:
            note(refused=str(error))


async def _main(directory: Path, seed: int, count: int, places: list[tuple[str, str]]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with (directory / "meddler.jsonl").open("a", buffering=1) as journal:
        await Meddler(directory, seed, count, places).run(journal, stop)


if __name__ == "__main__":
    where = sys.argv[4:]
    asyncio.run(
        _main(
            Path(sys.argv[1]),
            int(sys.argv[2]),
            int(sys.argv[3]),
            list(zip(where[::2], where[1::2], strict=True)),
        )
    )
