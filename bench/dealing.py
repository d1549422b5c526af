"""What the statements of dealing cost with the shards of a large cluster: 1,000 workers with 64
leased shards each, and millions that wait.

    python -m bench.dealing [--workers 1000] [--waiting 10000000] [--repeat 5] [--plans]

Run from the top of the repository. Leased shards are made by the real functions (crowd), waiting
ones by SQL, as halving and planning leave them. Each statement is run through Database, as workers
and the coordinator do; ``--plans`` prints what PostgreSQL does for each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import uvloop
from bench.crowd import SHARDS_AT_ONCE, STORE, Server, filled, server
from sqlalchemy import Connection, event

from longshore.database import Database, coordinator, deals, leases

JOBS = 100
WAITING = """
SET session_replication_role = replica;  -- their jobs are there
INSERT INTO shards (job, bucket_operation, state, store, attempt, range, cursor)
SELECT job, bucket_operation, 'QUEUED', store, 0, range, cursor
FROM shards, generate_series(1, {each}) WHERE id IN (SELECT min(id) FROM shards GROUP BY job)
"""


class Undone(Exception):
    """A transaction that is only to be timed."""


def add_waiting(there: Server, name: str, waiting: int) -> None:
    """So many free shards, of all jobs; the indexes are made anew, which is sooner done."""
    made = there.ask(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'shards'"
        " AND indexname <> 'shards_pkey'",
        name,
    )
    for index, _ in made:
        there.ask(f"DROP INDEX {index}", name)
    there.ask(WAITING.format(each=waiting // JOBS), name)
    for _, definition in made:
        there.ask(definition, name)
    there.ask("VACUUM ANALYZE", name)


async def measure(
    database: Database, name: str, ask: Callable[[Connection], Any], repeat: int, there: Server
) -> None:
    """Print what it takes from here, and of PostgreSQL's CPU."""
    taken, cpu, wall = [], [], []
    found: Any = None
    for _ in range(repeat):
        server_cpu, own, began = there.cpu(), time.process_time(), time.monotonic()
        found = await database.read(ask)
        wall.append(time.monotonic() - began)
        taken.append(time.process_time() - own)
        cpu.append(there.cpu() - server_cpu)
    rows = len(found) if isinstance(found, (list, dict)) else found
    print(
        f"| {name} | {min(wall) * 1e3:,.1f} ({statistics.median(wall) * 1e3:,.1f})"
        f" | {statistics.mean(cpu) * 1e3:,.1f} | {min(taken) * 1e3:,.1f} | {rows} |",
        flush=True,
    )


def questions(workers: int, owner: str) -> dict[str, Callable[[Connection], Any]]:
    some: Counter[str | None] = Counter({STORE: SHARDS_AT_ONCE // 2})
    full: Counter[str | None] = Counter({STORE: SHARDS_AT_ONCE})
    all_: Counter[str | None] = Counter({STORE: SHARDS_AT_ONCE * workers})
    return {
        "coordinator: `deals.carried_by`": deals.carried_by,
        "coordinator: `leases.poll`, places left": lambda c: leases.poll(c, some, 64).free,
        "coordinator: `leases.poll`, all places taken": lambda c: len(
            leases.poll(c, all_, SHARDS_AT_ONCE * workers).starved
        ),
        "coordinator: `leases.worth_halving`": lambda c: leases.worth_halving(c, some, 64, most=64),
        "coordinator: `deals.crowding`": lambda c: deals.crowding(c, STORE),
        "candidates: `leases.leases`": leases.leases,
        "coordinator: `leases.who_leases`": leases.who_leases,
        "workers, once a second: `deals.news`": lambda c: len(deals.news(c, owner, 0).dealt),
        "`leases.choose`, 64 for one": lambda c: leases.choose(c, {}, SHARDS_AT_ONCE),
        "`leases.choose`, 256 for all": lambda c: leases.choose(
            c, {}, SHARDS_AT_ONCE * workers, most=deals.DEALT_AT_ONCE
        ),
        "`leases.poll`, local worker whose places are taken": lambda c: len(
            leases.poll(c, full, SHARDS_AT_ONCE).starved
        ),
    }


async def dealt(database: Database, workers: int, repeat: int, there: Server) -> None:
    """``deals.deal`` to as many workers who have nothing yet."""
    carried: dict[str, Counter[str | None]] = {
        f"new-{number}": Counter() for number in range(workers)
    }
    carriers = {name: deals.Carrier(mine, SHARDS_AT_ONCE) for name, mine in carried.items()}
    term = await database.write(coordinator.take, "bench", None)
    assert term is not None
    wall, own, cpu, number = [], [], [], 0
    for _ in range(repeat):
        server_cpu, mine, began = there.cpu(), time.process_time(), time.monotonic()
        got = await database.write(deals.deal, term, carriers, 5)
        wall.append(time.monotonic() - began)
        own.append(time.process_time() - mine)
        cpu.append(there.cpu() - server_cpu)
        number += len(got)
        for lease in got:
            carried[lease.owner][STORE] += 1
    print(
        f"| coordinator: `deals.deal`, to {workers:,} workers | {min(wall) * 1e3:,.1f}"
        f" ({statistics.median(wall) * 1e3:,.1f}) | {statistics.mean(cpu) * 1e3:,.1f}"
        f" | {min(own) * 1e3:,.1f} | {number / repeat:g} |\n\n"
        f"dealt: {number / sum(wall):,.0f} shards a second",
        flush=True,
    )


def explain(there: Server, url: str, said: Sequence[tuple[str, Any]]) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for statement, parameters in said:
            print(f"\n{statement}\n{parameters}")
            plan = connection.execute(
                ("EXPLAIN (ANALYZE, BUFFERS) " + statement).encode(), parameters
            )
            print("\n".join(f"    {line}" for (line,) in plan))


async def run(workers: int, waiting: int, repeat: int, plans: bool) -> None:
    with server() as there:
        url = there.new_database()
        began = time.monotonic()
        leased = await filled(url, workers, SHARDS_AT_ONCE, JOBS)
        print(f"{len(leased):,} leased after {time.monotonic() - began:.0f} s", file=sys.stderr)
        name = url.rpartition("/")[2]
        add_waiting(there, name, waiting)
        print(f"filled after {time.monotonic() - began:.0f} s", file=sys.stderr)
        database = Database(url)
        owner = there.ask("SELECT min(owner) FROM shards WHERE owner IS NOT NULL", name)[0][0]
        print(
            f"{workers:,} workers with {SHARDS_AT_ONCE} shards, {waiting:,} waiting:\n\n"
            "| what | ms, minimum (median) | PostgreSQL's CPU, ms | who asks, CPU, ms | rows |\n"
            "|---|---|---|---|---|"
        )
        for what, ask in questions(workers, owner).items():
            await measure(database, what, ask, repeat, there)
        await dealt(database, workers, repeat, there)
        if plans:
            said: list[tuple[str, Any]] = []
            event.listen(
                database._reader.engine,
                "before_cursor_execute",
                lambda _c, _cur, statement, parameters, _x, _m: said.append(
                    (statement, parameters)
                ),
            )
            for what, ask in questions(workers, owner).items():
                if "choose" not in what:
                    await database.read(ask)
            explain(there, url, said)
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1000, help="each with 64 shards")
    parser.add_argument("--waiting", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--plans", action="store_true")
    given = parser.parse_args()
    uvloop.run(run(given.workers, given.waiting, given.repeat, given.plans))


if __name__ == "__main__":
    main()
