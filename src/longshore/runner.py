"""The contract of a runner: in which processes shards run.

The database says who carries what. A runner keeps workers alive, or finds those that others keep,
and sees to it that the leases of dead ones end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from longshore.telemetry import Numbers, Series, Totals

Duties = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Something that goes on until an event is set."""


async def nothing_else(_stop: asyncio.Event) -> None:
    """No duties."""


class Runner(Protocol):
    """Has shards carried. A module of ``runners/`` has ``start(settings, database, lock_fd)``
    giving one."""

    async def run(self, stop: asyncio.Event, alone: Duties = nothing_else) -> None:
        """Have shards carried until ``stop`` is set.

        ``alone``: what one process does for each database, and no two at a time: it goes on for as
        long as this is the one.
        """

    def ready(self) -> bool:
        """Whether this process does its part."""

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process and all workers, the dead included, have measured together."""


class Nobody:
    """No workers: other services of the same database have its shards carried."""

    async def run(self, stop: asyncio.Event, _alone: Duties = nothing_else) -> None:
        """Wait for ``stop``."""
        await stop.wait()

    def ready(self) -> bool:
        """There is nothing to wait for."""
        return True

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process has measured."""
        return self._totals.now()

    def __init__(self) -> None:
        self._totals = Totals()
