"""A PostgreSQL that has the shards of a large cluster: so many workers, so many shards each, all of
them leased, as the coordinator and the planning shards would have left them."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.paired import cpu_of
from sqlalchemy import Connection, select

from longshore.database import Database, jobs, leases, shards, tables
from longshore.database.jobs import NewJob, NewPart
from longshore.model import Shard
from tests.services.postgresql import Postgresql, binaries

STORE = "main"
SHARDS_AT_ONCE = 64
"""Of each worker."""
SETTINGS = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "4GB"}
"""Whatever else is PostgreSQL's own default."""
_FORMAT = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())


class Free(NamedTuple):
    """A shard to be leased, of a job that has begun."""

    id: int
    waiting_job: None
    waiting_part: None


class Server(Postgresql):
    """One that is set up for work: it syncs what it commits, and has a gigabyte of memory."""

    def start(self) -> None:
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 {_FORMAT}"
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self.directory / "log"))

    def pids(self) -> list[int]:
        """The postmaster, and every process of the server."""
        pid = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of the whole server since its start."""
        return sum(map(cpu_of, self.pids()))

    def stay_on(self, *cores: int) -> None:
        """Run there, and all connections made from now on."""
        for pid in self.pids():
            os.sched_setaffinity(pid, cores)


@contextmanager
def server() -> Iterator[Server]:
    """A running one."""
    bin_dir = binaries()
    if bin_dir is None:
        raise SystemExit("This needs PostgreSQL's server (Debian: postgresql).")
    started = Server(bin_dir)
    try:
        started.start()
        yield started
    finally:
        started.close()


def a_job(number: int) -> NewJob:
    return NewJob(
        project="p",
        job_id=f"job-{number}",
        message=b"\0as its creator set it",
        dry_run=False,
        transformation_name="put_object_hold",
        transformation={"temporary_hold": True},
        log_states=("FAILED",),
        parts=[NewPart(bucket=f"b-{number}", source_name="prefix_list", source={"prefixes": []})],
    )


async def fill(database: Database, workers: int, at_once: int, job_count: int) -> list[Shard]:
    """Make ``job_count`` jobs, plan them and lease ``at_once`` of their shards to each worker."""
    each = -(-workers * at_once // job_count)
    for number in range(job_count):
        await database.write(jobs.create_job, a_job(number), 1)
    only_planning = {STORE: at_once}
    while planning := await database.write(leases.claim, "planner", only_planning, at_once, 2):
        for shard in planning:
            ranges = [{"after": f"{number:06d}"} for number in range(each)]
            planned = await database.write(shards.finish_plan, shard, ranges, STORE, 3)
            assert planned is not None
            await database.write(shards.let_go, planned)
    return await database.write(_lease_all, workers, at_once)


def _lease_all(connection: Connection, workers: int, at_once: int) -> list[Shard]:
    """Each worker gets some of every job, without the time that it takes to choose fairly."""
    free = select(tables.shards.c.id).where(tables.shards.c.range.is_not(None))
    ids = connection.execute(free.order_by(tables.shards.c.id)).scalars().all()
    found: list[Shard] = []
    for number in range(workers):
        owner = f"{uuid.uuid4().hex}/worker-0-{uuid.uuid4().hex[:12]}"
        mine = [Free(shard, None, None) for shard in ids[number::workers][:at_once]]
        taken = leases.take(connection, mine, 2)
        connection.execute(leases.LEASE, {"ids": [row.id for row in taken], "new_owner": owner})
        found += [shards.shard_of(row, attempt=row.attempt + 1) for row in taken]
    assert len(found) == workers * at_once, len(found)
    return found


def shared_out(all_: Sequence[Shard], among: int) -> list[list[Shard]]:
    """Each worker's shards lie together; each part has some of every worker."""
    return [list(all_[part::among]) for part in range(among)]


async def filled(url: str, workers: int, at_once: int, job_count: int) -> list[Shard]:
    """``fill`` in an empty database."""
    database = Database(url)
    try:
        await database.create()
        return await fill(database, workers, at_once, job_count)
    finally:
        await database.close()


def fill_now(url: str, workers: int, at_once: int, job_count: int) -> list[Shard]:
    return asyncio.run(filled(url, workers, at_once, job_count))
