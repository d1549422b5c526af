"""How long a cancel takes to reach the last call: from its reply to the last request that leaves
for the store, with 64 shards running on all workers.

Run as ``python -m bench.cancel`` from the top of the repository. The service is real; its workers
note, in a file each, when they send a call that changes objects (the monotonic clock is the same
for all processes of a machine).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from longshore.settings import Settings
from longshore.store import Bucket, NewObject, Stores

SHARDS = 64
OBJECTS = 400
NOTES = """
import os, struct, sys, time
if "longshore.runners.local" in sys.orig_argv:
    from longshore.stores.local.store import LocalStore
    notes = open(os.path.join(os.environ["NOTES"], str(os.getpid())), "ab", buffering=0)
    send = LocalStore.patch_objects
    async def noted(self, *args, **options):
        notes.write(struct.pack("<d", time.monotonic()))
        return await send(self, *args, **options)
    LocalStore.patch_objects = noted
"""


def sent(notes: Path) -> list[float]:
    """When each call was sent, of all workers."""
    data = b"".join(file.read_bytes() for file in notes.iterdir())
    return [moment for (moment,) in struct.iter_unpack("<d", data)]


async def load(data_dir: Path) -> None:
    stores = Stores(Settings(data_dir=data_dir))
    store = stores.open("local")
    for number in range(SHARDS):
        await store.create_bucket(Bucket(name=f"bucket-{number}", create_time_us=0))
        new = (NewObject(name=f"object-{n:06d}", content=b"x") for n in range(OBJECTS))
        await store.write_objects(f"bucket-{number}", new)
    await stores.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the service does not do what it should")
        time.sleep(0.005)


def one_round(http: httpx.Client, database: sqlite3.Connection, notes: Path, number: int) -> float:
    """Milliseconds from the reply to the last call that was sent; below 0: it came before."""
    job = {
        "bucketList": {
            "buckets": [{"bucket": f"bucket-{n}", "prefixList": {}} for n in range(SHARDS)]
        },
        "putMetadata": {"customMetadata": {"round": str(number)}},
    }
    operation = http.post("/jobs", json=job).raise_for_status().json()["name"].rpartition("/")[2]
    running = "SELECT count(*) FROM shards WHERE owner IS NOT NULL AND total > 0"
    before = len(sent(notes))
    until(lambda: database.execute(running).fetchone()[0] >= SHARDS)
    until(lambda: len(sent(notes)) > before)  # a part of a cap is good a second after it grew
    time.sleep(random.random())
    http.post(f"/operations/{operation}:cancel").raise_for_status()
    replied = time.monotonic()
    until(lambda: http.get(f"/operations/{operation}").json().get("done"))
    return (max(sent(notes)) - replied) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "sitecustomize.py").write_text(NOTES)
        notes = directory / "notes"
        notes.mkdir()
        data_dir = directory / "data"
        asyncio.run(load(data_dir))
        port = free_port()
        config = directory / "longshore.toml"
        config.write_text(
            f'data_dir = "{data_dir}"\nworkers = {options.workers}\n'
            f"shards_at_once = {SHARDS // options.workers}\n"
            f'[rest]\nlisten = "127.0.0.1:{port}"\n'
            '[grpc]\nlisten = "127.0.0.1:0"\n'
            '[stores.local]\nkind = "local"\nmax_objects_per_second = 2000\n'
        )
        service = subprocess.Popen(
            [sys.executable, "-m", "longshore", "serve", "--config", str(config)],
            env=os.environ | {"PYTHONPATH": str(directory), "NOTES": str(notes)},
            stderr=subprocess.DEVNULL,
        )
        try:
            base = f"http://127.0.0.1:{port}/v1/projects/p/locations/global"
            with httpx.Client(base_url=base, timeout=30) as http:
                until(lambda: answers(port))
                database = sqlite3.connect(data_dir / "longshore.sqlite")
                times = []
                for number in range(options.rounds):
                    times.append(one_round(http, database, notes, number))
                    print(f"\r{number + 1} of {options.rounds}", end="", file=sys.stderr)
        finally:
            service.terminate()
            service.wait()
    times.sort()
    print(file=sys.stderr)
    print(
        f"{options.rounds} cancels of {SHARDS} shards on {options.workers} workers, ms from the"
        f" reply to the last call: median {statistics.median(times):.0f},"
        f" p99 {times[int(0.99 * (len(times) - 1))]:.0f}, worst {times[-1]:.0f}"
    )


def answers(port: int) -> bool:
    """Whether the service on that port is ready."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
