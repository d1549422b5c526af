"""How long a page takes, of every kind, out of a million jobs.

    python -m bench.lists [--jobs 1000000] [--pages 40] [--databases sqlite postgresql]

From the top of the repository. Half a percent of the jobs run, each with two shards; one of them
has ten thousand, all of which have ended, or all of which are at work. The
statements and what SQLAlchemy makes of them, on one connection, without the messages and the reply;
pages follow one another by their tokens, as a client's do, and begin anew at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.api_latency import cpu_seconds
from sqlalchemy import Connection, text

from longshore.api import wire
from longshore.api.fields import job_fields, operation_fields
from longshore.api.jobs import _JOB_ORDER
from longshore.api.listing import Listing
from longshore.api.operations import _ORDER
from longshore.database import Database, lists
from longshore.database import jobs as statements
from tests.database.many_jobs import PROJECT, fill, insert
from tests.services.postgresql import running

KEY = b"k" * 32
SHARDS = 10_000
KINDS: dict[str, tuple[str, str]] = {
    "by name": ("", "name"),
    "by name, downwards": ("", "name desc"),
    "newest first": ("", "create_time desc"),
    "one state, by name": ("state:failed", "name"),
    "one state, newest first": ("state=RUNNING", "create_time desc"),
    "one state that no job has": ("state=QUEUED", "create_time"),
    "names from … to …": ("name >= job-0300000 name < job-0400000", "name"),
    "names that begin with …": ('name = "job-05*"', "name"),
    "a day, in its order": (
        "create_time > 2026-10-01T00:00:00Z AND create_time < 2026-10-02T00:00:00Z",
        "create_time",
    ),
    "a day, by name": (
        "create_time > 2026-10-01T00:00:00Z AND create_time < 2026-10-02T00:00:00Z",
        "name",
    ),
    "two states, by name": ("state:failed OR state:canceled", "name"),
    "all but one state, newest first": ("NOT state:succeeded", "create_time desc"),
    "a bare word that nothing has": ("nowhere", ""),
    "a description": ("description:number-77", "create_time"),
    "counters, of ended jobs": ("counters.failed_object_count > 90 state:failed", ""),
    "counters, of whatever": ("counters.total_object_count > 990", ""),
    "counters of what runs": ("state:running counters.total_object_count > 990", ""),
    "a hundred terms": (" OR ".join(["name:nowhere"] * 100), ""),
    "a hundred terms on counters": (" ".join(["counters.total_object_count >= 0"] * 100), ""),
    "two keys": ("", "create_time, name desc"),
}
OPERATIONS = {
    "operations": "",
    "operations that run": "done=false",
    "operations by their jobs": "metadata.job.state:failed metadata.job.description:number-7",
}


def many_shards(connection: Connection, state: str) -> None:
    """Give the first open job ten thousand shards."""
    connection.execute(text("DELETE FROM shards WHERE job = 199"))
    columns = "job, bucket_operation, state, range, cursor, store, attempt, total, succeeded"
    ends = '{"after": "logs/2026/11/25/host-0007", "before": "logs/2026/11/25/host-0008"}'
    values = f"199, 1, '{state}', '{ends}', '{ends}', 'main', 1, 1000, 1000"
    insert(connection, "shards", columns, values, SHARDS)


def analyse(connection: Connection) -> None:
    connection.execute(text("ANALYZE"))


class Times:
    """What pages take: each by the clock, and the database's CPU of all. On PostgreSQL that is its
    process's, which the kernel counts in hundredths of a second; SQLite's has Python's in it."""

    def __init__(self, connection: Connection) -> None:
        self._pid = None
        if connection.dialect.name == "postgresql":
            self._pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self._cpu = self._used()
        self._found: list[float] = []
        self._rows = 0

    def _used(self) -> float:
        return time.thread_time() if self._pid is None else cpu_seconds(self._pid)

    @contextmanager
    def one(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._found.append(1000 * (time.perf_counter() - began))

    def shown(self, rows: int) -> None:
        self._rows += rows

    def cell(self) -> str:
        cpu = 1000 * (self._used() - self._cpu) / len(self._found)
        times = sorted(self._found[1:])  # the first compiles the statement
        wall = f"{times[len(times) // 2]:.1f} / {times[int(0.99 * len(times))]:.1f}"
        return f"{cpu:.1f}, {wall} ({self._rows / len(self._found):.0f})"


def pages(
    connection: Connection, listed: Any, fields: Any, order: Any, asked: tuple[str, str]
) -> str:
    token = ""
    times = Times(connection)
    for _ in range(given.pages):
        request = SimpleNamespace(page_size=0, filter=asked[0], page_token=token)
        with times.one():
            listing = Listing.of(
                request, scope="", order_by=asked[1], order=order, fields=fields, token_key=KEY
            )
            rows = listed(connection, PROJECT, listing.page)
        times.shown(min(len(rows.rows), listing.size))
        _, token = listing.fill(rows, lambda _one: wire.Job())
    return times.cell()


def jobs_pages(connection: Connection, *asked: str) -> str:
    return pages(connection, lists.list_jobs, job_fields(PROJECT), _JOB_ORDER, asked)


def operations_pages(connection: Connection, *asked: str) -> str:
    return pages(connection, lists.list_operations, operation_fields(PROJECT), _ORDER, asked)


def get(connection: Connection) -> str:
    times = Times(connection)
    for _ in range(given.pages):
        with times.one():
            row = statements.job_by_row_id(connection, 199)
            assert row is not None
            statements.count_jobs(connection, [row])
        times.shown(1)
    return times.cell()


async def measure(database: Database) -> dict[str, str]:
    await database.create()
    await database.write(fill, given.jobs)
    await database.write(analyse)
    cells = {}
    for name, (text_, order_by) in KINDS.items():
        cells[name] = await database.read(jobs_pages, text_, order_by)
    for name, text_ in OPERATIONS.items():
        cells[name] = await database.read(operations_pages, text_, "")
    for state, said in (("SUCCEEDED", "have ended"), ("RUNNING", "are at work")):
        await database.write(many_shards, state)
        await database.write(analyse)
        cells[f"a job of {SHARDS:,} shards that {said}"] = await database.read(get)
        only = 'name = "job-0575878"'  # 199 * 7919 % 1000003
        cells[f"a list with it, which {said}"] = await database.read(jobs_pages, only, "")
    await database.close()
    return cells


def main() -> None:
    columns = {}
    with ExitStack() as stack:
        for name in given.databases:
            if name == "sqlite":
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                where: Path | str = Path(directory) / "longshore.sqlite"
            else:
                server = stack.enter_context(running())
                assert server is not None, "PostgreSQL is not installed"
                where = server.new_database()
            columns[name] = asyncio.run(measure(Database(where)))
    print(f"| ms: CPU, p50 / p99 (rows a page) | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for kind in next(iter(columns.values())):
        print(f"| {kind} | {' | '.join(one[kind] for one in columns.values())} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    given = parser.parse_args()
    main()
