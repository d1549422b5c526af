"""Carry one shard forward: read, announce, act."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from longshore import telemetry
from longshore.database import shards
from longshore.database.shards import Announcement, Answer
from longshore.engine.action_log import ActionLog
from longshore.engine.ahead import Ahead
from longshore.engine.calls import Calls
from longshore.engine.gate import LOOK
from longshore.engine.intent import Intent
from longshore.engine.proving import prove
from longshore.engine.retry import PATIENCE_SECONDS
from longshore.engine.running import Running, Tools
from longshore.engine.tally import Tally
from longshore.engine.work import Again, Ending, Prepared, Work, give_up, next_round
from longshore.errors import Error, Unavailable
from longshore.model import State
from longshore.source import Cursor, Range, Selection

FIRST_LOOKS = 4.0
LOOKS_PER_BATCH = 1 / 16
"""How many listings a shard may spend on finding where to halve its range: some at first and after
each time that it was halved, and one more for so many batches."""
DRY_BATCH_SECONDS = 0.1
"""What a dry run finds within so long is one batch: it announces nothing, so there is no need to
make each page durable before the next."""


class ShardRun:
    """One run of a shard from its last checkpoint on; after a failure that passes, make a new one
    of the shard as the database then has it."""

    def __init__(self, running: Running, tools: Tools) -> None:
        """Raises Unimplemented if the source or the transformation is not there."""
        self._running = running
        self._shard = running.shard
        self._tools = tools
        self._calls = Calls(tools.stores, tools.limits, running, tools.clock)
        self._work = Work(self._shard, self._calls)
        self._gate = self._calls.gate(self._shard.bucket)
        self._log = ActionLog(tools.sink(running), self._shard)
        self._tally = Tally(self._shard.bucket, self._shard.counters, self._shard.errors)
        self._open = Intent.unpack(self._shard.intent) if self._shard.intent else None
        self._again = Again()
        self._range: Range = self._shard.range or {}
        self._cursor: Cursor = self._shard.cursor
        self._ahead = Ahead(self._selections)
        self._acted: set[str] = set()  # since it was begun to read ahead
        self._looks = FIRST_LOOKS
        self._answered = tools.clock.monotonic()
        self.progressed = False

    async def run(self) -> None:
        """Carry the shard to its end, or until it is told to stop.

        Raises LeaseLost as soon as a newer attempt owns it, an errors.Error when its source or its
        store fails as a whole, OSError when its log cannot be written; nothing is sent after that.
        """
        if self._open is not None:
            await self._count(self._open, await self._work.settle(self._open))
        await prove(self._work, self._tools)
        await self._ahead.begin(self._range, self._cursor)
        try:
            while prepared := await self._read():  # read
                if self._running.leave.is_set():
                    await self._hand_back()
                    return
                answer = await self._announce(prepared)  # announce
                if answer is Answer.STOP:
                    return
                if self._ahead.start():
                    self._acted = set()
                if (intent := prepared.intent) is not None:
                    ending = await self._work.act(prepared, intent)  # act
                    await self._count(intent, ending)
                    await self._breathe(ending)
                    if ending.turned_away and not ending.answered:
                        continue
                self.progressed = True
                if answer is Answer.HALVE:
                    await self._halve()
        finally:
            await self._ahead.close()
        await self._finish(State.SUCCEEDED)

    async def fail(self, error: Error) -> None:
        """End the shard FAILED, every announced object counted: what can no longer be looked at
        has failed as well."""
        if self._open is not None:
            try:
                ending = await self._work.settle(self._open)
            # A bug, too: it may be in settling that the run met it.
            except Exception as unreadable:
                why = unreadable if isinstance(unreadable, Error) else error
                ending = give_up(self._open, why)
            await self._count(self._open, ending, anyway=True)
        if self._again:
            left = _left_over(self._again)
            await self._count(left, give_up(left, error), anyway=True)
        await self._finish(State.FAILED, error)

    def close(self) -> None:
        """Close the log, and let go of the last batch: the run itself may lie about for a while."""
        self._log.close()
        self._acted, self._again, self._open = set(), Again(), None

    def _selections(self, range_: Range, cursor: Cursor) -> AsyncGenerator[Selection, None]:
        return self._work.source.read(
            self._calls,
            self._shard.bucket,
            range_,
            cursor,
            columns=self._work.columns,
            versions=self._work.transformation.versions,
            size=lambda: self._gate.batch_size,
        )

    async def _read(self) -> Prepared | None:
        """The next batch, or None at the end. Many objects that must be looked at again go alone,
        so that the size of an intent stays bounded, as do any while the store is probed; a shard
        that is to stop reads no more."""
        if self._running.stop.is_set():
            return self._work.nothing(self._cursor)
        selection = None
        probing = self._again and self._running.retries.probing
        if not probing and len(self._again) * 2 <= self._gate.batch_size:
            selection = await self._ahead.take()
        if selection is None and not self._again:
            return None
        if selection is not None and self._acted:
            selection = await self._work.refresh(selection, self._acted)
        prepared = await self._work.prepare(self._again, selection, self._cursor)
        return await self._look_on(prepared) if self._shard.dry_run else prepared

    async def _look_on(self, prepared: Prepared) -> Prepared:
        """``prepared`` and what a dry run finds behind it in DRY_BATCH_SECONDS."""
        running, clock = self._running, self._tools.clock
        began, found, bytes_found = clock.monotonic(), 0, 0
        while True:
            self._ahead.start()
            # Nothing is done to objects, but a cap of objects holds for what is looked at.
            async with self._gate.call(prepared.found, running.stop, LOOK):
                pass
            found, bytes_found = found + prepared.found, bytes_found + prepared.bytes_found
            full = clock.monotonic() - began >= DRY_BATCH_SECONDS
            if full or running.stop.is_set() or running.leave.is_set():
                break
            selection = await self._ahead.take()
            if selection is None:
                break
            prepared = await self._work.prepare(Again(), selection, self._cursor)
        return replace(prepared, found=found, bytes_found=bytes_found)

    async def _halve(self) -> None:
        """Hand half of what is left, behind what has been read ahead, to a new shard."""
        last = await self._ahead.peek()
        if last is None or self._running.stop.is_set():
            return
        keep, give, calls = await self._work.source.halve(
            self._calls, self._shard.bucket, self._range, last, calls=min(2, int(self._looks))
        )
        self._looks -= calls
        if give is None:
            self._range = keep
        elif await self._tools.database.write(shards.hand_over, self._shard, keep, give):
            self._range, self._looks = keep, FIRST_LOOKS
            await self._ahead.resume(keep, last)

    async def _announce(self, prepared: Prepared) -> Answer:
        """One checkpoint: count what is done, announce what is next."""
        packed = prepared.intent.pack() if prepared.intent is not None else None
        announcement = Announcement(
            intent=packed,
            cursor=prepared.cursor,
            found=prepared.found,
            bytes_found=prepared.bytes_found,
            halves=self._looks >= 1,
            got_on=self.progressed or self._tally.counters.done > self._shard.counters.done,
        )
        asked = self._tools.clock.monotonic()
        answer = await self._tools.database.jot(
            shards.quick_checkpoint,
            shards.checkpoint,
            self._shard,
            self._tally.counters,
            self._tally.errors,
            announcement,
            self._tools.clock.now_us(),
        )
        self._looks += LOOKS_PER_BATCH
        self._running.deadline.confirm(asked)
        telemetry.observe_checkpoint(self._tools.clock.monotonic() - asked)
        if answer is not Answer.STOP:
            self._tally.announced(prepared.found, prepared.bytes_found)
            self._open, self._again, self._cursor = prepared.intent, Again(), prepared.cursor
        return answer

    async def _count(self, intent: Intent, ending: Ending, *, anyway: bool = False) -> None:
        """Log, then count, what became of the open intent; ``anyway``: even if its log cannot be
        written, at the end of a shard that cannot go on."""
        try:
            await self._log.write(
                intent,
                ending.failures,
                ending.again.keys(),
                now_us=self._tools.clock.now_us(),
                settled=ending.looked,
            )
        except (OSError, Error) as error:
            if not anyway:
                raise
            telemetry.warning("log not written", shard=self._shard.id, why=error)
        again = set(ending.again)
        self._tally.done(intent, ending.failures, again)
        transformation, _ = self._shard.transformation
        succeeded = len(intent) - len(ending.failures.keys() | again)
        telemetry.count_objects(transformation, "succeeded", succeeded)
        telemetry.count_objects(transformation, "failed", len(ending.failures))
        self._again = next_round(intent, ending)
        if self._work.source.repeats:
            self._acted.update(intent.names)
        self._open = None

    async def _breathe(self, ending: Ending) -> None:
        """Wait before objects are tried again whose calls failed in a way that passes.

        Raises Unavailable after PATIENCE_SECONDS in which the store has answered for none.
        """
        if not ending.answered + ending.turned_away:
            return
        retries, clock = self._running.retries, self._tools.clock
        tries = max(ending.again.values(), default=0)
        retries.ended(ending.answered, ending.turned_away, tries)
        if ending.answered:
            self._answered = clock.monotonic()
        elif clock.monotonic() - self._answered > PATIENCE_SECONDS:
            raise Unavailable(f"The store of {self._shard.bucket} turns every call away.")
        pause = max(retries.pause(), ending.wait_seconds * max(1, tries))
        if ending.turned_away and pause:
            with telemetry.waiting(self._shard.store or "", "RESOURCE_EXHAUSTED"):
                await clock.wait(self._running.stop, pause)

    async def _hand_back(self) -> None:
        """Give the lease back. Where objects wait to be looked at (again), the last checkpoint
        stays as it is with its intent, which the next run settles."""
        if self._again:
            await self._tools.database.write(shards.let_go, self._shard)
        else:
            await self._tools.database.write(
                shards.hand_back, self._shard, self._tally.counters, self._tally.errors
            )

    async def _finish(self, state: State, error: Error | None = None) -> None:
        await self._tools.database.write(
            shards.finish,
            self._shard,
            self._tally.counters,
            self._tally.errors,
            state,
            self._tools.clock.now_us(),
            error,
        )


def _left_over(again: Again) -> Intent:
    return Intent(
        names=again.names,
        generations=again.generations,
        sizes=[0] * len(again),
        flags=bytes(again.flags),
    )
