"""One simulated world: processes, store, users, and what is watched after every step."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random as global_random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from longshore import database as database_module
from longshore.api.methods import Methods
from longshore.api.rest import App
from longshore.app import PATIENCE_SECONDS
from longshore.clock import SystemClock
from longshore.database import leases
from longshore.engine import gate
from longshore.engine.lease_watch import LeaseWatch
from longshore.engine.worker import Worker
from longshore.errors import Error, Unavailable
from longshore.patch import MapPatch, Patch
from longshore.settings import LogSettings, Settings, StoreSettings
from longshore.sources import prefix_list, project_source
from longshore.store import ABSENT, Bucket, NewObject
from tests.simulation import cluster
from tests.simulation.loop import Loop, Process, raise_error
from tests.simulation.machines import (
    START_US,
    Clock,
    NumberedWriting,
    Shelf,
    SimulatedDatabase,
    Trouble,
)
from tests.simulation.network import Call, Network, SimulatedStores, at_once
from tests.simulation.plan import (
    LEAST_BYTES,
    LOGS,
    NEVER,
    OUTSIDE,
    PAPERS,
    REFUSED,
    Plan,
    Row,
    draw,
)
from tests.simulation.watch import Violated, Watch

DRAIN_SECONDS = 5.0
REAP_SECONDS = 0.2
WATCH_SECONDS = 2.0
LONGEST_WITHIN_DEADLINE = 10.5
PAUSES = (3.0, 6.0, 9.0, 19.0, 22.0, 25.0, 29.0, 31.0, 33.0, 60.0)
JUMPS = (-3600.0, -40.0, 25.0, 40.0, 86400.0)
JOB_SECONDS = 3000.0
"""How long a job may take, all troubles included."""
AFTERMATH_SECONDS = 10.0
_PROCESS_LESS = Context()


class TrueClock(SystemClock):
    """The store's own clock, which is right."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        return START_US + int(self._loop.time() * 1e6)


class History:
    """Every version of every object that ever was, and who was touched by others than the job."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.sizes: dict[tuple[str, str, int], int] = {}
        self.touched: set[tuple[str, str]] = set()

    def see(self, bucket: str, names: list[str]) -> None:
        """Note the versions that there are now."""
        found = self._network.store._buckets[bucket]
        for name in names:
            for version in found.versions(name):
                self.sizes[bucket, name, version.generation] = version.size


class World:
    """Everything that a seed brings up."""

    def __init__(self, seed: int, shelf: Shelf, *, plan: Plan | None = None) -> None:
        self.plan = plan or draw(seed)
        self.random = Random(seed + 1)
        self.loop = Loop(self.random)
        self.true_clock = TrueClock(self.loop)
        self.trouble = Trouble(self.random)
        self.network = Network(self)
        self.history = History(self.network)
        self.shelf = shelf
        self.databases = shelf.databases(self.loop, self.trouble)
        self.database_of: dict[Process, SimulatedDatabase] = {}
        self.watch = Watch(self, shelf.watcher)
        self.events = 0
        self.last_event = 0.0
        self.story: list[str] = []
        self.acted: Counter[str] = Counter()
        self.expired = 0
        self.clocks: list[Clock] = []
        self.parent: Process | None = None
        self.app: Any = None
        self.workers: dict[str, tuple[Process, asyncio.Event]] = {}
        self.places: dict[str, tuple[Process, Worker]] = {}
        self.clock_of: dict[Process, Clock] = {}
        self.candidates: set[Process] = set()
        self.terms: dict[Process, int] = {}  # in which each of these last coordinated
        self.settings = Settings(
            data_dir=shelf.directory / "data",
            workers=self.plan.workers,
            lease_seconds=self.plan.lease_seconds,
            logs=LogSettings(to=f"gs://{LOGS}/of" if self.plan.log_bucket else "files"),
            stores={
                "main": StoreSettings(
                    name="main",
                    kind="memory",
                    buckets=("*",),
                    max_objects_per_second=self._cap(),
                )
            },
        )
        self.initial: dict[str, list[Any]] = {}
        self.rows: dict[str, list[Row]] = {}
        self.views: tuple[Any, Any] = (None, None)
        self.created = asyncio.Event()
        self._born = 0

    def run(self) -> None:
        """Live through it; raises Violated."""
        self.loop.on_executed = self._executed
        self.loop.latency = self._latency
        with _small_world(self.plan), cluster.clocks(self):
            self.loop.run(self._main())
        if self.loop.problems:
            raise Violated(f"unhandled: {self.loop.problems}")

    def met(self) -> Counter[str]:
        """What has come up, for a summary over many seeds."""
        met = Counter(self.acted)
        met.update(f"call {one}" for one in self.network.met)
        met.update(f"database fails at {one}" for one in self.trouble.met)
        met.update(f"ends {row['state']}" for row in self.watch.jobs.values())
        met["halvings"] = self.watch.halvings
        met["projects"] = self.plan.project
        met["stores that copy"] = self.plan.copies and self.plan.change.copied
        met["stores that see for themselves"] = met["stores that copy"] and self.plan.seed % 2 == 0
        met["logs in a bucket"] = self.plan.log_bucket
        met["clusters"] = self.plan.cluster
        met["older workers"] = self.plan.older
        met["terms"] = max(self.terms.values(), default=0)
        met["halvings of projects"] = self.watch.halvings * self.plan.project
        met["leases taken away or run out"] = self.expired
        met["late effects"] = sum(effect.late for effect in self.network.effects)
        return +met

    def digest(self) -> str:
        """The whole story as a number: the same for the same seed."""
        told = repr((self.story, self.network.effects, self.watch.final()))
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def tell(self, what: str) -> None:
        self.story.append(f"{self.loop.time():9.3f} {self.events:4} {what}")

    async def _main(self) -> None:
        self._load()
        self._keep(self._service())
        for number in range(cluster.CANDIDATES * self.plan.cluster):
            self._keep(cluster.keep_candidate(self, number))
        await self._create()
        self.network.fault_rate = self.plan.network_trouble
        self.network.late_calls = self.plan.late_calls
        self.trouble.rate = self.plan.database_trouble
        await self._until_ended()
        await asyncio.sleep(AFTERMATH_SECONDS)
        self.trouble.rate = self.network.fault_rate = 0.0
        self.views = await self._views()

    def _keep(self, coroutine: Any) -> None:
        """Run something of the world's own; what it raises ends the simulation."""
        self.loop.create_task(coroutine).add_done_callback(raise_error)

    # What there is at first.

    def _load(self) -> None:
        random, store = self.random, self.network.store
        for bucket in (*self.plan.buckets, PAPERS, *[LOGS] * self.plan.log_bucket):
            at_once(
                store.create_bucket(
                    Bucket(
                        name=bucket,
                        create_time_us=0,
                        versioning=self.plan.versioned and bucket in self.plan.buckets,
                    )
                )
            )
        for bucket in self.plan.buckets:
            names = [
                self.plan.name(random.choice(self.plan.prefixes), number)
                for number in range(self.plan.objects)
            ] + [f"{OUTSIDE}{number}" for number in range(3)]
            for name in sorted(names):
                self._put(bucket, name)
            if self.plan.manifest:
                self.rows[bucket] = self._draw_rows(bucket, names)
            self.history.see(bucket, names)
            self.initial[bucket] = self.versions(bucket)
        if self.plan.manifest:
            lines = [f"{bucket},{row}" for bucket, rows in self.rows.items() for row in rows]
            random.shuffle(lines)
            lines += ["elsewhere,a/000"]
            content = "\n".join(["bucket,name,generation", *lines]).encode()
            at_once(store.write_objects(PAPERS, [NewObject("list.csv", content)]))

    def _put(self, bucket: str, name: str) -> None:
        random, store = self.random, self.network.store
        metadata: dict[str, Any] = {}
        if random.random() < 0.5:
            metadata["contexts"] = random.choice(
                ('{"old":"x"}', '{"old":"x","team":"crane"}', '{"team":"dock","tide":"high"}')
            )
        if random.random() < 0.2:
            metadata["storage_class"] = "COLDLINE"
        if random.random() < 0.1:
            metadata["content_type"] = "text/plain"
        if self.plan.versioned and random.random() < 0.3:
            at_once(store.write_objects(bucket, [NewObject(name, b"older", metadata)]))
        if random.random() < 0.15:
            metadata["temporary_hold"] = True
        content = b"x" * random.randrange(1, 50)
        at_once(store.write_objects(bucket, [NewObject(name, content, metadata)]))

    def _draw_rows(self, bucket: str, names: list[str]) -> list[Row]:
        live = self.network.store._buckets[bucket].live
        rows: list[Row] = []
        for name in names:
            draw = self.random.random
            if name.startswith(OUTSIDE):
                continue
            if draw() < 0.9:
                rows.append(Row(name, live[name].generation if draw() < 0.2 else 0))
            if draw() < 0.1:
                rows.append(Row(f"{name}-absent", 0))
            if draw() < 0.05:
                rows.append(Row(name, NEVER))
            if draw() < 0.05:
                rows.append(Row(name, REFUSED))
            if rows and draw() < 0.08:
                rows.append(self.random.choice(rows))
        return rows or [Row(names[0], 0)]

    def versions(self, bucket: str) -> list[Any]:
        """Every version in a bucket, as plain rows."""
        found = self.network.store._buckets[bucket]
        return [
            (
                v.name,
                v.generation,
                v.metageneration,
                v.size,
                v.live,
                v.temporary_hold,
                v.contexts,
                v.content_type,
                v.custom_metadata,
                v.acl,
                v.storage_class,
            )
            for name in sorted({*found.live, *found.noncurrent})
            for v in found.versions(name)
        ]

    # The service and its workers.

    async def _service(self) -> None:
        """Start the service whenever there is none, as an operator does."""
        while True:
            parent = self.parent = Process("service")
            over = asyncio.Event()
            parent.at_death.append(over.set)
            self.loop.spawn(parent, self._serve(parent))
            await over.wait()
            self.app = None
            self.tell("service is dead")
            await asyncio.sleep(self.random.choice((0.1, 1.0, 10.0)))

    async def _serve(self, process: Process) -> None:
        clock = self.new_clock()
        database = self.new_database(process, clock, PATIENCE_SECONDS)
        await self._persist(database, leases.release)  # the lock proves that all workers are dead

        async def ready() -> Any:
            return {}

        self.app = App(Methods(database, clock), database, ready, lambda: b"")
        self.tell("service is up")
        for slot in range(self.plan.workers):
            self.loop.create_task(self._keep_worker(slot, database))
        watch = LeaseWatch(clock, self.plan.lease_seconds)
        while not self.plan.cluster:  # there who coordinates does
            await clock.wait(asyncio.Event(), WATCH_SECONDS)
            with suppress(SQLAlchemyError, Unavailable):
                for lease in watch.expired(await database.read(leases.leases)):
                    await self._expire(database, lease)

    async def _expire(self, database: SimulatedDatabase, lease: leases.Lease) -> None:
        self.tell(f"lease of shard {lease.shard} by {lease.owner} has run out")
        self.expired += 1
        if self.plan.reaps and lease.owner in self.workers:
            self.workers[lease.owner][0].kill()
        elif not self.plan.reaps:
            await database.write(_take_away, lease)

    async def _keep_worker(self, slot: int, database: SimulatedDatabase) -> None:
        deaths = 0
        while True:
            self._born += 1
            name = f"worker-{slot}-{self._born}"
            await self._run_worker(name)
            if self.plan.reaps:
                await asyncio.sleep(REAP_SECONDS)
                await self._persist(database, leases.bury, name)
            deaths += 1
            await asyncio.sleep(min(10.0, 0.1 * 2**deaths))

    async def _run_worker(self, name: str) -> None:
        process, stop = Process(name), asyncio.Event()
        over = self.loop.create_future()

        def end(*_: Any) -> None:
            if not over.done():
                over.set_result(None)
                self.workers.pop(name, None)
                self.places.pop(name, None)

        self.workers[name] = process, stop
        process.at_death.append(end)
        self.parent.at_death.append(process.kill)
        task = self.loop.spawn(process, self._work(process, stop))
        task.add_done_callback(end, context=_PROCESS_LESS)
        await over
        self.tell(f"{name} has ended")

    async def _work(self, process: Process, stop: asyncio.Event) -> None:
        clock = self.new_clock()
        database = self.new_database(process, clock, math.inf)
        stores = SimulatedStores(self.settings, self.network, process)
        dealt = self.plan.cluster
        worker = Worker(process.name, self.settings, database, stores, clock, dealt=dealt)
        self.places[process.name] = process, worker
        try:
            await worker.run(stop)
        except (Error, SQLAlchemyError) as error:
            self.tell(f"{process.name} gives up: {error!r:.100}")
            raise Violated(f"{process.name} gave up: {error!r}") from error
        process.kill()

    async def _persist(self, database: SimulatedDatabase, *call: Any) -> None:
        while True:
            try:
                await database.write(*call)
            except (SQLAlchemyError, Unavailable):
                await asyncio.sleep(1.0)
            else:
                return

    def new_database(self, process: Process, clock: Clock, patience: float) -> SimulatedDatabase:
        """The database as a process sees it."""
        database = self.database_of[process] = next(self.databases)
        database.belong(clock, patience)
        return database

    def new_clock(self) -> Clock:
        """A process's own."""
        # What a worker knows of its part of a cap is good for a second only.
        sluggish = 2.0 if self.plan.capped else self.plan.sluggish
        idle_at_most = 0.4 if self.plan.capped else 5.0
        clock = Clock(
            self.loop,
            self.random,
            sluggish=sluggish,
            idle=lambda: min(idle_at_most, self._idle()),
        )
        self.clocks.append(clock)
        return clock

    def _cap(self) -> float | None:
        return float(self.plan.batch * gate.BATCHES_PER_SECOND) if self.plan.capped else None

    def _idle(self) -> float:
        return self.loop.time() - self.last_event

    def _latency(self) -> float:
        draw = self.random.random()
        return draw * 0.01 if draw < 0.97 else (draw - 0.97) * 40

    # The user at the API.

    async def rest(self, verb: str, path: str, body: Any = None, query: str = "") -> Any:
        """Status and JSON of a request; raises ConnectionError if the service is not there."""
        parent, app = self.parent, self.app
        if app is None or parent is None or parent.dead:
            raise ConnectionError
        reply = self.loop.create_future()

        def broken() -> None:
            if not reply.done():
                reply.set_exception(ConnectionError())

        parent.at_death.append(broken)
        scope = {
            "type": "http",
            "method": verb,
            "path": path,
            "raw_path": quote(path, safe="/:").encode(),
            "query_string": query.encode(),
            "headers": [],
        }
        content = orjson.dumps(body) if body is not None else b""
        if content:
            scope["headers"] = [(b"content-length", b"%d" % len(content))]

        async def receive() -> Any:
            return {"type": "http.request", "body": content, "more_body": False}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def serve() -> None:
            await app(scope, receive, send)
            if not reply.done():
                reply.set_result((sent[0]["status"], orjson.loads(sent[1]["body"])))

        self.loop.spawn(parent, serve())
        return await reply

    async def insist(self, *request: Any, **options: Any) -> Any:
        """The same, again and again until there is an answer that is no failure of the service."""
        while True:
            with suppress(ConnectionError):
                status, answer = await self.rest(*request, **options)
                if status < 500:
                    return status, answer
            await asyncio.sleep(0.3)

    JOBS = "/v1/projects/p/locations/global/jobs"
    job = f"{JOBS}/job"

    async def _create(self) -> None:
        plan = self.plan
        source: Any = {"prefixList": {"includedObjectPrefixes": list(plan.prefixes)}}
        if plan.manifest:
            source = {"manifest": {"manifestLocation": f"gs://{PAPERS}/list.csv"}}
        chosen: Any = {
            "bucketList": {"buckets": [{"bucket": bucket, **source} for bucket in plan.buckets]}
        }
        if plan.project:
            names = " || ".join(f"name.startsWith('{prefix}')" for prefix in plan.prefixes)
            chosen = {
                "projectSource": {
                    "project": "projects/p",
                    "bucketFilters": {"expression": f"name in {list(plan.buckets)}"},
                    "objectFilters": {"expression": f"!(size < {LEAST_BYTES}) && ({names})"},
                }
            }
        body = {
            **chosen,
            "loggingConfig": {
                "logActions": ["TRANSFORM"],
                "logActionStates": ["SUCCEEDED", "FAILED"],
            },
            "dryRun": plan.dry_run,
            **plan.change.message,
        }
        request_id = f"00000000-0000-4000-8000-{plan.seed:012d}"
        query = f"jobId=job&requestId={request_id}"
        status, answer = await self.insist("POST", self.JOBS, body, query)
        if status != 200:
            raise Violated(f"create: {status} {answer}")
        again = await self.insist("POST", self.JOBS, body, query)
        if again[0] != 200 or again[1]["name"] != answer["name"]:
            raise Violated(f"created twice: {again}")
        self.operation = "/v1/" + answer["name"]
        self.created.set()

    async def _cancel(self) -> None:
        await self.created.wait()
        way = self.random.choice((self.job, self.operation))
        status, answer = await self.insist("POST", way + ":cancel", {})
        self.tell(f"cancelled: {status}")
        if status not in (200, 400):
            raise Violated(f"cancel: {status} {answer}")

    async def _until_ended(self) -> None:
        end = self.loop.time() + JOB_SECONDS
        while not self.watch.ended:
            if self.loop.time() > end:
                raise Violated("the job does not come to its end")
            await asyncio.sleep(1.0)
            if self.loop.time() > 120.0:
                self.trouble.rate = self.network.fault_rate = 0.0

    async def _views(self) -> tuple[Any, Any]:
        _, job = await self.insist("GET", self.job)
        _, operation = await self.insist("GET", self.operation)
        return job, operation

    # What happens, and what is then to go wrong.

    def _executed(self, process: Process | None) -> None:
        if process is None:
            return
        asked = self.database_of[process].asked
        if self.watch.changed(process, asked):
            self.happened(process, "database")

    def happened(self, process: Process, what: str) -> None:
        """One of the moments at which things can go wrong with something else to be found after."""
        self.events += 1
        self.last_event = self.loop.time()
        self.tell(f"{process.name}: {what}")
        for action in self.plan.agenda.get(self.events, ()):
            self._act(action, process)

    def _act(self, action: str, process: Process) -> None:
        random = self.random
        self.tell(f"--- {action} ({process.name})")
        self.acted[action] += 1
        if action == "crash":
            process.kill()
        elif action == "pause":
            self._pause(process, random.choice(PAUSES))
        elif action == "pause long":
            self._pause(process, 2 * self.plan.lease_seconds)
        elif action == "outlive lease":  # and come back while somebody else has just begun
            self._pause(process, self.plan.lease_seconds + random.uniform(3.0, 8.0))
        elif action == "clock":
            self._jump(random.choice(JUMPS))
        elif action == "clock ahead and pause":
            # Within its deadline; to a wall clock its lease has run out since it was seen.
            self._pause(process, LONGEST_WITHIN_DEADLINE)
            jump = self.plan.lease_seconds + 10.0
            self.loop.call_later(WATCH_SECONDS + 0.5, self._jump, jump, context=_PROCESS_LESS)
        elif action == "clock back and pause":
            # Past its deadline; to a wall clock no time has passed.
            self._pause(process, random.choice((19.0, 22.0, 25.0, 29.0)))
            self._jump(-3600.0)
        elif action == "crash all":
            if self.parent is not None:
                self.parent.kill()
        elif action == "drain":
            self._drain(process)
        elif action == "storm":
            self.network.storm_until = self.loop.time() + random.uniform(1.0, 40.0)
        elif action == "cancel":
            self._keep(self._cancel())
        elif action == "user":
            self._meddle()

    def _pause(self, process: Process, seconds: float) -> None:
        process.paused_until = self.loop.time() + seconds

    def _jump(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.jump(seconds)

    def _drain(self, process: Process) -> None:
        """SIGTERM, and SIGKILL if that does not help in time."""
        found = self.workers.get(process.name)
        if found is not None:
            found[1].set()
            self.loop.call_later(DRAIN_SECONDS, process.kill, context=_PROCESS_LESS)

    def _meddle(self) -> None:
        random, store = self.random, self.network.store
        bucket = random.choice(self.plan.buckets)
        number = random.randrange(self.plan.objects + 5)
        name = self.plan.name(random.choice(self.plan.prefixes), number)
        self.history.touched.add((bucket, name))
        action = random.randrange(5)
        with suppress(Error):  # a hold: users are refused, too
            if action <= 1:
                metadata = {"storage_class": "COLDLINE"} if random.random() < 0.3 else {}
                content = b"y" * random.randrange(1, 50)
                at_once(store.write_objects(bucket, [NewObject(name, content, metadata)]))
            else:
                there = at_once(store.read_objects(bucket, [name], [ABSENT]))
                if not there.generations[0]:
                    return
                if action == 2:
                    at_once(store.delete_objects(bucket, there, permanent=False))
                elif action == 3:
                    patch = Patch(content_language="de", temporary_hold=False)
                    at_once(store.patch_objects(bucket, there, patch))
                else:
                    team = random.choice(("dock", "crane"))
                    patch = Patch(contexts=MapPatch(updates={"team": team}))
                    at_once(store.patch_objects(bucket, there, patch))
        self.history.see(bucket, [name])

    # What the network asks.

    def check_sent(
        self, process: Process, bucket: str, names: list[str], generations: list[int]
    ) -> int:
        """The job of a call that is being sent; raises Violated if it may not be."""
        try:
            return self.watch.check_sent(process, bucket, names, generations)
        except Violated as violated:
            self.loop.fail(violated)
            raise

    def took_effect(self, call: Call, names: list[str]) -> None:
        """A call has changed these objects."""
        self.history.see(call.bucket, names)
        if call.late:
            self.history.touched.update((call.bucket, name) for name in names)
        elif names and call.job in self.watch.ended:
            raise Violated(f"call {call.number} took effect after the job's end")


@contextmanager
def _small_world(plan: Plan) -> Iterator[None]:
    """What the whole process has only one of, as a simulation needs it."""
    logger = logging.getLogger("longshore")
    state, level = global_random.getstate(), logger.level
    open_source, writing = prefix_list.open_source, database_module.Writing
    page_size = project_source.PAGE_SIZE
    batch_size = gate.PAGE_SIZE
    global_random.seed(plan.seed)  # of the jitter of delays
    logger.setLevel(logging.CRITICAL + 1)
    prefix_list.open_source = lambda data: replace(open_source(data), worth_names=3)
    gate.PAGE_SIZE = plan.batch  # how many objects are done at a time
    project_source.PAGE_SIZE = 7
    database_module.Writing = NumberedWriting
    try:
        yield
    finally:
        prefix_list.open_source, database_module.Writing = open_source, writing
        project_source.PAGE_SIZE = page_size
        gate.PAGE_SIZE = batch_size
        logger.setLevel(level)
        global_random.setstate(state)


_TAKE_AWAY = text(
    "UPDATE shards SET owner = NULL"
    " WHERE id = :shard AND attempt = :attempt AND owner = :owner AND checkpoint = :checkpoint"
)


def _take_away(connection: Any, lease: leases.Lease) -> None:
    """What a coordinator does that cannot end a worker: nothing but the lease is taken."""
    connection.execute(_TAKE_AWAY, lease._asdict())
