"""The store of Cloud Storage over the emulator's JSON API, in the loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from longshore.api.server import make_server
from longshore.clock import Clock
from longshore.embedded import OneAtATime
from longshore.emulator.app import EmulatorApp
from longshore.emulator.control import Clock as TurnedForward
from longshore.emulator.control import Control
from longshore.emulator.faults import Faults
from longshore.emulator.verbs import Backend
from longshore.stores.gs.store import GsStore
from tests.gs.asking import store_at


@asynccontextmanager
async def serving(kept: OneAtATime, clock: Clock, folder: Path) -> AsyncIterator[str]:
    """Where an emulator is, with its objects in ``kept``; ``folder`` is for what arrives."""

    async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["path"])

    async def forget_jobs() -> None:
        raise AssertionError

    control = Control(clock=TurnedForward(), faults=Faults(), forget_jobs=forget_jobs)
    app = EmulatorApp(Backend(store=kept, clock=clock, folder=folder), nothing_else, control)
    server = make_server(app, "127.0.0.1", 0)
    running = asyncio.create_task(server.serve())
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.should_exit = True
        await running
        await kept.close()


@asynccontextmanager
async def emulated(kept: OneAtATime, clock: Clock, folder: Path) -> AsyncIterator[GsStore]:
    """A store on such an emulator."""
    async with serving(kept, clock, folder) as url, store_at(url, clock) as store:
        yield store
