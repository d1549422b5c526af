"""Who coordinates, when whoever does cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from longshore.coordination import Candidate, Hindered
from longshore.database import Database
from longshore.runners.dask import dealing
from longshore.settings import DaskSettings, Settings
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
