"""What a second worker adds, and what memory a job of any size takes.

Run as ``python -m bench.workers`` from the top of the repository. The service is real. Its store
("simulated") has as many objects as are asked for and keeps none of them: a listing makes up names,
and a call burns so much CPU an object. ``--store local``: objects of the local store, in 8 buckets.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from bench.cancel import answers, until

from longshore.settings import Settings
from longshore.store import Bucket, NewObject, Stores
from tests.service import free_port

BUCKETS = 8
STORE = """
import bisect, os, sys, time
if "longshore.runners.local" in sys.orig_argv:
    from longshore.stores import memory
    from longshore.store import Batch, Bucket, Outcome

    OBJECTS = int(os.environ["OBJECTS"])
    SECONDS = float(os.environ["CPU_US"]) / 1e6

    named = "object-{:012d}".format

    class Simulated(memory.MemoryStore):
        async def get_bucket(self, bucket):
            return Bucket(name=bucket, create_time_us=0)

        async def list_objects(self, bucket, *, prefix="", after="", before=None, columns=(),
                               page_size=1000, **more):
            number = bisect.bisect_right(range(OBJECTS), after, key=named)
            while number < OBJECTS:
                last = min(OBJECTS, number + page_size)
                names = [*map(named, range(number, last))]
                if before is not None and names[-1] >= before:
                    names = [name for name in names if name < before]
                if not names:
                    return
                count = len(names)
                yield Batch(names=names, generations=[1] * count, metagenerations=[1] * count,
                            sizes=[1] * count, columns={name: [True] * count for name in columns})
                if count < page_size:
                    return
                number = last

        async def delete_objects(self, bucket, batch, *, permanent):
            end = time.thread_time() + len(batch) * SECONDS
            while time.thread_time() < end:
                pass
            return Outcome()

    memory.MemoryStore = Simulated
"""


async def load(data_dir: Path, objects: int) -> None:
    stores = Stores(Settings(data_dir=data_dir))
    store = stores.open("local")
    for number in range(BUCKETS):
        await store.create_bucket(Bucket(name=f"bucket-{number}", create_time_us=0))
        new = (NewObject(name=f"object-{n:012d}", content=b"x") for n in range(objects // BUCKETS))
        await store.write_objects(f"bucket-{number}", new)
    await stores.close()


@contextmanager
def service(
    directory: Path, workers: int, kind: str, objects: int, cpu_us: float
) -> Iterator[tuple[httpx.Client, int]]:
    """A running service: its API, and its process."""
    (directory / "sitecustomize.py").write_text(STORE)
    port = free_port()
    config = directory / "longshore.toml"
    config.write_text(
        f'data_dir = "{directory / "data"}"\nworkers = {workers}\n'
        f'[rest]\nlisten = "127.0.0.1:{port}"\n[grpc]\nlisten = "127.0.0.1:0"\n'
        f'[stores.main]\nkind = "{kind}"\nbuckets = ["*"]\n'
    )
    more = {"OBJECTS": str(objects), "CPU_US": str(cpu_us), "PYTHONPATH": str(directory)}
    command = [sys.executable, "-m", "longshore", "serve", "--config", str(config)]
    process = subprocess.Popen(command, env=os.environ | more, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            until(lambda: answers(f"http://127.0.0.1:{port}"))
            yield http, process.pid
    finally:
        process.terminate()
        process.wait()


def peaks(pid: int) -> list[float]:
    """The most memory of each worker, in MB of a million bytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = [Path(f"/proc/{child}/status").read_text() for child in children]
    return [int(re.findall(r"VmHWM:\s+(\d+)", one)[0]) * 1024 / 1e6 for one in status]


def run(
    http: httpx.Client, buckets: int, what: dict[str, Any], seconds: float
) -> tuple[int, float]:
    """Objects counted, and seconds from the creation to the end."""
    names = [f"bucket-{number}" for number in range(buckets)]
    job = {"bucketList": {"buckets": [{"bucket": one, "prefixList": {}} for one in names]}, **what}
    parent = "/v1/projects/p/locations/global"
    began = time.monotonic()
    made = http.post(f"{parent}/jobs", json=job).raise_for_status().json()
    until(lambda: "completeTime" in _job(http, made), seconds)
    took = time.monotonic() - began
    job = _job(http, made)
    assert job["state"] == "SUCCEEDED", job
    return int(job["counters"]["totalObjectCount"]), took


def _job(http: httpx.Client, operation: dict[str, Any]) -> dict[str, Any]:
    name = operation["metadata"]["job"]["name"]
    time.sleep(0.05)
    answer: dict[str, Any] = http.get(f"/v1/{name}").raise_for_status().json()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--store", choices=["simulated", "local"], default="simulated")
    parser.add_argument("--objects", type=int, default=500_000)
    parser.add_argument("--cpu-us", type=float, default=20.0, help="of a call, an object")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    local = given.store == "local"
    what: dict[str, Any] = {"deleteObject": {}, "dryRun": given.dry_run}
    rates = []
    print(
        "| workers | objects | seconds | objects a second | peak of a worker, MB |\n"
        "|---|---|---|---|---|"
    )
    for workers in given.workers:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            if local:
                asyncio.run(load(directory / "data", given.objects))
            kind = "local" if local else "memory"
            with service(directory, workers, kind, given.objects, given.cpu_us) as (http, pid):
                count, took = run(http, BUCKETS if local else 1, what, 3600)
                memory = max(peaks(pid))
        rates.append(count / took)
        print(
            f"| {workers} | {count:,} | {took:.1f} | {rates[-1]:,.0f} | {memory:.1f} |", flush=True
        )
    if len(rates) > 1:
        ratio = rates[-1] / rates[0]
        print(f"\n{given.workers[-1]} workers: {ratio:.2f} times as fast as {given.workers[0]}.")


if __name__ == "__main__":
    main()
