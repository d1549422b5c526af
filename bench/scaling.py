"""What more workers add to a real cluster, and how soon one that comes or goes has its part.

    python -m bench.scaling [--cases cpu latency elastic] [--workers 1 2 4 8] [--seconds 25]

Run from the top of the repository. Everything is real but the store: PostgreSQL, Dask's scheduler,
one service that coordinates, one ``longshore worker`` for each worker; the store is s3_stub.c, over
TLS.

``cpu``: objects for each second of CPU of the workers' own processes, as two workers have it
against one; the store has a core of its own, and all else shares the other. ``latency``: each
answer takes 30 ms and a worker may have 8 calls under way, so that it waits nearly all of the time;
so many workers get so many times the objects, and should take as long as one. ``elastic``: how the
shards are spread after a machine has come, and after one was retired.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from bench.crowd import Server, server
from bench.paired import BUCKET, CLIENT_CORE, PREFIX, Stub, build, cpu_of, moment, stub
from bench.s3 import ACTS, endpoint_of, settings_of

from longshore.stores.s3.features import Feature
from tests.cluster.harbour import Cluster, Program
from tests.service import counters

LATENCY_MS = 30
CALLS = 8
"""Under way of each worker, where the store is slow."""
CALLS_AN_OBJECT = 2
"""Of metadata: a HEAD and a copy."""
THOUSAND, FOLDER = 1_000, 10_000
"""Objects of one prefix or folder of the stub."""


class Fleet(Cluster):
    """A cluster over a stub of S3, with machines of one worker each."""

    def __init__(self, directory: Path, database: str, store: Stub, more: str, **options: Any):
        self._lines = settings_of(endpoint_of(store), more)
        super().__init__(directory, database, workers=1, **options)
        self._connect = database
        self._endpoint = endpoint_of(store).url

    def _longshore(self, command: str, number: int, *more: Any) -> Program:
        program = super()._longshore(command, number, *more)
        config = self.directory / f"{program.name}.toml"
        head, heading, _ = config.read_text().partition("[stores.main]")
        config.write_text(f'{head}{heading}\nbuckets = ["*"]\n{self._lines}')
        return program

    def start(self) -> None:
        super().start()
        now_us = time.time_ns() // 1000
        rows = [(self._endpoint, "AmazonS3", feature, "WORKS", "", now_us) for feature in Feature]
        with psycopg.connect(self._connect) as connection:  # proven before, as for most jobs
            connection.cursor().executemany("INSERT INTO proofs VALUES (%s,%s,%s,%s,%s,%s)", rows)
        everybody = len(self.machines)
        self.until(lambda: self.scheduler.log().count("Register worker") == everybody, 120, "join")
        self.until(self._rest, 60, "rest")

    def _rest(self) -> bool:
        before = self.cpu()
        time.sleep(1.0)
        return self.cpu() - before < 0.2 * len(self.machines)

    def workers(self) -> list[int]:
        return [pid for machine in self.machines if machine.running() for pid in machine.children()]

    def cpu(self) -> float:
        """Seconds of CPU of all workers' processes."""
        return sum(map(cpu_of, self.workers()))

    def finish(self, operation: str) -> dict[str, Any]:
        """The job once it has ended, asked for seldom: whoever asks has a core with it."""
        with self.http() as http:
            while not (found := http.get(f"/v1/{operation}").json()).get("done"):
                time.sleep(0.5)
            name = found["metadata"]["job"]["name"]
            job: dict[str, Any] = http.get(f"/v1/{name}").raise_for_status().json()
        return job

    def change(self, act: str, prefixes: list[str]) -> str:
        """A job; gives its operation's name."""
        source = {"bucket": BUCKET, "prefixList": {"includedObjectPrefixes": prefixes}}
        with self.http() as http:
            made = http.post(
                "/v1/projects/local/locations/global/jobs",
                json={"bucketList": {"buckets": [source]}, **ACTS[act]},
            )
        return str(made.raise_for_status().json()["name"])


class Run(NamedTuple):
    """What a job took: seconds from its creation to its end, and of the workers' CPU."""

    wall: float
    cpu: float
    most: int
    database_cpu: float


@contextmanager
def fleet(there: Server, store: Stub, more: str = "", **options: Any) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as name:
        cluster = Fleet(Path(name), there.new_database(), store, more, **options)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()


def run(
    there: Server, cluster: Fleet, store: Stub, act: str, prefixes: list[str], objects: int
) -> Run:
    """A job over these prefixes, which have so many objects."""
    store.reset()
    before, database = cluster.cpu(), there.cpu()
    job = cluster.finish(cluster.change(act, prefixes))
    cpu = cluster.cpu() - before
    found = counters(job)
    assert job["state"] == "SUCCEEDED", (job, cluster.logs())
    assert found["succeededObjectCount"] == objects, job
    wall = moment(job["completeTime"]) - moment(job["createTime"])
    return Run(wall, cpu, store.counts()["most in flight"], there.cpu() - database)


def rest(there: Server, cluster: Fleet) -> tuple[float, float]:
    """The workers' CPU in a second without a job, and PostgreSQL's for all."""
    before, database, began = cluster.cpu(), there.cpu(), time.monotonic()
    time.sleep(3)
    took = time.monotonic() - began
    return (cluster.cpu() - before) / took, (there.cpu() - database) / took


def by_cpu(there: Server, folder: Path, folders: int, repeat: int) -> None:
    """Metadata of so many folders of 10,000 objects, and a delete of 25 times as many."""
    print(
        "| act | workers | objects | workers' CPU, s | objects a CPU second | of one worker's"
        " | PostgreSQL's CPU, µs an object | wall, s |\n|---|---|---|---|---|---|---|---|"
    )
    prefixes = {
        "metadata": [f"{PREFIX}2026/11/25/node-{number:04d}/" for number in range(folders)],
        "delete": [PREFIX],
    }
    objects = {"metadata": folders * FOLDER, "delete": 25 * folders * FOLDER}
    first: dict[str, float] = {}
    with stub(folder, "s3", objects=objects["delete"]) as store:
        for workers in (1, 2):
            with fleet(there, store, machines=workers) as cluster:
                for act, where in prefixes.items():
                    count = objects[act]
                    # The first is not counted: it reaches each worker, which imports once.
                    _, *runs = [
                        run(there, cluster, store, act, where, count) for _ in range(1 + repeat)
                    ]
                    _say_cpu(act, workers, count, runs, first)


def _say_cpu(act: str, workers: int, count: int, runs: list[Run], first: dict[str, float]) -> None:
    cpu = statistics.median(one.cpu for one in runs)
    database = statistics.median(one.database_cpu for one in runs)
    first.setdefault(act, count / cpu)
    cells = [
        *(act, f"{workers}", f"{count:,}", f"{cpu:.2f}", f"{count / cpu:,.0f}"),
        f"**{count / cpu / first[act]:.3f}**",
        f"{database / count * 1e6:.1f}",
        f"{statistics.median(one.wall for one in runs):.1f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def thousands(count: int) -> list[str]:
    """Prefixes of 1,000 objects each, as the stub names them."""
    return [
        f"{PREFIX}2026/11/25/node-{number // 10:04d}/{number:09d}"
        for number in range(count // THOUSAND)
    ]


def by_latency(there: Server, folder: Path, workers: list[int], seconds: float) -> None:
    """The source names a prefix of 1,000 objects for each place, so that all begin at once."""
    each = int(seconds * CALLS * 1000 / LATENCY_MS / CALLS_AN_OBJECT / THOUSAND) * THOUSAND
    print(
        "| workers | objects | s | objects a second | of linear | calls under way"
        " | workers' CPU, µs an object | PostgreSQL's | at rest, CPU of a worker, ms a second"
        " | PostgreSQL's for it |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    first = 0.0
    for number in workers:
        count = each * number
        limit = f"max_concurrency = {CALLS * number}\n"
        with (
            stub(folder, "s3", objects=count, latency_ms=LATENCY_MS) as store,
            fleet(there, store, limit, machines=number) as cluster,
        ):
            resting = rest(there, cluster)
            one = run(there, cluster, store, "metadata", thousands(count), count)
        rate = count / one.wall
        first = first or rate / number
        used = count * CALLS_AN_OBJECT * LATENCY_MS / 1000 / one.wall
        cells = [
            *(f"{number}", f"{count:,}", f"{one.wall:.1f}", f"{rate:,.0f}"),
            *(f"**{rate / number / first:.3f}**", f"{used:.1f} of {CALLS * number}"),
            f"{one.cpu / count * 1e6:.0f}",
            f"{one.database_cpu / count * 1e6:.0f}",
            *(f"{seconds / number * 1e3:.1f}" for seconds in resting),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def elastic(there: Server, folder: Path) -> None:
    """Two machines; a third comes, then the first is retired."""
    objects = 200_000
    print("| s | what | shards of each machine | succeeded |\n|---|---|---|---|")
    with (
        stub(folder, "s3", objects=objects, latency_ms=LATENCY_MS) as store,
        fleet(there, store, f"max_concurrency = {4 * CALLS}\n", machines=2) as cluster,
    ):
        operation = cluster.change("metadata", [PREFIX])
        began = time.monotonic()
        _watch(cluster, operation, began, "two machines", 10)
        cluster.add_machine()
        _watch(cluster, operation, began, "a third was started", 12)
        cluster.machines[0].stop()
        _watch(cluster, operation, began, "the first was retired", 12)
        cluster.cancel(operation)
        cluster.done(operation)


def _watch(cluster: Fleet, operation: str, began: float, what: str, seconds: int) -> None:
    for _ in range(seconds):
        time.sleep(1)
        spread = sorted(cluster.carried().items())
        carried = " ".join(f"{name[:4]}:{number}" for name, number in spread)
        done = cluster.done_by(operation)
        print(f"| {time.monotonic() - began:.1f} | {what} | {carried} | {done:,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    cases = ["cpu", "latency", "elastic"]
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=25.0, help="of a job of one worker")
    parser.add_argument("--folders", type=int, default=4, help="of 10,000 objects, for cpu")
    parser.add_argument("--repeat", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longshore-s3-") as name, server() as there:
        folder = Path(name)
        build(folder, "s3")
        if "cpu" in given.cases:
            os.sched_setaffinity(0, {CLIENT_CORE})
            there.stay_on(CLIENT_CORE)
            by_cpu(there, folder, given.folders, given.repeat)
        everywhere = range(os.cpu_count() or 1)
        os.sched_setaffinity(0, everywhere)
        there.stay_on(*everywhere)
        if "latency" in given.cases:
            by_latency(there, folder, given.workers, given.seconds)
        if "elastic" in given.cases:
            elastic(there, folder)


if __name__ == "__main__":
    main()
