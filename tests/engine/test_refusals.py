"""Shards whose store refuses what is above its limit, one request at a time as S3 does.

All in virtual time. Gate, turns, retries and the client of S3 are the real ones; the loop is what a
shard does: a batch in lanes, a look at what was turned away, and that again with the next batch.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any, cast

import pytest

from longshore.database.leases import Leased
from longshore.database.quotas import own
from longshore.engine.calls import EngineTurns
from longshore.engine.deadline import Deadline
from longshore.engine.limits import Limits
from longshore.engine.retry import ANSWERED_SECONDS, LONE_SHARE, READ_TRIES, delay
from longshore.engine.running import Running
from longshore.errors import Error, NotFound, Unavailable
from longshore.settings import StoreSettings
from longshore.stores.s3.client import Call, Client
from longshore.transport.http import Reply
from tests.busy_store import BusyStore, refused_share
from tests.virtual_time import VirtualClock, run

CLOCK = VirtualClock()
BATCH = 1_000
LOOK = Call("HeadObject", "HEAD", "b", "o")
COPY = Call("CopyObject", "PUT", "b", "o")


class Server:
    """The answers of a server of S3 that takes what ``store`` takes."""

    def __init__(self, store: BusyStore) -> None:
        self._store = store

    async def send(self, call: Call) -> Reply:
        return Reply(503 if await self._store.call() else 200, (), b"")


class Bucket:
    """One worker at a bucket of such a server."""

    def __init__(self, store: BusyStore) -> None:
        self.limits = Limits(lambda _: StoreSettings(name="s", kind="memory"), CLOCK)
        self.store = store
        self.done = 0
        self.most_tries = 0

    def turns(self) -> tuple[EngineTurns, Running]:
        self.limits.divide(own([Leased("s", "b", "a", 1)], "a"), CLOCK.monotonic())
        deadline = Deadline(CLOCK, 1e9, 10, CLOCK.monotonic())
        running = Running(shard=cast(Any, None), store="s", deadline=deadline, since=0.0)
        return EngineTurns("s", self.limits.gate("s", "b"), running, CLOCK), running

    async def shard(self) -> None:
        """Act on one batch after another, for ever."""
        turns, running = self.turns()
        client = Client(cast(Any, Server(self.store)), turns)
        tries: list[int] = []
        while True:
            tries += [0] * (BATCH if len(tries) * 2 <= BATCH else 0)
            failed: list[int] = []

            async def act(tried: int, failed: list[int] = failed) -> None:
                try:
                    await client.read(LOOK)
                    await client.change(COPY)
                except Error:
                    failed.append(tried)

            await client.in_lanes(tries, act)
            self.done += len(tries) - len(failed)
            await self._look(client, running, len(failed), len(tries))
            few = len(failed) <= LONE_SHARE * len(tries)
            again = [tried + few for tried in failed]
            self.most_tries = max(self.most_tries, *again, 0)
            running.retries.ended(len(tries) - len(failed), len(failed), max(again, default=0))
            await CLOCK.wait(running.stop, running.retries.pause())
            tries = again

    async def _look(self, client: Client, running: Running, failed: int, announced: int) -> None:
        """Look at what failed; when that fails the run is over, and the next one looks at all."""
        failures = 0
        while True:
            try:
                await client.in_lanes([LOOK] * failed, _read(client))
                return
            except Error:
                failed = announced
                await CLOCK.wait(running.stop, delay(failures))
                failures += 1


def _read(client: Client) -> Any:
    async def read(call: Call) -> None:
        await client.read(call)

    return read


@pytest.mark.parametrize(
    ("limit", "shards"),
    [
        ({"rate": 750}, 1),
        ({"rate": 750}, 3),
        ({"rate": 750, "windows": True}, 2),
        ({"most": 24}, 2),
        ({"servers": 24}, 2),
    ],
)
def test_batches_use_the_limit_of_their_store(limit: dict[str, Any], shards: int) -> None:
    random.seed(1)  # pauses are random

    async def main() -> Bucket:
        bucket = Bucket(BusyStore(seconds=0.03, **limit))
        tasks = [asyncio.create_task(bucket.shard()) for _ in range(shards)]
        await asyncio.sleep(25)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return bucket

    bucket = run(main())
    late = bucket.store.between(10, 24)
    answered = sum(not refused for *_, refused in late) / 14
    allowed = limit.get("rate", 24 / 0.03)
    assert answered >= 0.9 * allowed
    assert refused_share(late) < 0.05
    assert bucket.done >= 0.6 * 24 * allowed / 2  # two requests an object, from the start on
    assert bucket.most_tries <= 2


class Moody:
    """A server that answers one request and then refuses ``refusals`` with ``status``."""

    def __init__(self, refusals: int, status: int = 503) -> None:
        self._status = [200] + [status] * refusals
        self.asked: list[float] = []

    async def send(self, call: Call) -> Reply:
        self.asked.append(CLOCK.monotonic())
        place = len(self.asked) - 1
        return Reply(self._status[place] if place < len(self._status) else 200, (), b"")


@pytest.mark.parametrize("refusals", [1, READ_TRIES, READ_TRIES + 1])
def test_a_read_that_is_turned_away_is_made_again(refusals: int) -> None:
    """The read of one object among a thousand must not end them all."""
    server = Moody(refusals)

    async def main() -> None:
        turns, _ = Bucket(BusyStore(seconds=0.03)).turns()
        client = Client(cast(Any, server), turns)
        await client.read(LOOK)
        if refusals > READ_TRIES:
            with pytest.raises(Unavailable):
                await client.read(LOOK)
        else:
            assert (await client.read(LOOK)).status == 200

    run(main())
    again = server.asked[1:]
    assert len(again) == min(refusals, READ_TRIES) + 1
    assert all(after - before >= 0.01 for before, after in pairwise(again))


@pytest.mark.parametrize("why", ["not there", "to stop", "a store that is down"])
def test_a_read_is_not_made_again_for_nothing(why: str) -> None:
    server = Moody(9, 404 if why == "not there" else 503)

    async def main() -> None:
        turns, running = Bucket(BusyStore(seconds=0.03)).turns()
        client = Client(cast(Any, server), turns)
        await client.read(LOOK)
        if why == "to stop":
            running.stop.set()
        elif why == "a store that is down":
            await asyncio.sleep(ANSWERED_SECONDS + 1)
        with pytest.raises(NotFound if why == "not there" else Unavailable):
            await client.read(LOOK)

    run(main())
    assert len(server.asked) == 2
