"""The store behind a network that delays, repeats and loses; and a journal of what it did.

The store itself is the production memory store. Each call of it is one step of the simulation: what
was there before, what it did and what is there afterwards are known exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from longshore.errors import Code, DeadlineExceeded, Error, ResourceExhausted, Unavailable
from longshore.patch import load_map
from longshore.settings import Settings
from longshore.store import ABSENT, Batch, Bucket, Failure, NewObject, Outcome, Stores
from longshore.stores.memory import MemoryStore
from tests.copying_store import CopyingStore
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

FAULTS = (
    *("refused", "lost", "reply lost", "cut off", "twice", "second reply"),
    *("partial", "partial", "partial"),
)
LATE_SECONDS = 120.0
_PROCESS_LESS = Context()


def at_once(coroutine: Any) -> Any:
    """The result of a coroutine of the memory store, which only ever yields the loop."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """A call that changes objects, from the moment it is sent."""

    number: int
    process: Process
    job: int
    verb: str
    bucket: str
    names: list[str]
    generations: list[int]
    sent: float
    late: bool = False
    reported: bool = False
    in_flight: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A change of one object by a call: when, and what it adds to the counters."""

    call: int
    job: int
    time: float
    verb: str
    bucket: str
    name: str
    generation: int
    size: int
    created: int
    deleted: int
    updated: int
    late: bool


class Network:
    """Between every process and the one store."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random
        self.store = (
            CopyingStore(world.true_clock, reads=world.plan.seed % 2 == 0)
            if world.plan.copies
            else MemoryStore(world.true_clock)
        )
        self.calls: list[Call] = []
        self.effects: list[Effect] = []
        self.fault_rate = 0.0
        self.late_calls = False
        self.storm_until = 0.0
        self.met: list[str] = []
        self.script: dict[int, str] = {}  # what goes wrong with a call, by its number
        self._number = 0

    @property
    def call_seconds(self) -> float:
        """How long a caller waits, and how long a call may take until it has its effect."""
        return self.world.settings.call_seconds

    def delay(self) -> float:
        """How long something takes on its way: mostly milliseconds, seldom seconds."""
        draw = self.random.random()
        if draw < 0.9:
            return draw * 0.02
        return (draw - 0.9) * (40.0 if self.fault_rate else 1.0)

    def faulty(self, weight: float = 1.0) -> bool:
        return self.random.random() < self.fault_rate * weight

    # Reads.

    async def read(self, what: Callable[[], Any]) -> Any:
        """The result of a read: asked on the way, answered from what is there then."""
        loop = self.world.loop
        future = loop.create_future()
        fault = self.faulty(0.2) or (loop.time() < self.storm_until and self.random.random() < 0.7)

        def arrive() -> None:
            try:
                if fault:
                    raise self._read_fault()
                answer = (future.set_result, what())
            except Error as error:
                answer = (future.set_exception, error)
            later(self.delay(), settle, *answer)

        def settle(how: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                how(value)

        def later(delay: float, callback: Any, *args: Any) -> None:
            loop.call_later(delay, callback, *args, context=_PROCESS_LESS)

        later(self.delay(), arrive)
        return await future

    def _read_fault(self) -> Error:
        self.met.append("read")
        kind = self.random.choice((Unavailable, ResourceExhausted, DeadlineExceeded))
        return kind("The read came to nothing.")

    # Calls that change objects.

    async def send(
        self, process: Process, verb: str, bucket: str, batch: Batch, *args: Any, **options: Any
    ) -> Outcome:
        """The outcome of a call, as far as its sender learns of it."""
        world, loop = self.world, self.world.loop
        call = Call(
            number=len(self.calls),
            process=process,
            job=world.check_sent(process, bucket, batch.names, batch.generations),
            verb=verb,
            bucket=bucket,
            names=batch.names,
            generations=batch.generations,
            sent=loop.time(),
        )
        self.calls.append(call)
        journey = _Journey(self, call, batch, args, options)
        journey.start()
        world.happened(process, f"sent {verb}")
        return await journey.answer

    def apply(
        self, call: Call, batch: Batch, args: Any, options: Any, indexes: Sequence[int]
    ) -> dict[int, Failure]:
        """Let a call take effect on some of its objects; gives the failures by index."""
        part = batch.pick(indexes)
        if self.world.loop.time() > call.sent + self.call_seconds or call.reported:
            call.late = True
        before = self._look(call.bucket, part)
        act = getattr(self.store, call.verb)
        outcome: Outcome = at_once(act(call.bucket, part, *args, **options))
        after = self._look(call.bucket, part, live=self.world.plan.copies)
        sees = self.world.plan.change.copied and self.store.capabilities.patch_reads
        for place, index in enumerate(indexes):
            # A store that sees for itself that there is nothing to do leaves the version.
            idle = sees and before.generations[place] == after.generations[place]
            if place not in outcome.failures and not idle:
                self._note(call, batch.names[index], before, after, place)
        changed = [one for place, one in enumerate(part.names) if place not in outcome.failures]
        self.world.took_effect(call, changed)
        return {indexes[place]: failure for place, failure in outcome.failures.items()}

    def _look(self, bucket: str, part: Batch, *, live: bool = False) -> Batch:
        generations = [ABSENT] * len(part) if live else part.generations
        return at_once(
            self.store.read_objects(bucket, part.names, generations, columns=("contexts",))
        )

    def _note(self, call: Call, name: str, before: Batch, after: Batch, place: int) -> None:
        old = load_map(before.columns["contexts"][place])
        new = load_map(after.columns["contexts"][place])
        self.effects.append(
            Effect(
                call=call.number,
                job=call.job,
                time=self.world.loop.time(),
                verb=call.verb,
                bucket=call.bucket,
                name=name,
                generation=before.generations[place],
                size=before.sizes[place],
                created=len(new.keys() - old.keys()),
                deleted=len(old.keys() - new.keys()),
                updated=sum(old[key] != new[key] for key in old.keys() & new.keys()),
                late=call.late,
            )
        )


class _Journey:
    """One call on its way: to the store, perhaps twice or never, and back."""

    def __init__(self, network: Network, call: Call, batch: Batch, args: Any, options: Any) -> None:
        self.network = network
        self.call = call
        self.batch = batch
        self.args = args
        self.options = options
        self.random = network.random
        self.loop = network.world.loop
        self.answer: asyncio.Future[Outcome] = self.loop.create_future()

    def start(self) -> None:
        network = self.network
        storm = self.loop.time() < network.storm_until and self.random.random() < 0.7
        self._later(network.call_seconds, self._fail, DeadlineExceeded("No reply in time."))
        if storm:
            network.met.append("storm")
            self._later(network.delay(), self._fail, ResourceExhausted("Slow down."))
            return
        fault = network.script.pop(self.call.number, "")
        if not fault and network.faulty():
            fault = self.random.choice(FAULTS + ("late",) * 4 * network.late_calls)
            network.met.append(fault)
        self._go(fault)

    def _go(self, fault: str) -> None:
        delay = self.network.delay()
        if fault == "refused":
            self._later(delay, self._fail, Unavailable("The service is down."))
        elif fault == "late":
            self._arrive_later(self.random.uniform(0.1, LATE_SECONDS), fault)
            self._later(delay, self._fail, Unavailable("The connection was lost."))
        elif fault != "lost":
            self._arrive_later(delay, fault)
            if fault in ("twice", "second reply"):
                second = "" if fault == "second reply" else fault
                self._arrive_later(delay + self.network.delay(), second)

    def _arrive_later(self, delay: float, fault: str) -> None:
        """``delay`` is bounded by what a call may take, unless it is to be late."""
        if fault != "late":
            delay = min(delay, self.network.call_seconds - 0.01)
        number = self.network._number = self.network._number + 1
        self.call.in_flight.add(number)
        handle = self._later(delay, self._arrive, number, fault)

        def die() -> None:
            """Its sender is dead: what has been received is still done, at once, or it is not."""
            if number in self.call.in_flight and fault != "late":
                handle.cancel()
                if self.random.random() < 0.5:
                    self._arrive(number, fault)
                else:
                    self.call.in_flight.discard(number)

        self.call.process.at_death.append(die)

    def _arrive(self, number: int, fault: str) -> None:
        self.call.in_flight.discard(number)
        indexes = list(range(len(self.batch)))
        failures: dict[int, Failure] = {}
        if fault == "partial":
            indexes, failures = self._choose(indexes)
        failures |= self.network.apply(self.call, self.batch, self.args, self.options, indexes)
        if fault == "partial":
            failures |= self._forget(indexes)
        back = self.network.delay()
        if fault in ("reply lost", "second reply", "late"):
            pass
        elif fault == "cut off":
            self._later(back, self._fail, Unavailable("The connection was lost."))
        else:
            self._later(back, self._succeed, Outcome(failures=failures))
        self.network.world.happened(self.call.process, f"did {self.call.verb}")

    def _choose(self, indexes: list[int]) -> tuple[list[int], dict[int, Failure]]:
        """Some objects are not even tried."""
        done, failures = [], {}
        for index in indexes:
            if self.random.random() < 0.3:
                code = self.random.choice((Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE))
                failures[index] = Failure(code, "Slow down.")
            else:
                done.append(index)
        return done, failures

    def _forget(self, indexes: list[int]) -> dict[int, Failure]:
        """Some objects were done, and the reply does not say so."""
        return {
            index: Failure(Code.INTERNAL, "Something went wrong.")
            for index in indexes
            if self.random.random() < 0.2
        }

    def _succeed(self, outcome: Outcome) -> None:
        self.call.reported = self.call.reported or not self.answer.done()
        if not self.answer.done():
            self.answer.set_result(outcome)

    def _fail(self, error: Error) -> None:
        self.call.reported = self.call.reported or not self.answer.done()
        if not self.answer.done():
            self.answer.set_exception(error)

    def _later(self, delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        return self.loop.call_later(delay, callback, *args, context=_PROCESS_LESS)


class SimulatedStore:
    """The store as one process sees it."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process
        self.capabilities = network.store.capabilities

    async def list_objects(self, bucket: str, **options: Any) -> AsyncIterator[Batch]:
        pages: Any = self._network.store.list_objects(bucket, **options)

        def turn() -> Batch | None:
            try:
                page: Batch = at_once(anext(pages))
            except StopAsyncIteration:
                return None
            return page

        while (page := await self._network.read(turn)) is not None:
            yield page

    async def list_buckets(self) -> AsyncIterator[Bucket]:
        buckets: Any = self._network.store.list_buckets()

        def turn() -> Bucket | None:
            try:
                bucket: Bucket = at_once(anext(buckets))
            except StopAsyncIteration:
                return None
            return bucket

        while (bucket := await self._network.read(turn)) is not None:
            yield bucket
        self._network.world.happened(self._process, "listed buckets")

    async def read_objects(self, *args: Any, **options: Any) -> Batch:
        store = self._network.store
        return await self._network.read(lambda: at_once(store.read_objects(*args, **options)))

    async def read_bytes(self, *args: Any, **options: Any) -> AsyncIterator[bytes]:
        pieces: Any = self._network.store.read_bytes(*args, **options)

        def turn() -> bytes | None:
            try:
                piece: bytes = at_once(anext(pieces))
            except StopAsyncIteration:
                return None
            return piece

        while (piece := await self._network.read(turn)) is not None:
            yield piece

    async def get_bucket(self, bucket: str) -> Any:
        store = self._network.store
        return await self._network.read(lambda: at_once(store.get_bucket(bucket)))

    async def delete_objects(self, bucket: str, batch: Batch, **options: Any) -> Outcome:
        return await self._network.send(self._process, "delete_objects", bucket, batch, **options)

    async def patch_objects(self, bucket: str, batch: Batch, patch: Any, **options: Any) -> Outcome:
        return await self._network.send(
            self._process, "patch_objects", bucket, batch, patch, **options
        )

    async def rewrite_objects(self, bucket: str, batch: Batch, **options: Any) -> Outcome:
        return await self._network.send(self._process, "rewrite_objects", bucket, batch, **options)

    async def write_objects(self, bucket: str, objects: Iterable[NewObject]) -> Outcome:
        """Of a log, of which the reply may be lost."""
        network, new = self._network, list(objects)
        write = network.store.write_objects
        outcome: Outcome = await network.read(lambda: at_once(write(bucket, new)))
        network.world.happened(self._process, "wrote a log")
        if network.faulty(0.2):
            network.met.append("log's reply lost")
            raise Unavailable("The connection was lost.")
        return outcome

    async def close(self) -> None:
        """Nothing is open."""


class SimulatedStores(Stores):
    """All buckets lie in the one store, behind the network."""

    def __init__(self, settings: Settings, network: Network, process: Process) -> None:
        super().__init__(settings)
        self._one = SimulatedStore(network, process)

    def open(self, name: str) -> Any:
        return self._one
