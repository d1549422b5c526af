"""How long a page takes, of every kind, out of a million jobs.

    python -m bench.lists [--jobs 1000000] [--pages 40] [--databases sqlite postgresql]

From the top of the repository. Half a percent of the jobs run, each with two shards; one of them
has ten thousand, all of which have ended, or all of which are at work. Wall clock of the statements
with what SQLAlchemy makes of them, on one connection, without the messages and the reply; pages
follow one another by their tokens, as a client's do, and begin anew at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, text

from longshore.api import messages, wire
from longshore.api.fields import job_fields, operation_fields
from longshore.api.jobs import _JOB_ORDER
from longshore.api.listing import Listing
from longshore.api.operations import _ORDER
from longshore.database import Database, lists
from longshore.database import jobs as statements
from tests.services.postgresql import running

KEY = b"k" * 32
PROJECT = "p"
SHARDS = 10_000
MINUTE_US = 60_000_000
START_US = 1_788_220_800_000_000
NUMBERS = (
    "WITH RECURSIVE numbers(n) AS"
    " (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
)
STATE = """CASE WHEN n % 200 = 199 THEN 'RUNNING' WHEN n % 100 = 1 THEN 'CANCELED'
    WHEN n % 33 = 2 THEN 'FAILED' ELSE 'SUCCEEDED' END"""
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


def fill(connection: Connection, count: int) -> None:
    sqlite = connection.dialect.name == "sqlite"
    config = wire.Job()
    bucket = config.bucket_list.buckets.add(bucket="harbour")
    bucket.prefix_list.included_object_prefixes.append("tmp/")
    config.delete_object.SetInParent()
    message = messages.dump(config).hex()
    blob = f"x'{message}'" if sqlite else f"'\\x{message}'::bytea"
    no = "0" if sqlite else "false"
    # Names in another order than times; 1,000,003 is a prime.
    name = "substr('000000' || (n * 7919 % 1000003), -7)"
    if not sqlite:
        name = "right('000000' || (n * 7919 % 1000003), 7)"
    made = f"{START_US} + n * {4 * 1_000_000}"
    ended = f"CASE WHEN n % 200 <> 199 THEN {made} + {MINUTE_US} END"
    columns = "id, project, job_id, operation_id, message, state, dry_run, multi_bucket"
    columns += ", transformation_name, transformation, log_states, create_us, complete_us"
    columns += ", description, total, succeeded, failed, errors"
    values = f"n, '{PROJECT}', 'job-' || {name}, 'operation-' || ({made}) || '-' || {name}, {blob}"
    values += f", {STATE}, {no}, {no}, 'delete_object', '{{}}', '[]', {made}, {ended}"
    values += ", 'nightly number-' || n, n % 1000, n % 1000, n % 97, '{}'"
    _insert(connection, "jobs", columns, values, count)
    busy = count // 200
    columns = "id, job, bucket_operation_id, position, bucket, source_name, source, state"
    columns += ", create_us"
    values = f"n, n * 200 - 1, 'bo', 0, 'b', 'prefix_list', '{{}}', 'RUNNING', {START_US}"
    _insert(connection, "bucket_operations", columns, values, busy)
    columns = "job, bucket_operation, state, range, cursor, store, attempt, total"
    values = "n * 200 - 1, n, 'RUNNING', '{}', '{}', 'main', 1, n % 500"
    for _ in range(2):
        _insert(connection, "shards", columns, values, busy)


def many_shards(connection: Connection, state: str) -> None:
    """Give the first open job ten thousand shards."""
    connection.execute(text("DELETE FROM shards WHERE job = 199"))
    columns = "job, bucket_operation, state, range, cursor, store, attempt, total, succeeded"
    ends = '{"after": "logs/2026/11/25/host-0007", "before": "logs/2026/11/25/host-0008"}'
    values = f"199, 1, '{state}', '{ends}', '{ends}', 'main', 1, 1000, 1000"
    _insert(connection, "shards", columns, values, SHARDS)


def _insert(connection: Connection, name: str, columns: str, values: str, count: int) -> None:
    rows = f"{NUMBERS.format(count=count)} SELECT {values} FROM numbers"
    statement = f"INSERT INTO {name} ({columns}) {rows}"
    postgresql = connection.dialect.name == "postgresql"
    connection.exec_driver_sql(statement.replace("%", "%%") if postgresql else statement)


def analyse(connection: Connection) -> None:
    connection.execute(text("ANALYZE"))


def pages(
    connection: Connection, listed: Any, fields: Any, order: Any, asked: tuple[str, str]
) -> list[tuple[float, int]]:
    """Of each page the milliseconds, and how many rows it has."""
    found = []
    token = ""
    for _ in range(given.pages):
        request = SimpleNamespace(page_size=0, filter=asked[0], page_token=token)
        began = time.perf_counter()
        listing = Listing.of(
            request, scope="", order_by=asked[1], order=order, fields=fields, token_key=KEY
        )
        rows = listed(connection, PROJECT, listing.page)
        found.append((1000 * (time.perf_counter() - began), min(len(rows.rows), listing.size)))
        _, token = listing.fill(rows, lambda _one: wire.Job())
    return found


def jobs_pages(connection: Connection, *asked: str) -> list[tuple[float, int]]:
    return pages(connection, lists.list_jobs, job_fields(PROJECT), _JOB_ORDER, asked)


def operations_pages(connection: Connection, *asked: str) -> list[tuple[float, int]]:
    return pages(connection, lists.list_operations, operation_fields(PROJECT), _ORDER, asked)


def get(connection: Connection) -> list[tuple[float, int]]:
    found = []
    for _ in range(given.pages):
        began = time.perf_counter()
        row = statements.job_by_row_id(connection, 199)
        assert row is not None
        statements.count_jobs(connection, [row])
        found.append((1000 * (time.perf_counter() - began), 1))
    return found


async def measure(database: Database) -> dict[str, str]:
    await database.create()
    await database.write(fill, given.jobs)
    await database.write(analyse)
    cells = {}
    for name, (text_, order_by) in KINDS.items():
        cells[name] = cell(await database.read(jobs_pages, text_, order_by))
    for name, text_ in OPERATIONS.items():
        cells[name] = cell(await database.read(operations_pages, text_, ""))
    for state, said in (("SUCCEEDED", "have ended"), ("RUNNING", "are at work")):
        await database.write(many_shards, state)
        await database.write(analyse)
        cells[f"a job of {SHARDS:,} shards that {said}"] = cell(await database.read(get))
        first = 'name = "job-0575878"'  # 199 * 7919 % 1000003
        cells[f"a list with it, which {said}"] = cell(await database.read(jobs_pages, first, ""))
    await database.close()
    return cells


def cell(found: list[tuple[float, int]]) -> str:
    times = sorted(one for one, _ in found[1:])  # the first compiles the statement
    rows = sum(rows for _, rows in found) / len(found)
    return f"{times[len(times) // 2]:.1f} / {times[int(0.99 * len(times))]:.1f} ({rows:.0f})"


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
    print(f"| p50 / p99, ms (rows a page) | {' | '.join(columns)} |")
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
