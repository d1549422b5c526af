"""Lets a test stop a worker at a chosen point, so that a SIGKILL meets it just there.

Only workers are touched, and only by waiting: while ``GATE_DIR/<point>.hold`` exists and all shards
together have announced at least as many objects as the file says, the worker writes
``<point>.reached`` and the shard that came there stands still.
"""

import asyncio
import os
import sys
from pathlib import Path

if "longshore.runners.local" in sys.orig_argv and "GATE_DIR" in os.environ:
    from sqlalchemy import func, select

    from longshore.database.tables import shards
    from longshore.engine.shard import ShardRun

    GATE = Path(os.environ["GATE_DIR"])

    def _announced(connection):
        return connection.execute(select(func.coalesce(func.sum(shards.c.total), 0))).scalar_one()

    async def _stand(point, run):
        hold = GATE / f"{point}.hold"
        if not hold.exists():
            return
        announced = await run._tools.database.read(_announced)
        while hold.exists() and announced >= int(hold.read_text() or 0):
            (GATE / f"{point}.reached").touch()
            await asyncio.sleep(0.01)

    _announce, _count = ShardRun._announce, ShardRun._count

    async def _held_announce(self, prepared):
        await _stand("before-checkpoint", self)
        return await _announce(self, prepared)

    async def _held_count(self, intent, ending, **options):
        await _stand("after-act", self)
        await _count(self, intent, ending, **options)

    ShardRun._announce, ShardRun._count = _held_announce, _held_count
