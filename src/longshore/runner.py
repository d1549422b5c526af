"""The contract of a runner: in which processes shards run.

Workers lease free shards from the database by themselves, so a runner only has to keep workers
alive, to end those that hang, and to give back the leases of those that are dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from longshore.telemetry import Numbers, Series

T = TypeVar("T")


class Runner(Protocol):
    """Keeps workers running. A module of ``runners/`` has ``start(settings, …)`` giving one."""

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the workers running until ``stop`` is set, then have them hand back their shards."""

    def ready(self) -> bool:
        """Whether every worker is up."""

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process and all workers, the dead included, have measured together."""


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """What ``main`` gives, run on an event loop of its own: uvloop's where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
