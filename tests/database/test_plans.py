"""The hot statements find what they want by an index, in a database of a million shards.

The plans are asked of the database itself, for the statements as they are really run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from longshore.database import Database, census, jobs, leases, lists, rollup, shards
from longshore.database.lists import Key, Page
from longshore.database.tables import jobs as table
from longshore.model import Counters
from tests.database.rows import announcement, create, new_job

JOBS = 1_000
SHARDS = {"postgresql": 1_000_000, "sqlite": 250_000}
"""A million takes either database up to a minute to write on a busy machine."""

pytestmark = pytest.mark.timeout(600)

_ROWS = """
INSERT INTO {table} ({columns})
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
SELECT {values} FROM numbers
"""
_COUNTS = "total, succeeded, failed, bytes_found, bytes_transformed"
_COUNTS += ", contexts_created, contexts_deleted, contexts_updated"
_ZEROS = ", ".join(["0"] * 8)


def fill(connection: Connection) -> None:
    """Most jobs have ended, the last fifty run; of their shards one in a hundred is leased."""
    state = "CASE WHEN {n} > {last} THEN 'RUNNING' ELSE 'SUCCEEDED' END"
    of_job = state.format(n="n", last=JOBS - 50)
    ended = f"CASE WHEN n > {JOBS - 50} THEN NULL ELSE n END"
    columns = "id, project, job_id, operation_id, message, state, dry_run, multi_bucket"
    columns += ", transformation_name, transformation, log_states, create_us, complete_us"
    blob = "''" if connection.dialect.name == "sqlite" else "''::bytea"
    no = "0" if connection.dialect.name == "sqlite" else "false"
    values = f"n, 'p', 'job-' || n, 'op-' || n, {blob}, {of_job}, {no}, {no}"
    values += f", 'delete_object', '{{}}', '[]', n, {ended}, {_ZEROS}"
    _insert(connection, "jobs", f"{columns}, {_COUNTS}", values, JOBS)
    columns = "id, job, bucket_operation_id, position, bucket, source_name, source, state"
    values = f"n, n, 'bo', 0, 'b', 'prefix_list', 0, {of_job}, n, {_ZEROS}"
    _insert(connection, "bucket_operations", f"{columns}, create_us, {_COUNTS}", values, JOBS)
    _insert(connection, "sources", "job, number, data", "n, 0, '{}'", JOBS)
    count = SHARDS[connection.dialect.name]
    job = f"((n - 1) / {count // JOBS} + 1)"
    shard = state.format(n=job, last=JOBS - 50)
    owner = f"CASE WHEN {job} > {JOBS - 50} AND n % 100 = 0 THEN 'w' || (n % 8) END"
    columns = f"id, job, bucket_operation, state, range, cursor, store, attempt, owner, {_COUNTS}"
    values = f"n, {job}, {job}, {shard}, '{{}}', '{{}}', 'main', 1, {owner}, {_ZEROS}"
    _insert(connection, "shards", columns, values, count)
    if connection.dialect.name == "postgresql":
        for name in ("jobs", "bucket_operations", "shards"):
            sequence = f"pg_get_serial_sequence('{name}', 'id')"
            connection.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {name}))"))
    connection.execute(text("ANALYZE"))


def _insert(connection: Connection, name: str, columns: str, values: str, count: int) -> None:
    connection.exec_driver_sql(
        _ROWS.format(table=name, columns=columns, values=values, count=count).replace("%", "%%")
        if connection.dialect.name == "postgresql"
        else _ROWS.format(table=name, columns=columns, values=values, count=count)
    )


@pytest.fixture(scope="module")
def full(
    new_database: Callable[[], str | None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    opened = Database(new_database() or tmp_path_factory.mktemp("plans") / "longshore.sqlite")
    asyncio.run(opened.create())
    asyncio.run(opened.write(fill))
    yield opened
    asyncio.run(opened.close())


def plans_of(connection: Connection, function: Any, *arguments: Any) -> dict[str, str]:
    """Every statement that a function runs, with its plan; what it writes is undone."""
    ran: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        ran.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    savepoint = connection.begin_nested()
    function(connection, *arguments)
    savepoint.rollback()
    event.remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    return {
        statement: "\n".join(
            str(line[-1]) for line in connection.exec_driver_sql(explain + statement, parameters)
        )
        for statement, parameters in ran
        if re.match(r"\s*(WITH|SELECT|UPDATE|DELETE)", statement)
    }


def whole_scans(plan: str) -> list[str]:
    """What of a plan reads the shards from end to end; the other tables are small here."""
    return [
        line for line in plan.splitlines() if re.search(r"Seq Scan on shards|^SCAN shards$", line)
    ]


LAST = JOBS
BY_NAME = Page(keys=[Key(table.c.job_id)], limit=100)
BY_STATE = Page(keys=[Key(table.c.job_id)], limit=100, seek=[table.c.state == "RUNNING"])


def _checkpoint(connection: Connection) -> None:
    leased = connection.execute(
        text("SELECT id, attempt FROM shards WHERE owner IS NOT NULL AND job = :job LIMIT 1"),
        {"job": LAST},
    ).one()
    row = connection.execute(shards.WHOLE.where(text(f"shards.id = {leased.id}"))).one()
    shard = shards.shard_of(row)
    shards.checkpoint(connection, shard, Counters(total=1), {}, announcement(1, b"i"), 1)


HOT: dict[str, tuple[Any, ...]] = {
    "poll, idle": (leases.poll, {}, 4),
    "poll, busy": (leases.poll, {"main": 4}, 4),
    "claim": (leases.claim, "w", {}, 4, 1),
    "claim, almost full": (leases.claim, "w", {"main": 3}, 4, 1),
    "checkpoint": (_checkpoint,),
    "worth halving": (leases.worth_halving, {}, 4),
    "halve": (leases.ask_to_halve, [1]),
    "leases": (leases.leases,),
    "release": (leases.release, "w1"),
    "bury": (leases.bury, "w1"),
    "counters of a job": (rollup.counters_of_jobs, [LAST]),
    "list by name": (lists.list_jobs, "p", BY_NAME),
    "list what runs": (lists.list_jobs, "p", BY_STATE),
    "cancel": (jobs.cancel_job, LAST, 1),
    "standing": (census.standing,),
    "logs": (jobs.existing_shards, [1, 2, 3]),
}


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_statement_never_reads_all_shards(full: Database, name: str) -> None:
    plans = await full.write(plans_of, *HOT[name])
    assert plans
    for statement, plan in plans.items():
        assert not whole_scans(plan), f"{statement}\n{plan}"


async def test_a_new_job_is_claimed_from_among_a_million(full: Database) -> None:
    """The plan is one thing; that it takes no time is another."""
    await create(full, new_job("fresh"))
    taken = await full.write(leases.claim, "w", {"main": 4}, 4, 1)
    assert [shard.job_id for shard in taken] == ["fresh"]


async def test_many_shards_are_chosen_by_few_statements(full: Database) -> None:
    def chosen(connection: Connection) -> tuple[int, int]:
        ran: list[str] = []
        event.listen(connection, "before_cursor_execute", lambda *given: ran.append(given[2]))
        return len(leases.choose(connection, {}, 1_000, most=256)), len(ran)

    found, statements = await full.write(chosen)
    assert found == 256
    assert statements <= 60  # some for each of the jobs that run


async def test_what_waits_is_not_read_where_all_places_are_taken(full: Database) -> None:
    """Of the fifty thousand shards that are free here, whose index has hundreds of pages."""

    def pages(connection: Connection) -> int:
        ran: list[tuple[str, Any]] = []
        event.listen(connection, "before_cursor_execute", lambda *given: ran.append(given[2:4]))
        assert not leases.poll(connection, {"main": 4}, 4).free
        assert leases.choose(connection, {"main": 4}, 4) == []
        if connection.dialect.name != "postgresql":
            return 0
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
        return sum(
            connection.exec_driver_sql(explain + statement, given).scalar_one()[0]["Plan"][
                "Shared Hit Blocks"
            ]
            for statement, given in list(ran)
        )

    assert await full.write(pages) < 500
