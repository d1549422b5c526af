"""Plan a bucket operation: its planning shard becomes the first shard of its ranges."""

from __future__ import annotations

from longshore.database import shards
from longshore.engine.calls import Calls
from longshore.engine.running import Running, Tools
from longshore.engine.work import Work
from longshore.errors import Error


class Planning:
    """The run of a planning shard. Nothing is touched, so it can be repeated at will."""

    progressed = False

    def __init__(self, running: Running, tools: Tools) -> None:
        """Raises Unimplemented if the source or the transformation is not there."""
        self._running = running
        self._tools = tools
        self._calls = Calls(tools.stores, tools.limits, running, tools.clock)
        self._work = Work(running.shard, self._calls)

    async def run(self) -> None:
        """Split the bucket operation; the shard then has a range and its lease still, unless there
        was none to have, or no room for another shard of its store.

        Raises an errors.Error for what cannot be read, or what the store cannot do, and LeaseLost.
        """
        work, shard, tools = self._work, self._running.shard, self._tools
        work.transformation.check(work.store.capabilities)
        ranges = await work.source.split(self._calls, shard.bucket)
        store = tools.stores.name_for(shard.bucket)
        planned = await tools.database.write(
            shards.finish_plan, shard, ranges, store, tools.clock.now_us()
        )
        if planned is None:
            return
        if tools.has_room(store):
            self._running.shard, self._running.store = planned, store
        else:
            await tools.database.write(shards.let_go, planned)

    async def fail(self, error: Error) -> None:
        """End the bucket operation FAILED."""
        await self._tools.database.write(
            shards.give_up, self._running.shard, error, self._tools.clock.now_us()
        )

    def close(self) -> None:
        """Nothing is open."""
