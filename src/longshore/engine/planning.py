"""Plan a bucket operation: replace its planning shard by shards of the ranges of its source."""

from __future__ import annotations

from longshore.database import shards
from longshore.engine.running import Running, Tools
from longshore.engine.work import Work
from longshore.errors import Error


class Planning:
    """The run of a planning shard. Nothing is touched, so it can be repeated at will."""

    progressed = False

    def __init__(self, running: Running, tools: Tools) -> None:
        """Raises Unimplemented if the source or the transformation is not there."""
        self._shard = running.shard
        self._tools = tools
        self._work = Work(self._shard, tools.stores, running.deadline.check)

    async def run(self) -> None:
        """Split the bucket operation.

        Raises an errors.Error for what cannot be read, or what the store cannot do, and LeaseLost.
        """
        work, shard, tools = self._work, self._shard, self._tools
        work.transformation.check(work.store.capabilities)
        ranges = await work.source.split(tools.stores, shard.bucket)
        store = tools.stores.name_for(shard.bucket)
        await tools.database.write(shards.finish_plan, shard, ranges, store, tools.clock.now_us())

    async def fail(self, error: Error) -> None:
        """End the bucket operation FAILED."""
        await self._tools.database.write(
            shards.give_up, self._shard, error, self._tools.clock.now_us()
        )

    def close(self) -> None:
        """Nothing is open."""
