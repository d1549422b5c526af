"""A real service with a bucket full of objects, and what a test may do to its processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from longshore.store import Bucket, NewObject
from tests.service import Service, counters

HOLD = {"putObjectHold": {"temporaryHold": "SET"}}
GROUPS = 8
ALL = {"prefixList": {"includedObjectPrefixes": [f"d/{group}/" for group in range(GROUPS)]}}
"""As many shards as two workers carry at a time."""


def load(service: Service, objects: int) -> None:
    """A bucket ``b`` with so many objects in GROUPS folders."""

    async def fill() -> None:
        await service.store.create_bucket(Bucket(name="b", create_time_us=0))
        new = (
            NewObject(name=f"d/{number % GROUPS}/{number:06d}", content=b"cargo")
            for number in range(objects)
        )
        await service.store.write_objects("b", new)

    asyncio.run(fill())


def begin(service: Service) -> str:
    """A job over the whole bucket that has made some progress; gives its operation's name."""
    service.until(lambda: service.http.get("/readyz").status_code == 200, 30, "be ready")
    operation = service.create("b", ALL, HOLD)
    service.until(lambda: done_by(service, operation) > 0, 30, "make progress")
    return operation


def done_by(service: Service, operation: str) -> int:
    return counters(service.job_of(operation)).get("succeededObjectCount", 0)


def end(service: Service, operation: str, objects: int) -> None:
    """The job ends, with each object counted once."""
    job = service.done(operation, 90)
    assert job["state"] == "SUCCEEDED", job
    assert counters(job) == {
        "totalObjectCount": objects,
        "succeededObjectCount": objects,
        "totalBytesFound": 5 * objects,
    } | {key: value for key, value in counters(job).items() if key.startswith("totalBytes")}
    held = service.listing("b", "d/", ("temporary_hold",)).columns["temporary_hold"]
    assert sum(held) == objects


def alive(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    return state(pid) not in {"", "Z"}


def state(pid: int) -> str:
    """The kernel's letter for what a process does; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def suspend(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


Serve = Callable[..., Service]
