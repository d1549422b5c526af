"""How long a cancel takes to reach the last call: from its reply to the last request that leaves
for the store, with all places of all workers taken.

    python -m bench.cancel [--cluster] [--rounds 100] [--workers 2] [--shards 32]

Run from the top of the repository. The service is real, as are PostgreSQL and Dask with --cluster;
its workers note, in a file each, when they send a call that changes objects (the monotonic clock is
the same for all processes of a machine).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from longshore.database import Database, deals
from longshore.settings import Settings, StoreSettings
from longshore.store import Bucket, NewObject, Stores
from tests.cluster.harbour import Cluster
from tests.services.postgresql import running

OBJECTS = 400
RATE = 2000
NOTES = """
import os, struct, sys, time
if {"longshore.runners.local", "longshore.runners.dask"} & set(sys.orig_argv):
    from longshore.stores.local.store import LocalStore
    notes = open(os.path.join(os.environ["NOTES"], str(os.getpid())), "ab", buffering=0)
    send = LocalStore.patch_objects
    async def noted(self, *args, **options):
        notes.write(struct.pack("<d", time.monotonic()))
        return await send(self, *args, **options)
    LocalStore.patch_objects = noted
"""


class Service(NamedTuple):
    """Where it answers, its database, and where its store has its files."""

    base: str
    database: Path | str
    objects: Path


def sent(notes: Path) -> list[float]:
    """When each call was sent, of all workers."""
    data = b"".join(file.read_bytes() for file in notes.iterdir())
    return [moment for (moment,) in struct.iter_unpack("<d", data)]


async def load(objects: Path, buckets: int) -> None:
    settings = StoreSettings(name="main", kind="local", options={"directory": str(objects)})
    stores = Stores(Settings(data_dir=objects, stores={"main": settings}))
    store = stores.open("main")
    for number in range(buckets):
        await store.create_bucket(Bucket(name=f"bucket-{number}", create_time_us=0))
        new = (NewObject(name=f"object-{n:06d}", content=b"x") for n in range(OBJECTS))
        await store.write_objects(f"bucket-{number}", new)
    await stores.close()


@contextlib.contextmanager
def single(directory: Path, workers: int, shards: int) -> Iterator[Service]:
    """`longshore serve` with a database of its own."""
    data_dir, objects = directory / "data", directory / "objects"
    config, log = directory / "longshore.toml", directory / "log"
    config.write_text(
        f'data_dir = "{data_dir}"\nworkers = {workers}\nshards_at_once = {shards}\n'
        '[rest]\nlisten = "127.0.0.1:0"\n[grpc]\nlisten = "127.0.0.1:0"\n'
        f'[stores.main]\nkind = "local"\nbuckets = ["*"]\ndirectory = "{objects}"\n'
        f"max_objects_per_second = {RATE}\n"
    )
    with log.open("w") as output:
        command = (sys.executable, "-m", "longshore", "serve", "--config", str(config))
        service = subprocess.Popen(command, stderr=output)
    try:
        until(lambda: "rest=" in log.read_text())
        base = log.read_text().partition("rest=")[2].split()[0]
        until(lambda: answers(base))
        yield Service(base, data_dir / "longshore.sqlite", objects)
    finally:
        service.terminate()
        service.wait()


@contextlib.contextmanager
def cluster(directory: Path, workers: int, shards: int) -> Iterator[Service]:
    """A cluster of one machine."""
    with running() as server:
        if server is None:
            raise SystemExit("PostgreSQL is not installed")
        url = server.new_database()
        started = Cluster(directory, url, workers=workers, shards_at_once=shards, rate=RATE)
        try:
            started.start()
            base = f"http://127.0.0.1:{started.services[0].port}"
            yield Service(base, url, directory / "objects")
        finally:
            started.close()


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the service does not do what it should")
        time.sleep(0.005)


def one_round(http: httpx.Client, service: Service, notes: Path, shards: int, number: int) -> float:
    """Milliseconds from the reply to the last call that was sent; below 0: it came before."""
    buckets = [{"bucket": f"bucket-{n}", "prefixList": {}} for n in range(shards)]
    job = {
        "bucketList": {"buckets": buckets},
        "putMetadata": {"customMetadata": {"round": str(number)}},
    }
    before = len(sent(notes))
    operation = http.post("/jobs", json=job).raise_for_status().json()["name"].rpartition("/")[2]
    until(lambda: asyncio.run(carried(service.database)) >= shards)
    until(lambda: len(sent(notes)) > before)  # a part of a cap is good some time after it grew
    time.sleep(random.random())
    http.post(f"/operations/{operation}:cancel").raise_for_status()
    replied = time.monotonic()
    until(lambda: http.get(f"/operations/{operation}").json().get("done"))
    return (max(sent(notes)) - replied) * 1e3


async def carried(where: Path | str) -> int:
    """How many shards of stores are carried."""
    database = Database(where)
    found = await database.read(deals.carried_by)
    await database.close()
    return sum(counts.total() - counts[None] for counts in found.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, default=32, help="of each worker")
    parser.add_argument("--cluster", action="store_true")
    options = parser.parse_args()
    shards = options.workers * options.shards
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "sitecustomize.py").write_text(NOTES)
        notes = directory / "notes"
        notes.mkdir()
        path = os.pathsep.join([name, os.environ.get("PYTHONPATH", "")])
        os.environ |= {"PYTHONPATH": path, "NOTES": str(notes)}
        asyncio.run(load(directory / "objects", shards))
        start = cluster if options.cluster else single
        times = []
        with start(directory, options.workers, options.shards) as service:
            base = f"{service.base}/v1/projects/p/locations/global"
            with httpx.Client(base_url=base, timeout=30) as http:
                for number in range(options.rounds):
                    times.append(one_round(http, service, notes, shards, number))
                    print(f"\r{number + 1} of {options.rounds}", end="", file=sys.stderr)
    times.sort()
    print(file=sys.stderr)
    print(
        f"{options.rounds} cancels of {shards} shards on {options.workers} workers, ms from the"
        f" reply to the last call: median {statistics.median(times):.0f},"
        f" p99 {times[int(0.99 * (len(times) - 1))]:.0f}, worst {times[-1]:.0f}"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(base: str) -> bool:
    """Whether the service there is ready."""
    try:
        return httpx.get(f"{base}/readyz").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
