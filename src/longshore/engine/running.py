"""A shard that a worker carries, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from longshore.clock import Clock
from longshore.database import Database
from longshore.engine.action_log import Sink
from longshore.engine.deadline import Deadline
from longshore.engine.limits import Limits
from longshore.engine.retry import Retries
from longshore.model import Shard
from longshore.store import Stores


@dataclass(slots=True, kw_only=True)
class Running:
    """A leased shard. ``stop`` is set when it is to come to an end soon, for whatever reason;
    ``leave`` as well when that means giving the lease up rather than ending the shard.

    ``since``: the monotonic time at which its turn began."""

    shard: Shard
    store: str | None
    """The store that its slot counts for; None for planning."""
    deadline: Deadline
    since: float
    sending: int = 0
    """How many calls that change objects are under way."""
    retries: Retries = field(default_factory=Retries)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    def give_up_lease(self) -> None:
        """Ask for the lease back: the worker ends, or somebody else is to have the shard."""
        self.leave.set()
        self.stop.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a worker lends to each shard that it carries."""

    database: Database
    stores: Stores
    may_use: Callable[[str, str], bool]
    """Whether jobs of a project may use a bucket."""
    has_room: Callable[[str], bool]
    """Whether one more shard of a store may be carried."""
    limits: Limits
    clock: Clock
    sink: Callable[[Running], Sink]
    """Where the log of a shard is kept."""
