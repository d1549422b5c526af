"""Kill, stop and restart every kind of process of a cluster, again and again, while jobs run.

    python -m tests.cluster.chaos [--blows 200] [--objects 200000] [--seed N]
        [--lease-seconds 10] [--stop-seconds 30]

The jobs are of all kinds, over a local store, a remote one and, where it is installed, a Ceph; the
latter two keep journals. Prints what was done and found; the exit status is 1 if an object was
lost, counted twice, or left as it was, if a job hung, or if somebody changed an object whose lease
had ended. A seed gives the same blows, not the same moments.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.cluster.elsewhere import emulated
from tests.cluster.gateways import Gateways, gateways
from tests.cluster.harbour import FOLDERS, Cluster
from tests.cluster.jobs import Mix
from tests.cluster.leases import Record, late
from tests.cluster.storm import Storm
from tests.services.postgresql import running

MACHINES = 2
SHARES = {"r": 5, "ceph": 20}
"""One in so many objects is in that bucket; the others are in "b"."""
SURE_SECONDS = 3.0
"""Where calls have less time, they may be given up, and so made again, on a busy machine."""
LATE_SECONDS = 1.0
"""By so much the journal's own process may be late on a busy machine; who was stopped, and did not
know that its lease had ended, would come later than that."""


class Voyage:
    """A cluster in a storm, and the books that must balance."""

    def __init__(self, given: argparse.Namespace, cluster: Cluster) -> None:
        self._cluster = cluster
        self._given = given
        self.late: dict[str, list[float]] = {}
        self.calls: Counter[str] = Counter()
        self.number = 0
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
        # What a network, or a gateway that stands still, holds back may come until then, and where
        # there are no preconditions undo what the next round does (docs/stores.md).
        with storm.calm():
            sent = {store.name: store.taken() for store in self._cluster.elsewhere.values()}
        places = [self._cluster.place(machine) for machine in self._cluster.machines]
        rows = record.taken()
        for store, its in sent.items():
            found = late([row for row in rows if row.store == store], its, places)
            self.calls[store] += sum(len(one.names) for one in its)
            self.late.setdefault(store, []).extend(found)
            if any(seconds > LATE_SECONDS for seconds in found):
                said = f"{store}: {len(found)} changes by whose lease had ended: {max(found)} s"
                faults = [*faults, said]
        self.faults += faults
        told = faults or "right"
        print(f"round {self.number}, {storm.dealt.total()} blows: {told}", flush=True)


def sail(given: argparse.Namespace, seed: int, directory: Path) -> bool:
    """One storm, told to whoever reads; gives whether the books balance."""
    chance = random.Random(seed)
    objects = {
        bucket: given.objects // share // FOLDERS * FOLDERS for bucket, share in SHARES.items()
    }
    objects["b"] = (given.objects - sum(objects.values())) // FOLDERS * FOLDERS
    began = time.monotonic()
    shared, call_seconds = given.ceph or directory, min(10.0, given.lease_seconds / 3)
    with ExitStack() as stack:
        server = stack.enter_context(running())
        assert server is not None, "PostgreSQL is not installed"
        remote = stack.enter_context(emulated(directory, objects["r"]))
        ceph = stack.enter_context(
            gateways(shared, directory, MACHINES, objects["ceph"], call_seconds)
        )
        if ceph is None:
            del objects["ceph"]
        cluster = Cluster(
            directory,
            server.new_database(),
            services=2,
            machines=MACHINES,
            workers=2,
            lease_seconds=given.lease_seconds,
            elsewhere=[remote] if ceph is None else [remote, ceph],
        )
        storm = Storm(cluster, server, ceph, chance, given.stop_seconds)
        voyage = Voyage(given, cluster)
        mix = None
        try:
            cluster.fill(objects["b"])
            mix = Mix(cluster, objects, random.Random(seed + 1))
            voyage.sail(storm, mix)
        except AssertionError as error:  # what did not happen in time
            voyage.faults.append(str(error))
            print(f"WRONG: {error}\n{cluster.logs()}")
        finally:
            storm.end()
            cluster.close()
    if ceph is not None and call_seconds >= SURE_SECONDS:
        voyage.faults += [f"ceph: again without a cause: {what}" for what in ceph.repeated]
    _tell_of(storm, voyage, mix, ceph)
    print(f"{storm.dealt.total()} blows, {time.monotonic() - began:.0f} s")
    faults = voyage.faults + storm.faults
    print("\n".join(faults) if faults else "nothing lost, nothing double")
    return not faults


def _tell_of(storm: Storm, voyage: Voyage, mix: Mix | None, ceph: Gateways | None) -> None:
    for kind, count in sorted(storm.dealt.items()):
        print(f"{count:5} {kind}")
    if mix is not None:
        print(f"{mix.jobs} jobs, {mix.counted} objects counted as done")
        print(f"{mix.uncounted} done by jobs that were cancelled, and not counted as done")
    for store, found in voyage.late.items():
        print(
            f"{store}: {voyage.calls[store]} changes in the journal, {len(found)} late,"
            f" by {max(found, default=0.0):.2f} s at most"
        )
    if ceph is not None:
        print(f"ceph: {ceph.changed} of them done, {len(ceph.repeated)} again without a cause")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blows", type=int, default=200)
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--lease-seconds", type=float, default=10.0)
    parser.add_argument("--stop-seconds", type=float, default=30.0)
    parser.add_argument("--ceph", type=Path, help="directory by which a running Ceph is shared")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="longshore-") as directory:
        return 0 if sail(given, seed, Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
