"""Plan a job: find its buckets, if that is for its source to do, and split bucket operations.

Nothing is touched, so it can be repeated at will. A planning shard becomes that of the first bucket
that is found, and then the first shard of its ranges.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, closing
from typing import Final, cast

from longshore import extensions, telemetry
from longshore.database import shards
from longshore.engine.action_log import ActionLog
from longshore.engine.calls import Calls
from longshore.engine.proving import prove
from longshore.engine.running import Running, Tools
from longshore.engine.work import Work
from longshore.errors import Error, InvalidArgument
from longshore.proof import Finding
from longshore.source import BucketFinder, Range
from longshore.store import Bucket

BUCKETS_MAX: Final = 1000
"""How many buckets a job may have (the API's limit)."""


class Searching:
    """The run of a planning shard that has no bucket yet."""

    progressed = False

    def __init__(self, running: Running, tools: Tools) -> None:
        """Raises Unimplemented if the source is not there."""
        self._running = running
        self._tools = tools
        self._calls = Calls(tools.stores, tools.limits, running, tools.clock)
        name, data = running.shard.source
        self._source: BucketFinder = extensions.load("sources", name).open_source(data)

    async def run(self) -> None:
        """Find the job's buckets; the shard then has the first of them, unless there is none.

        Raises InvalidArgument if there are more than BUCKETS_MAX, and what the stores raise.
        """
        shard, tools = self._running.shard, self._tools
        found: list[str] = []
        buckets = self._calls.buckets()
        async with aclosing(cast("AsyncGenerator[Bucket, None]", buckets)) as listed:
            async for bucket in listed:
                if self._running.leave.is_set():
                    await tools.database.write(shards.let_go, shard)
                    return
                if self._running.stop.is_set():
                    break
                if tools.may_use(shard.project, bucket.name) and self._source.chooses(bucket):
                    found.append(bucket.name)
                if len(found) > BUCKETS_MAX:
                    raise InvalidArgument(
                        f"The bucket filters let more than {BUCKETS_MAX} buckets through, and a job"
                        " may have no more: make several jobs with narrower filters."
                    )
        planned = await tools.database.write(
            shards.finish_search, shard, sorted(found), tools.clock.now_us()
        )
        if planned is not None:
            self._running.shard = planned

    async def fail(self, error: Error) -> None:
        """End the job FAILED."""
        await self._tools.database.write(
            shards.give_up, self._running.shard, error, self._tools.clock.now_us()
        )

    def close(self) -> None:
        """Nothing is open."""


class Planning:
    """The run of a planning shard that has its bucket."""

    progressed = False

    def __init__(self, running: Running, tools: Tools) -> None:
        """Raises Unimplemented if the source or the transformation is not there."""
        self._running = running
        self._tools = tools
        self._calls = Calls(tools.stores, tools.limits, running, tools.clock)
        self._work = Work(running.shard, self._calls)
        self._sink = tools.sink(running)

    async def run(self) -> None:
        """Split the bucket operation; the shard then has a range and its lease still, unless there
        was none to have, or no room for another shard of its store.

        Raises an errors.Error for what cannot be read, or what the store cannot do, and LeaseLost.
        """
        work, shard, tools = self._work, self._running.shard, self._tools
        work.transformation.check(work.store.capabilities)
        await self._warn(await prove(work, tools))
        ranges = await work.source.split(self._calls, shard.bucket)
        if work.store.capabilities.by_range:
            ranges = spread(ranges)
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

    async def _warn(self, findings: Iterable[Finding]) -> None:
        """Say in both logs, the service's and the job's, where the store promises less."""
        shard, tools = self._running.shard, self._tools
        with closing(ActionLog(self._sink, shard)) as log:
            for why, acts in _weaker(findings).items():
                telemetry.warning("promises less", bucket=shard.bucket, acts=acts, why=why)
                await log.note(f"{acts} in {shard.bucket}: {why}", tools.clock.now_us())

    async def fail(self, error: Error) -> None:
        """End the bucket operation FAILED."""
        await self._tools.database.write(
            shards.give_up, self._running.shard, error, self._tools.clock.now_us()
        )

    def close(self) -> None:
        """Nothing is open."""


def spread(ranges: Sequence[Range]) -> list[Range]:
    """The same in an order in which those that follow each other lie far apart, so that workers,
    who take them in turn, do not all ask the same servers. The halves of one range do anyway."""
    bits = max(1, (len(ranges) - 1).bit_length())
    return [
        ranges[place]
        for place in sorted(range(len(ranges)), key=lambda place: f"{place:0{bits}b}"[::-1])
    ]


def _weaker(findings: Iterable[Finding]) -> dict[str, str]:
    """Which acts promise less, by what they do not promise."""
    acts: dict[str, list[str]] = {}
    for finding in findings:
        if finding.weaker:
            acts.setdefault(finding.weaker, []).append(finding.act)
    return {why: ", ".join(names) for why, names in acts.items()}
