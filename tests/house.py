"""The whole system in one process: database, stores, engine and clock, without HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from longshore.clock import SystemClock
from longshore.database import Database, leases
from longshore.database import jobs as job_statements
from longshore.database.rollup import counters_of_jobs
from longshore.database.tables import jobs
from longshore.engine.gate import BATCHES_PER_SECOND
from longshore.engine.worker import Worker
from longshore.errors import Unavailable
from longshore.model import State
from longshore.settings import Settings, StoreSettings
from longshore.store import Bucket, Stores
from tests.faults import Crash, Fate, MortalDatabase, MortalStore

BUCKET = "harbour"
STATEMENTS: dict[Any, Any] = {}
"""Compiled statements, shared by all houses: compiling them takes longer than a run."""


class FastClock(SystemClock):
    """Time that runs ``speed`` times as fast, so that nothing has to sleep."""

    def __init__(self, speed: float = 50.0) -> None:
        self._speed = speed

    def monotonic(self) -> float:
        return time.monotonic() * self._speed

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        return await super().wait(event, seconds / self._speed)


class House:
    """One service. ``crash`` kills it; ``run`` starts it (again) and waits for a job's end."""

    def __init__(
        self,
        directory: Path,
        kind: str = "memory",
        *,
        batch: int = 5,
        options: Mapping[str, Any] | None = None,
        speed: float = 50.0,
    ) -> None:
        """``options``: of the store. ``speed``: of its time; real services have their own."""
        self.settings = Settings(
            data_dir=directory,
            workers=1,
            stores={
                "main": StoreSettings(
                    name="main",
                    kind=kind,
                    buckets=("*",),
                    max_objects_per_second=float(batch * BATCHES_PER_SECOND),
                    options=options or {},
                )
            },
        )
        self.clock = FastClock(speed)
        self.fate = Fate()
        self.stores = Stores(self.settings)
        self.store = self.stores.open("main")
        self.mortal = MortalStore(self.store, self.fate)
        self.stores._open["main"] = self.mortal  # type: ignore[assignment]
        self.database = MortalDatabase(self.settings.database_path, self.fate)
        self.outside = Database(self.settings.database_path)  # of the API: it meets no boundary
        for one in (self.database, self.outside):
            for kept in (one._reader, one._writer):
                kept.engine = kept.engine.execution_options(compiled_cache=STATEMENTS)
        self._workers = 0
        self.stop = asyncio.Event()
        """Of the run that is on: set it to drain the worker."""

    async def open(self, **bucket: Any) -> None:
        await self.outside.create()
        await self.store.create_bucket(Bucket(name=BUCKET, create_time_us=0, **bucket))

    async def close(self) -> None:
        await self.database.close()
        await self.outside.close()
        await self.store.close()

    async def write(self, name: str, content: bytes = b"cargo", **metadata: Any) -> int:
        async def once() -> AsyncIterator[bytes]:
            yield content

        return await self.store.write_object(BUCKET, name, once(), **metadata)

    async def names(self, prefix: str = "", *, versions: bool = False) -> list[str]:
        pages = self.store.list_objects(BUCKET, prefix=prefix, versions=versions)
        return [name async for page in pages for name in page.names]

    async def create(
        self,
        transformation: tuple[str, dict[str, Any]],
        source: tuple[str, dict[str, Any]],
        *,
        dry_run: bool = False,
        buckets: tuple[str, ...] = (BUCKET,),
    ) -> int:
        new = job_statements.NewJob(
            project="p",
            job_id=f"job-{time.monotonic_ns()}",
            message=b"{}",
            dry_run=dry_run,
            transformation_name=transformation[0],
            transformation=transformation[1],
            log_states=("SUCCEEDED", "FAILED"),
            parts=[
                job_statements.NewPart(bucket=one, source_name=source[0], source=source[1])
                for one in buckets
            ],
        )
        now_us = self.clock.now_us()
        counted = await self.outside.write(job_statements.create_job, new, now_us)
        assert counted is not None
        return int(counted.row.id)

    async def cancel(self, job: int) -> None:
        await self.outside.write(job_statements.cancel_job, job, self.clock.now_us())

    async def job(self, job: int) -> Any:
        def read(connection: Any) -> Any:
            row = connection.execute(select(jobs).where(jobs.c.id == job)).one()
            return row, counters_of_jobs(connection, [job])[job]

        return await self.outside.read(read)

    async def run(self, job: int, *, seconds: float = 30.0) -> bool:
        """Start the service and let it run until the job has ended (True) or it died (False)."""
        self.fate.dead = False
        with suppress(Crash, Unavailable, SQLAlchemyError):
            # What a start does: the lock proves that every earlier worker is dead.
            await self.database.write(leases.release)
            self._workers += 1
            worker = Worker(
                f"worker-{self._workers}", self.settings, self.database, self.stores, self.clock
            )
            self.stop = asyncio.Event()
            running = asyncio.create_task(worker.run(self.stop))
            try:
                await self._until_ended(job, running, seconds)
            finally:
                self.stop.set()
                with suppress(Crash, Unavailable, SQLAlchemyError):
                    await running
                await asyncio.gather(*worker._tasks, return_exceptions=True)
        row, _ = await self.job(job)
        return not State(row.state).open

    async def _until_ended(self, job: int, running: asyncio.Task[None], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        state = select(jobs.c.state).where(jobs.c.id == job)
        while not running.done():
            now = await self.outside.read(lambda connection: connection.execute(state).scalar_one())
            if not State(now).open:
                return
            assert time.monotonic() < deadline, f"job {job} is still {now}"
            await asyncio.sleep(0.004)

    def records(self) -> list[dict[str, Any]]:
        """Every record of the log, in the order of writing within a shard."""
        files = sorted(self.settings.logs_dir.glob("*/*/shard-*.jsonl"))
        lines = [line for file in files for line in file.read_bytes().splitlines()]
        return [orjson.loads(line)["jsonPayload"] for line in lines]
