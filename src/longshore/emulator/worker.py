"""The runner of the emulator: one worker, inside its process, so that it sees the same store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

from longshore import telemetry
from longshore.clock import Clock
from longshore.database import Database, leases
from longshore.engine.worker import Worker
from longshore.errors import Unavailable
from longshore.settings import Settings
from longshore.store import Stores
from longshore.telemetry import Numbers, Series

_AGAIN_SECONDS = 0.5


class InProcess:
    """A worker, and another one after it where the database has failed it."""

    def __init__(
        self, settings: Settings, database: Database, stores: Stores, clock: Clock
    ) -> None:
        self._settings = settings
        self._database = database
        self._stores = stores
        self._clock = clock
        self._totals = telemetry.Totals()
        self._up = False

    def ready(self) -> bool:
        """Whether the worker looks for shards."""
        return self._up

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process has measured."""
        return self._totals.now()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then hand every shard back."""
        while not stop.is_set():
            name = f"emulator/worker-{uuid.uuid4().hex[:12]}"
            worker = Worker(name, self._settings, self._database, self._stores, self._clock)
            self._up = True
            try:
                await worker.run(stop)
            except Unavailable as error:
                telemetry.warning("worker ends", worker=name, why=error)
                self._up = False
                await self._clock.wait(stop, _AGAIN_SECONDS)
                await self._database.write(leases.release, name)
