"""A cluster in a simulated world: two candidates, one of which coordinates, and a scheduler that
carries messages.

Candidate, Dealer and Divider are the production classes; what they have from Dask is simulated, and
each of their processes has a clock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any

from longshore import coordination, dividing, extensions
from longshore.app import PATIENCE_SECONDS
from longshore.clock import SystemClock
from longshore.coordination import Candidate
from longshore.engine.worker import Worker
from longshore.model import FORMAT
from tests.simulation.loop import Process, current_process

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.world import World

CANDIDATES = 2
AGAIN_SECONDS = 0.5
_PROCESS_LESS = Context()
_dealing = extensions.load("runners", "dask").dealing
_place = extensions.load("runners", "dask").place


class ProcessClock(SystemClock):
    """The clock of whichever process asks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _mine(self) -> SystemClock:
        process = current_process()
        assert process is not None
        return self._world.clock_of[process]

    def now_us(self) -> int:
        return self._mine().now_us()

    def monotonic(self) -> float:
        return self._mine().monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        return await self._mine().wait(event, seconds)


@contextmanager
def clocks(world: World) -> Iterator[None]:
    """Each process of the cluster goes by its own clock."""
    modules = (coordination, dividing, _dealing)
    before = [module.SYSTEM_CLOCK for module in modules]
    for module in modules:
        module.SYSTEM_CLOCK = ProcessClock(world)
    try:
        yield
    finally:
        for module, clock in zip(modules, before, strict=True):
            module.SYSTEM_CLOCK = clock


async def keep_candidate(world: World, number: int) -> None:
    """Start it whenever there is none."""
    for birth in range(1_000_000):
        process = Process(f"coordinator-{number}-{birth}")
        over = asyncio.Event()
        process.at_death.append(over.set)
        world.loop.spawn(process, _be_a_candidate(world, process))
        await over.wait()
        world.tell(f"{process.name} is dead")
        await asyncio.sleep(world.random.choice((0.1, 1.0, 10.0)))


async def _be_a_candidate(world: World, process: Process) -> None:
    world.candidates.add(process)
    clock = world.clock_of[process] = world.new_clock()
    database = world.new_database(process, clock, PATIENCE_SECONDS)
    world.settings.data_dir.mkdir(exist_ok=True)

    async def deal(term: int, over: asyncio.Event) -> None:
        world.tell(f"{process.name} coordinates: term {term}")
        world.terms[process] = term
        while not over.is_set():
            dealer = _dealing.Dealer(term, world.settings, database, Scheduler(world))
            try:
                await dealer.run(over)
            except ConnectionError as error:
                world.tell(f"{process.name} has lost the scheduler: {error}")
            await clock.wait(over, AGAIN_SECONDS)

    await Candidate(world.settings, database).run(asyncio.Event(), deal)


class Scheduler:
    """Dask, as a coordinator's client of it: what it is to tell may come late, twice or never."""

    status = "running"

    def __init__(self, world: World) -> None:
        self._world = world
        self.scheduler = self

    async def _asked(self) -> None:
        network = self._world.network
        await asyncio.sleep(network.delay())
        if network.faulty(0.02):
            raise OSError("the connection to the scheduler was lost")

    async def ncores(self) -> dict[str, int]:
        await self._asked()
        return {_address(name): 1 for name in self._world.places}

    async def identity(self) -> dict[str, Any]:
        await self._asked()
        return {"workers": {_address(one): self._told_by(one) for one in self._world.places}}

    def _told_by(self, worker: str) -> dict[str, Any]:
        reads = FORMAT - is_older(self._world.plan, worker)
        terms = _place.Terms(reads, self._world.settings.shards_at_once)
        return {"name": worker, _place.KIND: terms._asdict()}

    def submit(
        self, _carry: Any, shard: int, attempt: int, *, key: str, workers: list[str], **_: Any
    ) -> Told:
        """Have a worker told, once it is."""
        random, network = self._world.random, self._world.network
        again = random.choice((0.0, 0.1, 1.0)) if network.faulty(0.3) else None
        if not network.faulty(0.3):
            self._send(workers, lambda worker: _told(worker, shard, attempt, again))
        return Told(key)

    async def run(self, _hand_back: Any, shards: Set[tuple[int, int]], *, workers: Any) -> None:
        """Have a worker asked for leases."""
        await self._asked()

        async def asked(worker: Worker) -> None:
            worker.hand_back(shards)

        self._send(workers, asked)

    def _send(self, workers: list[str], what: Callable[[Worker], Any]) -> None:
        world = self._world

        def arrive() -> None:
            for name, (process, worker) in list(world.places.items()):
                if _address(name) in workers and not process.dead:
                    world.loop.spawn(process, what(worker))

        world.loop.call_later(world.network.delay(), arrive, context=_PROCESS_LESS)


class Told:
    """A task of Dask; nobody asks what became of it."""

    def __init__(self, key: str) -> None:
        self.key = key

    def add_done_callback(self, done: Callable[[Told], Any]) -> None:
        """Dask may forget it at any time."""
        done(self)


async def _told(worker: Worker, shard: int, attempt: int, again: float | None) -> None:
    """``again``: after how many seconds whoever waits is cancelled, and the worker told anew."""
    carried = asyncio.ensure_future(worker.carry(shard, attempt))
    await asyncio.wait({carried}, timeout=again)
    if not carried.done():
        carried.cancel()
        await asyncio.wait({carried})
        await worker.carry(shard, attempt)


def is_older(plan: Plan, name: str | None) -> bool:
    """Whether this is the worker of a longshore that cannot read what this one writes."""
    return plan.older and name is not None and name.startswith("worker-0-")


def _address(name: str) -> str:
    return f"tcp://{name}"
