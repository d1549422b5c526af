"""Kill, stop and restart every kind of process of a cluster, again and again, while jobs run.

    python -m tests.cluster.chaos [--blows 200] [--objects 20000] [--seed N] [--stop-seconds 5]

Prints what was done and found; the exit status is 1 if an object was lost, counted twice, or left
as it was, or if a job hung. A seed gives the same blows, not the same moments.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.cluster.harbour import Cluster, Program
from tests.service import counters
from tests.services.postgresql import Postgresql, running

FOLDERS = 8
JOB_SECONDS = 240.0
"""A job that takes longer hangs; leases are 21 s."""


class Storm:
    """Blows, one after the other, until there were enough; runs beside the jobs."""

    def __init__(
        self, cluster: Cluster, server: Postgresql, chance: random.Random, stop_seconds: float
    ) -> None:
        self._cluster = cluster
        self._server = server
        self._chance = chance
        self._stop_seconds = stop_seconds
        self.dealt: Counter[str] = Counter()
        self.over = threading.Event()

    def run(self, blows: int) -> None:
        kinds: list[Callable[[], str]] = [
            *[self._kill_worker] * 6,
            *[self._kill_program] * 6,
            *[self._stop_program] * 6,
            *[self._end_program] * 3,
            self._restart_database,
        ]
        try:
            for _ in range(blows):
                self.dealt[self._chance.choice(kinds)()] += 1
                time.sleep(self._chance.uniform(0.2, 3.0))
        finally:
            self.over.set()

    def _program(self) -> Program:
        cluster = self._cluster
        kind = self._chance.choice(("scheduler", "service", "machine", "machine"))
        if kind == "scheduler":
            return cluster.scheduler
        return self._chance.choice(cluster.services if kind == "service" else cluster.machines)

    def _kill_worker(self) -> str:
        """SIGKILL for a process that carries shards; its parent lives."""
        self._chance.choice(self._cluster.machines).kill_child(self._chance)
        return "worker killed"

    def _kill_program(self) -> str:
        program = self._program()
        program.kill()
        time.sleep(self._chance.uniform(0, 1))
        program.start()
        return f"{program.kind} killed"

    def _stop_program(self) -> str:
        program = self._program()
        program.suspend()
        time.sleep(self._chance.uniform(0, self._stop_seconds))
        program.resume()
        return f"{program.kind} stopped for a while"

    def _end_program(self) -> str:
        program = self._program()
        program.stop()
        program.start()
        return f"{program.kind} asked to end"

    def _restart_database(self) -> str:
        self._server.stop(self._chance.choice(("fast", "immediate")))
        time.sleep(self._chance.uniform(0, 1))
        self._server.start()
        return "PostgreSQL restarted"


def jobs(cluster: Cluster, objects: int, over: threading.Event) -> Iterator[list[str]]:
    """Jobs over the whole bucket, one after the other, until the storm is over, and one that
    deletes everything; of each, what was wrong."""
    prefixes = [f"d/{folder}/" for folder in range(FOLDERS)]
    held = False
    while held or not over.is_set():
        held = not held
        hold = {"putObjectHold": {"temporaryHold": "SET" if held else "UNSET"}}
        job = cluster.done(cluster.create(prefixes, hold), JOB_SECONDS)
        found = wrong(job, objects)
        if (there := cluster.held()) != (objects if held else 0):
            found.append(f"{there} objects are held after {hold}")
        yield found
    job = cluster.done(cluster.create(prefixes, {"deleteObject": {}}), JOB_SECONDS)
    found = wrong(job, objects)
    if left := cluster.left():
        found.append(f"{left} objects are left")
    yield found


def wrong(job: dict[str, Any], objects: int) -> list[str]:
    """What a job has miscounted."""
    found = counters(job)
    counted = (found.get("totalObjectCount", 0), found.get("succeededObjectCount", 0))
    if job["state"] == "SUCCEEDED" and counted == (objects, objects):
        return []
    return [f"{job['name']} is {job['state']} with {found} of {objects}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blows", type=int, default=200)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--stop-seconds", type=float, default=30.0)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with running() as server, tempfile.TemporaryDirectory(prefix="longshore-") as directory:
        assert server is not None, "PostgreSQL is not installed"
        cluster = Cluster(Path(directory), server.new_database(), services=2, machines=2, workers=2)
        storm = Storm(cluster, server, random.Random(seed), given.stop_seconds)
        number, faults = 0, list[str]()
        try:
            cluster.fill(given.objects, FOLDERS)
            cluster.start()
            thread = threading.Thread(target=storm.run, args=(given.blows,))
            thread.start()
            for found in jobs(cluster, given.objects, storm.over):
                number += 1
                faults += found
                print(f"job {number}, {sum(storm.dealt.values())} blows: {found or 'right'}")
            thread.join()
        except AssertionError as error:  # what did not happen in time
            faults.append(str(error))
            print(f"WRONG: {error}")
        finally:
            cluster.close()
    for kind, count in sorted(storm.dealt.items()):
        print(f"{count:5} {kind}")
    print(f"{sum(storm.dealt.values())} blows, {number} jobs, {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
