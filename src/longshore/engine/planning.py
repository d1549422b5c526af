"""Plan a bucket operation: replace its planning shard by shards of the ranges of its source."""

from __future__ import annotations

import asyncio
from functools import partial

from longshore.clock import Clock
from longshore.database import Database, shards
from longshore.engine.retry import retrying
from longshore.engine.work import Work
from longshore.errors import Error
from longshore.model import Shard, State
from longshore.store import Stores


async def plan(
    shard: Shard, database: Database, stores: Stores, stop: asyncio.Event, clock: Clock
) -> None:
    """Split a bucket operation. What cannot be read or done at all ends it FAILED, before any
    object is touched. Raises LeaseLost as soon as a newer attempt owns the shard."""
    try:
        work = Work(shard, stores, clock, stop, lambda: None)
        work.transformation.check(work.store.capabilities)
        ranges = await retrying(partial(work.source.split, stores, shard.bucket), stop, clock)
    except Error as error:
        await database.write(
            shards.finish,
            shard,
            shard.counters,
            shard.errors,
            State.FAILED,
            clock.now_us(),
            error,
        )
        return
    await database.write(shards.finish_plan, shard, ranges, clock.now_us())
