"""Jobs over the emulator while they run: cancelled, and asked for more by and by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from longshore.database import ramps
from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import pieces
from tests.gs.asking import PROJECT
from tests.gs.emulated import serving as emulator
from tests.house import BUCKET, FastClock, House
from tests.s3 import wire
from tests.s3.wire import Fault, Message, Wire
from tests.transport.server import serving

PREFIX = ("prefix_list", {"prefixes": ["d/"]})
HOLD = ("put_object_hold", {"temporary_hold": True})
SPEED = 10.0


class SlowWire(Wire):
    """Delays the reply to each request that changes objects, and counts these."""

    changes = 0

    def _fault_of(self, request: Message) -> Fault | None:
        if b"\r\nPATCH " not in request.body:
            return None
        self.changes += 1
        return Fault.DELAYS


@asynccontextmanager
async def harbour(
    directory: Path, objects: int, **options: Any
) -> AsyncIterator[tuple[House, MemoryStore, SlowWire]]:
    clock = FastClock(SPEED)
    kept = MemoryStore(clock)
    async with emulator(kept, clock, directory) as url:
        slow = SlowWire(url, "", 1)
        async with serving(slow.serve) as server:
            here = f"http://127.0.0.1:{server.port}"
            all_options = {"endpoint": here, "anonymous": True, "project": PROJECT, **options}
            house = House(directory / "house", "gs", batch=10, options=all_options, speed=SPEED)
            await house.open()
            for number in range(objects):
                await kept.write_object(BUCKET, f"d/{number:04}", pieces(b"x"))
            try:
                yield house, kept, slow
            finally:
                await house.close()


async def held(kept: MemoryStore) -> int:
    pages = kept.list_objects(BUCKET, columns=("temporary_hold",))
    return sum([sum(page.columns["temporary_hold"]) async for page in pages])


async def test_a_job_that_is_cancelled_sends_no_more_and_counts_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "DELAY_SECONDS", 0.05)
    async with harbour(tmp_path, 400) as (house, kept, slow):
        job = await house.create(HOLD, PREFIX)
        running = asyncio.create_task(house.run(job, seconds=60))
        while slow.changes < 5:
            await asyncio.sleep(0.002)
        await house.cancel(job)
        begun = slow.changes
        assert await running
        # Each shard ends the call that is under way, and may begin another before it hears.
        assert slow.changes <= begun + 8
        row, (counters, errors) = await house.job(job)
        assert (row.state, errors) == ("CANCELED", {})
        assert 50 <= counters.succeeded == await held(kept) < 400
        # What was announced and not sent any more is in the total alone: a batch of each shard.
        assert 0 <= counters.total - counters.succeeded <= 40


async def test_a_bucket_that_took_more_is_asked_for_more_by_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "DELAY_SECONDS", 0.0)
    ramp = {"initial_writes_per_second": 20, "prove_seconds": 1}
    async with harbour(tmp_path, 120, **ramp) as (house, kept, _):

        async def taken() -> list[ramps.Taken]:
            return await house.outside.read(ramps.recall, [("main", BUCKET)], 0)

        began = time.monotonic()
        job = await house.create(HOLD, PREFIX)
        assert await house.run(job, seconds=60)
        assert await held(kept) == 120
        # Of 20, 40, 80 … in the seconds that pass, 120 are the sum of two and a bit.
        assert (time.monotonic() - began) * SPEED >= 2.0
        (first,) = await taken()
        assert first.writes_per_second > 20
        job = await house.create(("put_object_hold", {"temporary_hold": False}), PREFIX)
        assert await house.run(job, seconds=60)
        assert await held(kept) == 0
        (second,) = await taken()
        assert second.writes_per_second >= first.writes_per_second
