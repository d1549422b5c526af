"""Workers of a Dask cluster, to which one coordinator deals shards.

The database says who carries what, Dask where there are workers. Of any number of services one
coordinates, by a lease with a term; it leases free shards to the workers that the scheduler knows
and tells each by a task, which does nothing where the lease is another one's by then. So it does
no harm if Dask runs a task twice, late or never, and a shard runs on for as long as its lease does,
whoever has died meanwhile: coordinator, scheduler, or both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from longshore import telemetry
from longshore.coordination import Candidate
from longshore.database import Database
from longshore.runner import Duties, nothing_else
from longshore.runners.dask.dealing import deal
from longshore.runners.dask.place import work
from longshore.runners.dask.rules import apply, require_cluster
from longshore.settings import Settings
from longshore.supervisor import Supervisor
from longshore.telemetry import Numbers, Series

__all__ = ["require_cluster", "start", "work", "workers"]

_MODULE = "longshore.runners.dask"


def start(settings: Settings, database: Database, lock_fd: int) -> Coordinator:
    """A candidate for the place of the coordinator. ``lock_fd`` is not used: it starts nothing.

    Raises FailedPrecondition for settings that cannot be, or that trust a network.
    """
    require_cluster(settings)
    apply()
    return Coordinator(settings, database)


def workers(settings: Settings, database: Database, lock_fd: int) -> Supervisor:
    """Keeps ``settings.workers`` processes of this machine that are the cluster's workers.

    Raises FailedPrecondition for settings that cannot be, or that trust a network.
    """
    require_cluster(settings)
    return Supervisor(_MODULE, settings, database, lock_fd, judges_leases=False)


class Coordinator:
    """A service that deals shards to the cluster whenever no other does."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._candidate = Candidate(settings, database)
        self._totals = telemetry.Totals()

    def ready(self) -> bool:
        """Whether it coordinates, or would if it were needed."""
        return self._candidate.reached

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process has measured; workers have their own."""
        return self._totals.now()

    async def run(self, stop: asyncio.Event, alone: Duties = nothing_else) -> None:
        """Be a candidate until ``stop`` is set, and coordinate while elected."""

        async def dealing(term: int, over: asyncio.Event) -> None:
            await deal(term, self._settings, self._database, over)

        await self._candidate.run(stop, dealing, lambda _term, over: alone(over))
