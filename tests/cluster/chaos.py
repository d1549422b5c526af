"""Kill, stop and restart every kind of process of a cluster, again and again, while jobs run.

    python -m tests.cluster.chaos [--blows 200] [--objects 200000] [--seed N]
        [--lease-seconds 10] [--stop-seconds 30]

The jobs are of all kinds, over a local store and a remote one, which keeps a journal. Prints what
was done and found; the exit status is 1 if an object was lost, counted twice, or left as it was, if
a job hung, or if somebody changed an object whose lease had ended. A seed gives the same blows, not
the same moments.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.cluster.harbour import (
    FIRST_ADDRESS,
    FOLDERS,
    START_SECONDS,
    Cluster,
    Program,
)
from tests.cluster.jobs import Mix
from tests.cluster.leases import Record, late
from tests.cluster.storm import Storm
from tests.service import free_port
from tests.services.postgresql import running

MACHINES = 2
REMOTE_SHARE = 5
"""One in so many objects is in the remote store."""
LATE_SECONDS = 1.0
"""By so much the journal's own process may be late on a busy machine; who was stopped, and did not
know that its lease had ended, would come later than that."""


class Voyage:
    """A cluster in a storm, and the books that must balance."""

    def __init__(self, given: argparse.Namespace, cluster: Cluster) -> None:
        self._cluster = cluster
        self._given = given
        self.late: list[float] = []
        self.calls = self.number = 0
        self.faults: list[str] = []

    def sail(self, storm: Storm, mix: Mix) -> None:
        """Jobs until the storm is over, and at last those that delete everything."""
        cluster = self._cluster
        cluster.start()
        record = Record(cluster.database)
        for machine in cluster.machines:
            cluster.until(lambda one=machine: cluster.place(one), 60, "begin")
        storm.begin(self._given.blows)
        while not storm.over.is_set():
            self._tell(storm, mix.round(), record)
        self._tell(storm, mix.round(), record)
        self._tell(storm, mix.end(), record)

    def _tell(self, storm: Storm, faults: list[str], record: Record) -> None:
        self.number += 1
        calls = httpx.post(f"{self._cluster.remote_url(0)}/journal", timeout=60).json()
        places = {
            f"127.0.0.{FIRST_ADDRESS + number}": self._cluster.place(machine)
            for number, machine in enumerate(self._cluster.machines)
        }
        found = late(record.taken(), calls, places)
        self.calls += sum(len(names) for _, _, names in calls)
        self.late += found
        if any(seconds > LATE_SECONDS for seconds in found):
            faults = [*faults, f"{len(found)} changes by whose lease had ended: {max(found)} s"]
        self.faults += faults
        told = faults or "right"
        print(f"round {self.number}, {storm.dealt.total()} blows: {told}", flush=True)


@contextmanager
def remote(directory: Path, objects: int) -> Iterator[int]:
    """The port of a running remote store with so many objects in its bucket."""
    port = free_port()
    command = [sys.executable, "-m", "tests.cluster.remote", str(port), "r", str(objects)]
    program = Program("remote", [*command, str(FOLDERS)], directory / "remote.log", {})
    program.start()
    deadline = time.monotonic() + 2 * START_SECONDS
    try:
        while True:
            try:
                httpx.post(f"http://127.0.0.1:{port}/journal")
                break
            except httpx.TransportError:
                assert program.running(), program.log()
                assert time.monotonic() < deadline, "the remote store does not begin"
                time.sleep(0.1)
        yield port
    finally:
        program.close()


def sail(given: argparse.Namespace, seed: int, directory: Path) -> bool:
    """One storm, told to whoever reads; gives whether the books balance."""
    chance = random.Random(seed)
    objects = {"r": given.objects // REMOTE_SHARE // FOLDERS * FOLDERS}
    objects["b"] = (given.objects - objects["r"]) // FOLDERS * FOLDERS
    began = time.monotonic()
    with running() as server, remote(directory, objects["r"]) as port:
        assert server is not None, "PostgreSQL is not installed"
        database = server.new_database()
        many = {"services": 2, "machines": MACHINES, "workers": 2}
        cluster = Cluster(
            directory, database, remote=port, lease_seconds=given.lease_seconds, **many
        )
        storm = Storm(cluster, server, chance, given.stop_seconds)
        voyage = Voyage(given, cluster)
        mix = None
        try:
            cluster.fill(objects["b"])
            mix = Mix(cluster, objects, random.Random(seed + 1))
            voyage.sail(storm, mix)
        except AssertionError as error:  # what did not happen in time
            voyage.faults.append(str(error))
            print(f"WRONG: {error}")
        finally:
            storm.end()
            cluster.close()
    for kind, count in sorted(storm.dealt.items()):
        print(f"{count:5} {kind}")
    if mix is not None:
        print(f"{mix.jobs} jobs of {given.objects} objects, {mix.counted} counted as done")
        print(f"{mix.uncounted} done by jobs that were cancelled, and not counted as done")
    worst = max(voyage.late, default=0.0)
    print(
        f"{voyage.calls} changes in the journal, {len(voyage.late)} late, by {worst:.2f} s at most"
    )
    print(f"{storm.dealt.total()} blows, {time.monotonic() - began:.0f} s")
    faults = voyage.faults + storm.faults
    print("\n".join(faults) if faults else "nothing lost, nothing double")
    return not faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blows", type=int, default=200)
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--lease-seconds", type=float, default=10.0)
    parser.add_argument("--stop-seconds", type=float, default=30.0)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="longshore-") as directory:
        return 0 if sail(given, seed, Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
