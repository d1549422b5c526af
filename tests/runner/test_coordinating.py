"""Who coordinates, when whoever does cannot."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from longshore import coordination
from longshore.coordination import Candidate, Hindered
from longshore.database import Database, coordinator, deals, leases
from longshore.errors import Unavailable
from longshore.runners.dask import dealing
from longshore.settings import DaskSettings, Settings
from tests.database.rows import create, new_job, running
from tests.service import free_port


async def test_who_is_hindered_leaves_the_term_to_another(tmp_path: Path) -> None:
    database = Database(tmp_path / "database")
    await database.create()
    stop = asyncio.Event()
    elected: list[str] = []

    async def hindered(term: int, over: asyncio.Event) -> None:
        elected.append("hindered")
        raise Hindered("the way is blocked")

    async def able(term: int, over: asyncio.Event) -> None:
        elected.append("able")
        await over.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for duty in (hindered, able):
            directory = tmp_path / duty.__name__
            directory.mkdir()
            candidate = Candidate(Settings(data_dir=directory), database)
            group.create_task(candidate.run(stop, duty))
            while not elected:
                await asyncio.sleep(0.01)
        while elected[-1] != "able":
            await asyncio.sleep(0.01)
        stop.set()
    assert elected[0] == "hindered"
    await database.close()


async def test_a_scheduler_that_is_not_reached_for_long_hinders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dealing, "HINDERED_SECONDS", 0.2)
    monkeypatch.setattr(dealing, "CALL_SECONDS", 0.3)
    database = Database(tmp_path / "database")
    scheduler = DaskSettings(scheduler=f"tcp://127.0.0.1:{free_port()}")
    settings = Settings(data_dir=tmp_path, dask=scheduler)
    with pytest.raises(Hindered, match="the scheduler has not been reached"):
        await dealing.deal(1, settings, database, asyncio.Event())
    await database.close()


class Outage(Database):
    """A database that is down for a while."""

    down = False

    async def read(self, *call: Any, **options: Any) -> Any:
        if self.down:
            raise Unavailable("The database is down.")
        return await super().read(*call, **options)


@pytest.mark.parametrize("coordinates", [False, True])
async def test_time_in_which_the_database_was_down_ends_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coordinates: bool
) -> None:
    """Nobody can renew one then. Who watches them looks again before their workers do."""
    monkeypatch.setattr(coordination, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(coordination, "AGAIN_SECONDS", 0.02)
    database = Outage(tmp_path / "database")
    await database.create()
    settings = Settings(data_dir=tmp_path, lease_seconds=1.0)
    (shard,) = await running(database)
    term = None if coordinates else await database.write(coordinator.take, "another", None)
    stop = asyncio.Event()
    candidate = Candidate(settings, database)

    async def watched() -> None:
        """It has seen the lease as it is."""
        async with asyncio.timeout(30):
            while not candidate._leases._since or not candidate.reached:
                await asyncio.sleep(0.01)

    async def is_leased() -> bool:
        return [one.shard for one in await database.write(leases.leases)] == [shard.id]

    async with asyncio.TaskGroup() as group:
        group.create_task(candidate.run(stop))
        await watched()
        database.down = True
        await asyncio.sleep(1.2)
        if term is not None:
            await database.write(coordinator.resign, term)
        database.down = False
        await asyncio.sleep(0.5)
        assert await is_leased()
        async with asyncio.timeout(30):
            while await is_leased():
                await asyncio.sleep(0.01)
        stop.set()
    await database.close()


class Counting(Database):
    """A database that counts what is written."""

    written = 0

    async def write(self, *call: Any, **options: Any) -> Any:
        self.written += 1
        return await super().write(*call, **options)


async def test_what_many_have_accepted_costs_the_coordinator_no_transaction_each(
    tmp_path: Path,
) -> None:
    """Sixty thousand shards are dealt when a job begins; meanwhile nothing else would be."""
    database = Counting(tmp_path / "database")
    await database.create()
    await create(database, new_job(buckets=tuple(f"b-{number}" for number in range(40))))
    await database.write(coordinator.take, "c", None)
    carriers = {"w": deals.Carrier({}, 40), "gone": deals.Carrier({}, 2)}
    dealt = await database.write(deals.deal, 1, carriers, 8)
    (late, *quick) = [lease for lease in dealt if lease.owner == "w"]
    for lease in quick:
        assert await database.write(deals.accept, "w", lease.shard, lease.attempt) is not None
    dealer = dealing.Dealer(1, Settings(data_dir=tmp_path), database, None)
    dealer._workers = {"w": "tcp://w"}
    dealer._dealt = dict.fromkeys(dealt, -math.inf)
    database.written = 0
    await dealer._take_back()
    left = await database.read(leases.leases)
    assert {lease.shard for lease in left} == {lease.shard for lease in quick}
    assert database.written == len(dealt) - len(quick)
    assert dealer._dealt == {}
    assert dealer._spared.keys() == {"w"}  # which let one lapse
    assert late.owner == "w"
    await database.close()
