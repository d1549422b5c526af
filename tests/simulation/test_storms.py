"""Seeded runs in which everything else fails, too: several shards at once, a database that fails
before or after it has done what it was asked, calls of stores that are lost, half done or answered
per object, logs that cannot be written, workers that are drained. The reckoning stays the same.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from longshore.engine import carry
from longshore.engine.action_log import ActionLog
from longshore.errors import Code, Unavailable
from longshore.store import Bucket, Failure, Outcome
from tests.faults import MortalStore
from tests.house import BUCKET
from tests.simulation.test_crashes import OBJECTS, Voyage

SEEDS = 60
WRITES = {"checkpoint", "finish", "finish_plan", "hand_back", "let_go"}
LOST_MESSAGE = "the call got lost"


class StormyStore(MortalStore):
    """A mortal store whose calls may fail, each in its own way."""

    storm: Storm

    async def read_objects(self, *args: Any, **options: Any) -> Any:
        self.storm.strike(0.02, Unavailable(LOST_MESSAGE))
        return await self.__getattr__("read_objects")(*args, **options)

    async def list_objects(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async for page in self.__getattr__("list_objects")(*args, **options):
            self.storm.strike(0.03, Unavailable(LOST_MESSAGE))
            yield page

    async def _act(self, verb: str, bucket: str, batch: Any, *args: Any, **options: Any) -> Any:
        fault = self.storm.draw(0.3, ("half", "some done", "some not done"))
        if fault is None:
            return await super()._act(verb, bucket, batch, *args, **options)
        chosen = [i for i in range(len(batch)) if self.storm.random.random() < 0.5]
        if fault == "some done":
            outcome = await super()._act(verb, bucket, batch, *args, **options)
            unknown = dict.fromkeys(chosen, Failure(Code.DEADLINE_EXCEEDED, LOST_MESSAGE))
            return Outcome(failures={**outcome.failures, **unknown})
        rest = [i for i in range(len(batch)) if i not in chosen]
        outcome = await super()._act(verb, bucket, batch.pick(rest), *args, **options)
        if fault == "half":
            raise Unavailable(LOST_MESSAGE)
        failures = {rest[place]: failure for place, failure in outcome.failures.items()}
        unknown = dict.fromkeys(chosen, Failure(Code.INTERNAL, LOST_MESSAGE))
        return Outcome(failures={**failures, **unknown})


class Storm(Voyage):
    """A voyage with a number of faults ahead of it, over several shards."""

    def __init__(self, seed: int, directory: Path) -> None:
        super().__init__(seed, directory, "memory")
        self.faults = self.random.randrange(1, 8)
        self.tries = 30
        stormy = StormyStore(self.house.store, self.house.fate)
        stormy.storm = self
        self.house.mortal = stormy
        self.house.stores._open["main"] = stormy  # type: ignore[assignment]

    def draw(self, chance: float, kinds: tuple[str, ...]) -> str | None:
        if self.faults == 0 or self.random.random() > chance:
            return None
        self.faults -= 1
        fault = self.random.choice(kinds)
        self.house.fate.deaths.append(fault)
        return fault

    def strike(self, chance: float, error: Exception) -> None:
        if self.draw(chance, (type(error).__name__,)):
            raise error

    async def _meanwhile(self, where: str) -> None:
        await super()._meanwhile(where)
        _, _, what = where.partition(" ")
        if what in WRITES:
            self.strike(0.05, OperationalError("UPDATE", None, OSError("disk I/O error")))
        elif what.endswith("_objects"):
            self.strike(0.05, Unavailable(LOST_MESSAGE))
        if self.draw(0.02, ("drain",)):
            self.house.stop.set()

    async def _source(self) -> tuple[str, dict[str, Any]]:
        if not self.manifest:
            return "prefix_list", {"prefixes": [f"d/0{ten}" for ten in range(3)]}
        rows = [f"{BUCKET},d/{number:03d}" for number in range(OBJECTS)]
        rows += [f"{BUCKET},d/absent-{number}" for number in range(5)]
        rows = [row for row in rows for _ in range(self.random.choice((0, 1, 1, 1, 2)))]
        rows += [f"{BUCKET},d/bad-{number},no-generation" for number in range(2)]
        self.random.shuffle(rows)
        self.rows = rows
        store = self.house.store
        await store.create_bucket(Bucket(name="papers", create_time_us=0))
        for file in range(2):  # all rows of an object in one file: shards run side by side
            lines = [row for row in rows if row.encode()[-1] % 2 == file]

            async def once(lines: list[str] = lines) -> AsyncIterator[bytes]:
                yield "\n".join(lines).encode()

            await store.write_object("papers", f"list-{file}.csv", once())
        return "manifest", {"bucket": "papers", "name": "list-*.csv"}


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_counters_are_exact_in_any_weather(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "CANCELLED_PATIENCE_SECONDS", carry.PATIENCE_SECONDS)
    storm = Storm(seed, tmp_path)
    write = ActionLog.write

    async def weathered(self: ActionLog, *args: Any, **kwargs: Any) -> None:
        full = OSError(errno.ENOSPC, "No space left on device", "shard-2.jsonl")
        storm.strike(0.03, full)
        await write(self, *args, **kwargs)
        storm.strike(0.03, full)

    monkeypatch.setattr(ActionLog, "write", weathered)
    await storm.sail()
