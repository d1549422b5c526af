"""What the engine costs: CPU per object by transformation, of an intent, and of a checkpoint.

    python bench/engine.py [--objects N] [--repeat N] [--stores memory local] [--cases hold ...]

Runs worker, database and store in this process, as a worker process does, without HTTP. A run is
a job over all objects of a bucket in batches of 1,000, with SQLite at synchronous=FULL. CPU is
user + system of all threads. "Engine" is all that is not spent in the store. The memory store runs
in the event loop's thread, so its time is taken within the same run; for the local store, which
has threads of its own, the same calls without an engine are measured next to each run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import inspect
import random
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import uvloop

from longshore import extensions
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, leases, shards
from longshore.database import jobs as job_statements
from longshore.engine.intent import NEEDED, Intent
from longshore.engine.worker import Worker
from longshore.model import Counters, State
from longshore.settings import Settings, StoreSettings
from longshore.store import Bucket, NewObject, Store, Stores

BUCKET = "harbour"
BATCH = 1_000
LOGGED = ("SUCCEEDED", "FAILED")
GOAL_US = 1.5  # what the design allows the engine, µs an object
DRY_RUN_GOAL_US = 0.6
LOG_GOAL_US = 2.5  # engine and log together
# Asked by hand: a statement of the database's would cost as much as a batch.
_ENDED = "SELECT state, total, succeeded FROM jobs WHERE id = ?"
_number = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A transformation. Its ``variants`` take turns, so that each run changes every object."""

    transformation: str
    variants: Sequence[Mapping[str, Any]]
    dry_run: bool = False

    @property
    def consumes(self) -> bool:
        return self.transformation == "delete_object"


def _metadata(team: str) -> dict[str, Any]:
    return {"cache_control": f"max-age={len(team)}", "custom_metadata": {"team": team}}


def _contexts(team: str) -> dict[str, Any]:
    return {"updates": {"team": team}, "removals": [], "clear": False}


def _class(name: str) -> dict[str, Any]:
    return {"storage_class": name, "kms_key": ""}


_HOLDS = [{"temporary_hold": True}, {"temporary_hold": False}]
CASES = {
    "dry run": Case(transformation="put_object_hold", variants=_HOLDS[:1], dry_run=True),
    "hold": Case(transformation="put_object_hold", variants=_HOLDS),
    "metadata": Case(
        transformation="put_metadata", variants=[_metadata("red"), _metadata("green")]
    ),
    "contexts": Case(
        transformation="update_object_custom_context", variants=[_contexts("a"), _contexts("b")]
    ),
    "rewrite": Case(
        transformation="rewrite_object", variants=[_class("NEARLINE"), _class("COLDLINE")]
    ),
    "delete": Case(transformation="delete_object", variants=[{"permanent": True}]),
}


class _Steps:
    """Runs a coroutine and counts this thread's CPU while it does, not while it waits."""

    seconds = 0.0

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        while True:
            began = time.thread_time()
            try:
                waited_for = self._coroutine.send(None)
            except StopIteration as end:
                return end.value
            finally:
                _Steps.seconds += time.thread_time() - began
            yield waited_for


class _Metered:
    """A store whose calls are counted by _Steps."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if inspect.iscoroutinefunction(attribute):
            return lambda *args, **options: _Steps(attribute(*args, **options))
        if inspect.isasyncgenfunction(attribute):
            return lambda *args, **options: _pages(attribute(*args, **options))
        return attribute


async def _pages(pages: Any) -> AsyncIterator[Any]:
    nothing = object()
    while (page := await _Steps(_next(pages, nothing))) is not nothing:
        yield page


async def _next(pages: Any, nothing: object) -> Any:
    return await anext(pages, nothing)


class _MeteredStores(Stores):
    """Opens stores that are metered."""

    def open(self, name: str) -> Any:
        return _Metered(super().open(name))


@dataclass(slots=True, kw_only=True)
class Bench:
    """A service without HTTP and processes, over a bucket of ``objects`` objects."""

    settings: Settings
    database: Database
    stores: Stores
    store: Store
    objects: int

    @staticmethod
    async def open(directory: Path, kind: str, objects: int) -> Bench:
        store = StoreSettings(name="main", kind=kind, buckets=("*",))
        settings = Settings(data_dir=directory, workers=1, stores={"main": store})
        stores = _MeteredStores(settings) if kind == "memory" else Stores(settings)
        database = Database(settings.database_path)
        await database.create()
        bench = Bench(
            settings=settings,
            database=database,
            stores=stores,
            store=stores.open("main"),
            objects=objects,
        )
        await bench.store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
        await bench.fill()
        return bench

    async def close(self) -> None:
        await self.stores.close()
        await self.database.close()

    async def fill(self) -> None:
        names = islice(log_names(), self.objects)
        while part := [NewObject(name=name, content=b"cargo") for name in islice(names, BATCH)]:
            outcome = await self.store.write_objects(BUCKET, part)
            assert not outcome.failures
        # The collector of a worker does not walk over a store that lies in memory.
        gc.collect()
        gc.freeze()

    async def run_engine(
        self, case: Case, variant: Mapping[str, Any], log: Sequence[str]
    ) -> tuple[float, float]:
        """CPU seconds of a job, from its creation to its end, and those in the store where it is
        metered."""
        before = _Steps.seconds
        worker = Worker(
            f"worker-{next(_number)}", self.settings, self.database, self.stores, SYSTEM_CLOCK
        )
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        began = time.process_time()
        made = await self.database.write(
            job_statements.create_job, _new_job(case, variant, log), SYSTEM_CLOCK.now_us()
        )
        with contextlib.closing(sqlite3.connect(self.settings.database_path)) as watch:
            while True:
                await asyncio.sleep(0.02)
                row = watch.execute(_ENDED, (made.row.id,)).fetchone()
                if not State(row[0]).open:
                    break
        seconds = time.process_time() - began
        stop.set()
        await running
        done = 0 if case.dry_run else self.objects
        assert row == (State.SUCCEEDED.value, self.objects, done), row
        return seconds, _Steps.seconds - before

    async def run_store(self, case: Case, variant: Mapping[str, Any]) -> float:
        """CPU seconds of the calls to the store that such a job makes."""
        module = extensions.load("transformations", case.transformation)
        transformation = module.open_transformation(variant)
        columns = () if case.dry_run else transformation.columns
        done = 0
        began = time.process_time()
        pages = self.store.list_objects(
            BUCKET, versions=transformation.versions, columns=(*columns, "live"), page_size=BATCH
        )
        async for page in pages:
            if not case.dry_run:
                outcome = await transformation.act(self.store, BUCKET, page)
                assert not outcome.failures
            done += len(page)
        seconds = time.process_time() - began
        assert done == self.objects
        return seconds


def _new_job(
    case: Case, variant: Mapping[str, Any], log: Sequence[str] = ()
) -> job_statements.NewJob:
    part = job_statements.NewPart(
        bucket=BUCKET, source_name="prefix_list", source={"prefixes": [""]}
    )
    return job_statements.NewJob(
        project="bench",
        job_id=f"job-{next(_number)}",
        message=b"{}",
        dry_run=case.dry_run,
        transformation_name=case.transformation,
        transformation=variant,
        log_states=log,
        parts=[part],
    )


async def measure_case(bench: Bench, case: Case, repeat: int) -> dict[str, list[float]]:
    """µs an object of each run, by what was run; the kinds of run take turns."""
    variants = cycle(case.variants)
    metered = isinstance(bench.store, _Metered)
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeat):
        apart = 0.0
        if not metered:
            apart = await bench.run_store(case, next(variants))
            await _refill(bench, case)
        # A dry run attempts nothing, so there is nothing to log.
        for name, log in (("engine", ()), ("logged", LOGGED))[: 1 if case.dry_run else 2]:
            total, inside = await bench.run_engine(case, next(variants), log)
            store = inside if metered else apart
            figures[name].append((total - store) / bench.objects * 1e6)
            if name == "engine":
                figures["total"].append(total / bench.objects * 1e6)
                figures["store"].append(store / bench.objects * 1e6)
            await _refill(bench, case)
    return figures


async def _refill(bench: Bench, case: Case) -> None:
    if case.consumes:
        await bench.fill()


async def measure_store(kind: str, cases: Sequence[str], objects: int, repeat: int) -> None:
    print(f"\n{kind} store, µs of CPU an object, minimum (median) of {repeat} runs:\n")
    print("| job | total | store | engine | of its goal | engine with log | of its goal |")
    print("|---|---|---|---|---|---|---|")
    for name in cases:
        with tempfile.TemporaryDirectory() as directory:
            bench = await Bench.open(Path(directory), kind, objects)
            figures = await measure_case(bench, CASES[name], repeat)
            await bench.close()
        print(_row(name, figures), flush=True)


def _row(name: str, figures: Mapping[str, list[float]]) -> str:
    goal = DRY_RUN_GOAL_US if CASES[name].dry_run else GOAL_US
    cells = [_cell(figures[kind]) for kind in ("total", "store", "engine")]
    cells.append(_cell(figures["engine"], goal))
    if "logged" in figures:
        cells += [_cell(figures["logged"]), _cell(figures["logged"], LOG_GOAL_US)]
    else:
        cells += ["-", "-"]
    return f"| {name} | {' | '.join(cells)} |"


def _cell(figures: Sequence[float], unit: float = 1.0) -> str:
    return f"{min(figures) / unit:.2f} ({statistics.median(figures) / unit:.2f})"


def log_names() -> Iterator[str]:
    """Names of 60 bytes, in order."""
    for number in count():
        yield f"logs/2026/11/24/eu-west-1/host-{number // 10_000:06d}/access-{number:08d}.log.gz"


def uuid_names() -> Iterator[str]:
    choose = random.Random(1)
    yield from sorted(str(uuid.UUID(int=choose.getrandbits(128))) for _ in range(BATCH))


def long_names() -> Iterator[str]:
    """Names of 1,024 bytes of which half are as random as can be: the most that compress badly."""
    choose = random.Random(1)
    yield from sorted(choose.randbytes(512).hex() for _ in range(BATCH))


def an_intent(names: Iterator[str]) -> Intent:
    """A batch that was written within a day, in an order that is not the names'."""
    choose = random.Random(2)
    first = 1_795_000_000_000_000
    return Intent(
        names=list(islice(names, BATCH)),
        generations=[first + choose.randrange(24 * 3600 * 1_000_000) for _ in range(BATCH)],
        sizes=[choose.randrange(1, 1 << 20) for _ in range(BATCH)],
        flags=bytes([NEEDED]) * BATCH,
    )


def measure_intents(repeat: int) -> None:
    print(f"\nIntents of {BATCH:,} objects; CPU: minimum (median) of {repeat} times 100:\n")
    print("| names | bytes an object | pack, µs an object | unpack, µs an object |")
    print("|---|---|---|---|")
    kinds = {
        "log files, 60 bytes": log_names(),
        "UUIDs, 36 bytes": uuid_names(),
        "random hex, 1,024 bytes": long_names(),
    }
    for kind, names in kinds.items():
        intent = an_intent(names)
        packed = intent.pack()
        pack = _cpu(intent.pack, repeat)
        unpack = _cpu(lambda packed=packed: Intent.unpack(packed), repeat)
        print(f"| {kind} | {len(packed) / BATCH:.1f} | {pack} | {unpack} |")


def _cpu(call: Callable[[], object], repeat: int) -> str:
    figures = []
    for _ in range(repeat):
        began = time.process_time()
        for _ in range(100):
            call()
        figures.append((time.process_time() - began) / 100 / BATCH * 1e6)
    return f"{min(figures):.2f} ({statistics.median(figures):.2f})"


async def measure_checkpoints(repeat: int) -> None:
    print(f"\nA checkpoint, µs; minimum (median) of {repeat} times 200:\n")
    print("| intent | CPU | wall clock |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory) / "longshore.sqlite")
        await database.create()
        shard = await _a_shard(database)
        for kind, names in (("log files", log_names()), ("UUIDs", uuid_names())):
            packed = an_intent(names).pack()
            cursor = {"after": "logs/2026", "generation": None}
            announcement = shards.Announcement(
                intent=packed, cursor=cursor, found=BATCH, bytes_found=0
            )
            cpu, wall = [], []
            for _ in range(repeat):
                began, began_wall = time.process_time(), time.monotonic()
                for _ in range(200):
                    await database.jot(
                        *(shards.quick_checkpoint, shards.checkpoint),
                        *(shard, Counters(), {}, announcement, 0),
                    )
                cpu.append((time.process_time() - began) / 200 * 1e6)
                wall.append((time.monotonic() - began_wall) / 200 * 1e6)
            name = f"{kind}, {len(packed):,} bytes"
            middle = [f"{min(one):.0f} ({statistics.median(one):.0f})" for one in (cpu, wall)]
            print(f"| {name} | {' | '.join(middle)} |")
        await database.close()


async def _a_shard(database: Database) -> Any:
    case = CASES["hold"]
    await database.write(job_statements.create_job, _new_job(case, case.variants[0]), 0)
    (planning,) = await database.write(leases.claim, "bench", {}, 1, 0)
    shard = await database.write(shards.finish_plan, planning, [{"prefix": ""}], "main", 0)
    assert shard is not None
    return shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--stores", nargs="*", default=["memory", "local"])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    given = parser.parse_args()
    measure_intents(given.repeat)
    uvloop.run(measure_checkpoints(given.repeat))
    for kind in given.stores:
        uvloop.run(measure_store(kind, given.cases, given.objects, given.repeat))


if __name__ == "__main__":
    main()
