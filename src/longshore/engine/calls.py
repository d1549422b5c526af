"""The stores as one shard may use them: every call in its turn, in time, and measured.

A *call* is a request to a store. What is true of all calls is done here: they wait for what the
store and its caps allow; those that change objects are not sent past the shard's deadline, or once
it is to stop; how long they took and how they ended is fed back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

from longshore import telemetry
from longshore.clock import Clock
from longshore.engine.gate import Call, Gate
from longshore.engine.limits import Limits
from longshore.engine.retry import ANSWERED_SECONDS, PRESSURE, READ_TRIES, delay
from longshore.engine.running import Running
from longshore.errors import Code, Error
from longshore.patch import Patch
from longshore.store import (
    PAGE_SIZE,
    UNSENT,
    Batch,
    Bucket,
    Capabilities,
    Outcome,
    Store,
    Stores,
    TakesTurns,
    Turns,
)

T = TypeVar("T")


class Calls:
    """Gives the stores of a shard's buckets, each behind its gate."""

    def __init__(self, stores: Stores, limits: Limits, running: Running, clock: Clock) -> None:
        self._stores = stores
        self._limits = limits
        self._running = running
        self._clock = clock

    def for_bucket(self, bucket: str) -> Store:
        """The store that serves ``bucket``, as far as the engine and sources need one."""
        return self._called(self._stores.name_for(bucket), bucket)

    async def buckets(self) -> AsyncIterator[Bucket]:
        """Every bucket of every store, of those that serve it."""
        for name in self._stores.names():
            listed = self._called(name, "").list_buckets()
            async with aclosing(cast("AsyncGenerator[Bucket, None]", listed)) as buckets:
                async for bucket in buckets:
                    if self._stores.name_for(bucket.name) == name:
                        yield bucket

    def gate(self, bucket: str) -> Gate:
        """Where this shard's calls to ``bucket`` wait."""
        return self._gate(self._stores.name_for(bucket), bucket)

    def _gate(self, name: str, bucket: str) -> Gate:
        can = self._stores.open(name).capabilities
        # A shard is a range of names, or the rows of a manifest that may well be one.
        shard = self._running.shard.id if can.by_range else None
        return self._limits.gate(name, bucket, shard=shard, ramp=can.ramp)

    def _called(self, name: str, bucket: str) -> Store:
        store = self._stores.open(name)
        turns = EngineTurns(name, self._gate(name, bucket), self._running, self._clock)
        if isinstance(store, TakesTurns):
            return store.by_turns(turns)
        return cast("Store", Called(store, turns))


class EngineTurns:
    """The turns of one shard's requests to one bucket."""

    def __init__(self, store: str, gate: Gate, running: Running, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._gate = gate
        self._running = running
        # Reads are not given up: what has been announced can only be settled by looking.
        self._never = asyncio.Event()

    @property
    def at_once(self) -> int:
        return self._gate.room

    def read(self, verb: str) -> EngineTurn:
        """The turn of a request that changes nothing."""
        return EngineTurn(self, self._gate, 0, self._never, verb)

    def change(self, verb: str, objects: int = 1) -> EngineTurn:
        """The turn of a request that changes so many objects."""
        running = self._running
        return EngineTurn(self, self._gate, objects, running.stop, verb, running)

    async def again(self, code: Code, tries: int) -> bool:
        """Whether a read that was turned away is to be made again, after a pause: while the store
        answers others, and the shard need not stop."""
        silent = self.clock.monotonic() - self._gate.estimate.answered
        if code not in PRESSURE or tries > READ_TRIES or silent > ANSWERED_SECONDS:
            return False
        return not await self.clock.wait(self._running.stop, delay(tries))


class EngineTurn(Call):
    """One turn: waits at the gate, is not given past the shard's deadline, and is measured."""

    __slots__ = ("_changing", "_turns")

    def __init__(
        self,
        turns: EngineTurns,
        gate: Gate,
        objects: int,
        stop: asyncio.Event,
        verb: str,
        changing: Running | None = None,
    ) -> None:
        super().__init__(gate, objects, stop, verb)
        self._turns = turns
        self._changing = changing

    async def __aenter__(self) -> EngineTurn:
        if not self.begin():
            await self.wait()
        if self.permitted and self._changing is not None:
            try:
                self._changing.deadline.check()
            except BaseException as late:
                super().leave(late)  # it was not sent, so there is nothing to measure
                raise
            self._changing.sending += 1
        return self

    def leave(self, error: BaseException | None) -> None:
        if self.permitted:
            failed = error.code.name if isinstance(error, Error) else "OK"
            seconds = self._turns.clock.monotonic() - self.began
            telemetry.count_call(self._turns.store, self.verb, failed, seconds)
            if self._changing is not None:
                self._changing.sending -= 1
        super().leave(error)


class Called:
    """A store each of whose calls is one request, in its turn."""

    def __init__(self, store: Store, turns: Turns) -> None:
        self._store = store
        self._turns = turns

    @property
    def capabilities(self) -> Capabilities:
        return self._store.capabilities

    async def get_bucket(self, bucket: str) -> Bucket:
        return await self._read("get_bucket", lambda: self._store.get_bucket(bucket))

    async def list_buckets(self) -> AsyncIterator[Bucket]:
        """Each bucket is a call: of the stores there are, one must look into each."""
        listed = self._store.list_buckets()
        async with aclosing(cast("AsyncGenerator[Bucket, None]", listed)) as buckets:
            while bucket := await self._read("list_buckets", lambda: anext(buckets, None)):
                yield bucket

    async def list_objects(
        self, bucket: str, *, page_size: int = PAGE_SIZE, **options: Any
    ) -> AsyncIterator[Batch]:
        """Each page is a call."""
        pages = self._store.list_objects(bucket, page_size=page_size, **options)
        async with aclosing(cast("AsyncGenerator[Batch, None]", pages)) as batches:
            while True:
                page = await self._read("list_objects", lambda: anext(batches, None))
                if page is None:
                    return
                yield page

    async def read_objects(
        self,
        bucket: str,
        names: Sequence[str],
        generations: Sequence[int],
        *,
        columns: Sequence[str] = (),
    ) -> Batch:
        return await self._read(
            "read_objects",
            lambda: self._store.read_objects(bucket, names, generations, columns=columns),
        )

    async def read_bytes(
        self, bucket: str, name: str, generation: int = 0, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        pieces = self._store.read_bytes(bucket, name, generation, start=start)
        async with aclosing(cast("AsyncGenerator[bytes, None]", pieces)) as content:
            while piece := await self._read("read_bytes", lambda: anext(content, b"")):
                yield piece

    async def delete_objects(self, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
        return await self._change(
            "delete_objects",
            batch,
            lambda part: self._store.delete_objects(bucket, part, permanent=permanent),
        )

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        return await self._change(
            "patch_objects",
            batch,
            lambda part: self._store.patch_objects(
                bucket, part, patch, match_metageneration=match_metageneration
            ),
        )

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        return await self._change(
            "rewrite_objects",
            batch,
            lambda part: self._store.rewrite_objects(
                bucket, part, storage_class=storage_class, kms_key=kms_key
            ),
        )

    async def _read(self, verb: str, send: Callable[[], Awaitable[T]]) -> T:
        async with self._turns.read(verb):
            return await send()

    async def _change(
        self, verb: str, batch: Batch, send: Callable[[Batch], Coroutine[Any, Any, Outcome]]
    ) -> Outcome:
        async with self._turns.change(verb, len(batch)) as turn:
            if not turn.permitted:
                return Outcome(failures=dict.fromkeys(range(len(batch)), UNSENT))
            outcome = await send(batch)
            worst = _worst(outcome)
            if worst is not None:
                turn.ended(worst)
            return outcome


def _worst(outcome: Outcome) -> Code | None:
    """The code by which a store says, of some objects, that it has too much to do."""
    for failure in outcome.failures.values():
        busy = failure.code in {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}
        if busy and not failure.wait_seconds:
            return failure.code
    return None
