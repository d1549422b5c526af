"""Carry one shard forward: read, announce, act."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from longshore.clock import Clock
from longshore.database import Database, shards
from longshore.database.shards import Announcement, Answer
from longshore.engine.action_log import ActionLog
from longshore.engine.intent import Intent
from longshore.engine.lease import Lease
from longshore.engine.pace import Pace
from longshore.engine.retry import TRANSIENT, retrying
from longshore.engine.tally import Tally
from longshore.engine.work import Again, Ending, Prepared, Work, give_up, next_round
from longshore.errors import Error
from longshore.model import Shard, State
from longshore.source import Cursor, Selection
from longshore.store import Stores


@dataclass(slots=True, kw_only=True)
class Running:
    """A shard that this worker carries. ``stop`` is set when it is to end or to hand back; which
    of the two, ``handing_back`` says."""

    shard: Shard
    lease: Lease
    stop: asyncio.Event
    handing_back: bool = False


class ShardRun:
    """One run of a shard, from its cursor to its end or until it is told to stop."""

    def __init__(
        self,
        running: Running,
        database: Database,
        stores: Stores,
        pace: Pace,
        log: ActionLog,
        clock: Clock,
    ) -> None:
        self._running = running
        self._shard = running.shard
        self._database = database
        self._stores = stores
        self._pace = pace
        self._log = log
        self._clock = clock
        self._tally = Tally(self._shard.bucket, self._shard.counters, self._shard.errors)
        self._open = Intent.unpack(self._shard.intent) if self._shard.intent else None
        self._again = Again()

    async def run(self) -> None:
        """Raises LeaseLost as soon as a newer attempt owns the shard; nothing is sent after that.

        A failure of the source or the store as a whole ends the shard FAILED, with every announced
        object counted.
        """
        try:
            work = Work(
                self._shard,
                self._stores,
                self._clock,
                self._running.stop,
                self._running.lease.check,
            )
        except Error as error:
            await self._finish(State.FAILED, error)
            return
        try:
            await self._carry(work)
        except Error as error:
            if self._running.stop.is_set() and error.code in TRANSIENT:
                await self._hand_back()  # whoever runs it next settles what is open
            else:
                await self._fail(work, error)

    async def _carry(self, work: Work) -> None:
        if self._open is not None:
            await self._count(self._open, await work.settle(self._open), settled=True)
        reader = _Reader(work, self._stores, self._shard, self._clock)
        try:
            while prepared := await self._read(work, reader):  # read
                if self._running.handing_back:
                    await self._hand_back()
                    return
                if await self._announce(prepared) is Answer.STOP:  # announce
                    return
                if (intent := prepared.intent) is not None:
                    await self._count(intent, await work.act(prepared, intent))  # act
        finally:
            await reader.close()
        await self._finish(State.SUCCEEDED)

    async def _read(self, work: Work, reader: _Reader) -> Prepared | None:
        """The next batch, or None at the end. Half a batch of objects that must be looked at again
        goes alone, so that their number stays bounded."""
        await self._pace.reserve(self._running.stop)
        room = self._pace.batch_size - len(self._again)
        selection = None
        if room * 2 >= self._pace.batch_size:
            selection = await reader.next(room, self._running.stop)
        used = len(self._again) + (len(selection.batch) if selection else 0)
        self._pace.give_back(self._pace.batch_size - used)
        if selection is None and not self._again:
            return None
        return await work.prepare(self._again, selection, reader.cursor)

    async def _announce(self, prepared: Prepared) -> Answer:
        """One checkpoint: count what is done, announce what is next."""
        packed = prepared.intent.pack() if prepared.intent is not None else None
        announcement = Announcement(
            intent=packed,
            cursor=prepared.cursor,
            found=prepared.found,
            bytes_found=prepared.bytes_found,
        )
        asked = self._clock.monotonic()
        answer = await self._database.write(
            shards.checkpoint,
            self._shard,
            self._tally.counters,
            self._tally.errors,
            announcement,
            self._clock.now_us(),
        )
        self._running.lease.confirm(asked)
        if answer is Answer.GO_ON:
            self._tally.announced(prepared.found, prepared.bytes_found)
            self._open, self._again = prepared.intent, Again()
        return answer

    async def _count(self, intent: Intent, ending: Ending, *, settled: bool = False) -> None:
        """Log, then count, what became of the open intent."""
        again = set(ending.again)
        if self._log.wanted:
            await asyncio.to_thread(
                self._log.write,
                intent,
                ending.failures,
                again,
                now_us=self._clock.now_us(),
                settled=settled,
            )
        self._tally.done(intent, ending.failures, again)
        self._again = next_round(intent, ending)
        self._open = None

    async def _hand_back(self) -> None:
        """Give the lease back. Where objects wait to be looked at (again), the last checkpoint
        stays as it is with its intent, which the next run settles."""
        if self._open is not None or self._again:
            await self._database.write(shards.let_go, self._shard)
        else:
            await self._database.write(
                shards.hand_back, self._shard, self._tally.counters, self._tally.errors
            )

    async def _fail(self, work: Work, error: Error) -> None:
        """End the shard FAILED; what is announced and can no longer be looked at failed too."""
        if self._open is not None:
            try:
                ending = await work.settle(self._open)
            except Error as unreadable:
                ending = give_up(self._open, unreadable)
            await self._count(self._open, ending, settled=True)
        if self._again:
            left = _left_over(self._again)
            await self._count(left, give_up(left, error), settled=True)
        await self._finish(State.FAILED, error)

    async def _finish(self, state: State, error: Error | None = None) -> None:
        await self._database.write(
            shards.finish,
            self._shard,
            self._tally.counters,
            self._tally.errors,
            state,
            self._clock.now_us(),
            error,
        )


class _Reader:
    """The selections of a shard's source, opened again at the cursor after a passing failure."""

    def __init__(self, work: Work, stores: Stores, shard: Shard, clock: Clock) -> None:
        self.cursor: Cursor = shard.cursor
        self._work = work
        self._stores = stores
        self._shard = shard
        self._clock = clock
        self._room = 1
        self._selections: AsyncIterator[Selection] | None = None

    async def next(self, room: int, stop: asyncio.Event) -> Selection | None:
        """The next selection of at most ``room`` objects, or None at the end of the range."""
        self._room = room
        selection = await retrying(self._next, stop, self._clock)
        if selection is not None:
            self.cursor = selection.cursor
        return selection

    async def close(self) -> None:
        """Let go of the source."""
        selections, self._selections = self._selections, None
        if isinstance(selections, AsyncGenerator):
            await selections.aclose()

    async def _next(self) -> Selection | None:
        if self._selections is None:
            self._selections = self._work.source.read(
                self._stores,
                self._shard.bucket,
                self._shard.range or {},
                self.cursor,
                columns=self._work.columns,
                versions=self._work.transformation.versions,
                size=lambda: self._room,
            )
        try:
            return await anext(self._selections, None)
        except Error:
            await self.close()
            raise


def _left_over(again: Again) -> Intent:
    return Intent(
        names=again.names,
        generations=again.generations,
        sizes=[0] * len(again),
        flags=again.flags,
    )
