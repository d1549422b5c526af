"""How many checkpoints a second PostgreSQL takes of a large cluster, and what half an hour of them
does to its tables.

    python -m bench.checkpoints ceiling [--workers 1000] [--seconds 60] [--names log uuid]
    python -m bench.checkpoints steady [--minutes 30] [--rate 100] [--workers 100]

Run from the top of the repository. Server and shards are real (crowd), and so are the checkpoints:
the transaction of every batch, with the packed intent of 1,000 names, one shard after the other.
Nothing else runs: no store, no worker. ``ceiling``: as fast as it goes, server on one core, who
writes on the other. ``steady``: so many a second; what the tables have become, every few minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import NamedTuple

import uvloop
from bench.crowd import SHARDS_AT_ONCE, Server, fill_now, server, shared_out
from bench.engine import BATCH, an_intent, log_names, uuid_names
from bench.paired import CLIENT_CORE, SERVER_CORE

from longshore.database import Database, shards
from longshore.database.shards import Announcement, Answer
from longshore.model import Counters, Shard

JOBS = 100
AT_A_TIME = 4
"""Checkpoints under way of each process that writes: one for each thread, and one more."""
NAMES = {"log": log_names, "uuid": uuid_names}
TABLE = """
SELECT n_tup_upd, n_tup_hot_upd, n_live_tup, n_dead_tup, autovacuum_count,
    pg_relation_size(relid), pg_indexes_size(relid), reltoastrelid,
    pg_relation_size(reltoastrelid), pg_indexes_size(reltoastrelid)
FROM pg_stat_user_tables JOIN pg_class ON pg_class.oid = relid WHERE relid = 'shards'::regclass
"""
TOAST = "SELECT n_live_tup, n_dead_tup, autovacuum_count FROM pg_stat_all_tables WHERE relid = {}"
WAL = "SELECT wal_bytes::bigint, wal_fpi, wal_records FROM pg_stat_wal"


class Tables(NamedTuple):
    """What has become of the table of shards, in rows, bytes and runs."""

    updated: int
    hot: int
    live: int
    dead: int
    vacuumed: int
    heap: int
    indexes: int
    toast: int
    toast_index: int
    toast_live: int
    toast_dead: int
    toast_vacuumed: int
    wal: int
    wal_pages: int


class Written(NamedTuple):
    """What a process has written: checkpoints, its CPU and the time for each, in seconds."""

    count: int
    cpu: float
    waits: list[float]


def look(there: Server, url: str) -> Tables:
    database = url.rpartition("/")[2]
    (table,) = there.ask(TABLE, database)
    *first, toast, heap, index = table
    (second,) = there.ask(TOAST.format(toast), database)
    wal, pages, _ = there.ask(WAL)[0]
    return Tables(*first, heap, index, *second, wal, pages)


def an_announced_batch(kind: str) -> bytes:
    """The intent of 1,000 names, as the database gets it."""
    return an_intent(NAMES[kind]()).pack()


def write(url: str, mine: Sequence[Shard], kind: str, until: float, rate: float) -> Written:
    """Checkpoint after checkpoint, shard after shard; ``rate``: of this process, 0: no limit."""
    return uvloop.run(_write(url, mine, an_announced_batch(kind), until, rate))


async def _write(
    url: str, mine: Sequence[Shard], packed: bytes, until: float, rate: float
) -> Written:
    database = Database(url)
    waits: list[float] = []
    began, cpu = time.time(), time.process_time()
    turns = turn(mine, packed)

    async def carry() -> None:
        while (now := time.time()) < until:
            if rate and (early := began + len(waits) / rate - now) > 0:
                await asyncio.sleep(early)
            shard, counters, announcement = next(turns)
            asked = time.monotonic()
            waits.append(0.0)
            place = len(waits) - 1
            answer = await database.jot(
                *(shards.quick_checkpoint, shards.checkpoint),
                *(shard, counters, {}, announcement, 0),
            )
            assert answer is Answer.GO_ON
            waits[place] = time.monotonic() - asked

    await asyncio.gather(*(carry() for _ in range(1 if rate else AT_A_TIME)))
    await database.close()
    return Written(len(waits), time.process_time() - cpu, waits)


def turn(mine: Sequence[Shard], packed: bytes) -> Iterator[tuple[Shard, Counters, Announcement]]:
    """Every shard in its turn, with more counted each time."""
    done = 0
    while True:
        for shard in mine:
            cursor = {"after": f"logs/2026/11/25/node-0000/{done:012d}-0123456789abc.json.gz"}
            counters = Counters(total=done, succeeded=done, bytes_found=done * 1_000_000)
            yield (
                shard,
                counters,
                Announcement(
                    intent=packed,
                    cursor=cursor,
                    found=BATCH,
                    bytes_found=BATCH * 1_000_000,
                    halves=True,
                    got_on=True,
                ),
            )
        done += BATCH


def ceiling(workers: int, seconds: float, processes: int, kind: str, *, sync: bool) -> None:
    with server() as there:
        url = there.new_database()
        if not sync:
            name = url.rpartition("/")[2]
            there.ask(f"ALTER DATABASE {name} SET synchronous_commit = off")
        leased = fill_now(url, workers, SHARDS_AT_ONCE, JOBS)
        there.ask("VACUUM ANALYZE", url.rpartition("/")[2])
        there.ask("CHECKPOINT")
        there.stay_on(SERVER_CORE)
        os.sched_setaffinity(0, {CLIENT_CORE})
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            wait([pool.submit(time.sleep, 1.0) for _ in range(4 * processes)])  # all have begun
            list(pool.map(an_announced_batch, [kind] * 8 * processes))  # and imported
            before, cpu, began = look(there, url), there.cpu(), time.time()
            until = began + seconds
            parts = [
                pool.submit(write, url, mine, kind, until, 0.0)
                for mine in shared_out(leased, processes)
            ]
            done = [part.result() for part in parts]
        took, cpu = time.time() - began, there.cpu() - cpu
        time.sleep(1)  # until the server has counted
        after = look(there, url)
        _say_ceiling(kind, len(an_announced_batch(kind)), done, took, cpu, before, after)


def _say_ceiling(
    kind: str,
    size: int,
    done: Sequence[Written],
    took: float,
    cpu: float,
    before: Tables,
    after: Tables,
) -> None:
    count = sum(one.count for one in done)
    waits = sorted(wait for one in done for wait in one.waits)
    updated = after.updated - before.updated
    cells = [
        f"{kind}, {size:,} bytes",
        f"{count:,} in {took:.0f} s",
        f"{count / took:,.0f}",
        f"{count * BATCH / took:,.0f}",
        f"{cpu / count * 1e6:.0f}",
        f"{cpu / took:.0%}",
        f"{sum(one.cpu for one in done) / count * 1e6:.0f}",
        f"{(after.wal - before.wal) / count / 1000:.1f}",
        f"{(after.wal_pages - before.wal_pages) / count:.2f}",
        f"{(after.hot - before.hot) / max(1, updated):.1%}",
        f"{waits[len(waits) // 2] * 1e3:.1f} / {waits[int(len(waits) * 0.99)] * 1e3:.1f}",
    ]
    print(
        "\n| intent | checkpoints | a second | objects a second | server's CPU, µs each"
        " | of its core | writers' CPU, µs | WAL, kB each | full pages each | HOT"
        " | p50 / p99, ms |\n" + "|---" * len(cells) + "|"
    )
    print(f"| {' | '.join(cells)} |")
    print(after, flush=True)


def steady(workers: int, minutes: float, every: float, rate: float, kind: str) -> None:
    with server() as there:
        url = there.new_database()
        leased = fill_now(url, workers, SHARDS_AT_ONCE, JOBS)
        there.ask("VACUUM ANALYZE", url.rpartition("/")[2])
        before = look(there, url)
        print(
            f"{workers} workers, {len(leased):,} shards, {rate:g} checkpoints a second\n\n"
            "| minute | checkpoints | HOT | table, MB | dead rows | indexes, MB | intents, MB"
            " | dead pieces | their index, MB | vacuumed: table, intents | WAL, kB each |\n"
            "|---|---|---|---|---|---|---|---|---|---|---|"
        )
        _say_steady(0, before, before)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            began = time.time()
            done = pool.submit(write, url, leased, kind, began + minutes * 60, rate)
            minute = every
            while minute <= minutes:
                time.sleep(max(0.0, began + minute * 60 - time.time()))
                _say_steady(minute, before, look(there, url))
                minute += every
            print(f"\nwritten: {done.result().count:,}")


def _say_steady(minute: float, before: Tables, now: Tables) -> None:
    updated = now.updated - before.updated
    cells = [
        f"{minute:g}",
        f"{updated:,}",
        f"{(now.hot - before.hot) / max(1, updated):.1%}",
        f"{now.heap / 1e6:.1f}",
        f"{now.dead:,}",
        f"{now.indexes / 1e6:.1f}",
        f"{now.toast / 1e6:.1f}",
        f"{now.toast_dead:,} of {now.toast_live + now.toast_dead:,}",
        f"{now.toast_index / 1e6:.1f}",
        f"{now.vacuumed - before.vacuumed}, {now.toast_vacuumed - before.toast_vacuumed}",
        f"{(now.wal - before.wal) / max(1, updated) / 1000:.1f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["ceiling", "steady"])
    parser.add_argument("--workers", type=int, default=1000, help="each with 64 shards")
    parser.add_argument("--names", choices=list(NAMES), nargs="+", default=["log"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2, help="that write")
    parser.add_argument(
        "--no-sync", action="store_true", help="commits do not wait for the disk: what cores can do"
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=5.0, help="so many minutes is looked")
    parser.add_argument("--rate", type=float, default=100.0, help="checkpoints a second")
    given = parser.parse_args()
    for kind in given.names:
        if given.what == "ceiling":
            ceiling(*(given.workers, given.seconds, given.processes, kind), sync=not given.no_sync)
        else:
            steady(given.workers, given.minutes, given.every, given.rate, kind)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
