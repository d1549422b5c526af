"""The contract of a runner: in which processes shards run.

Workers lease free shards from the database by themselves, so a runner only has to keep workers
alive, to end those that hang, and to give back the leases of those that are dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from longshore.telemetry import Numbers, Series


class Runner(Protocol):
    """Keeps workers running. A module of ``runners/`` has ``start(settings, …)`` giving one."""

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the workers running until ``stop`` is set, then have them hand back their shards."""

    def ready(self) -> bool:
        """Whether every worker is up."""

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process and all workers, the dead included, have measured together."""
