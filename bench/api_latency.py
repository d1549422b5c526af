"""How long GetOperation takes while the workers are saturated.

    python -m bench.api_latency [--seconds 20] [--workers 2] [--per-second 50] [--jobs 100]

From the top of the repository: the real ``longshore serve`` on a local store, with more dry runs
queued than it can do in the time; dry runs, because they wait least for the disk. One client on
one connection asks for the operation of a running job at fixed times: a late answer does not delay
the next question, so it counts as late as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from longshore.settings import cores
from longshore.store import Bucket, NewObject
from tests.service import Service

BUCKETS = 8
OBJECTS = 20_000
HOLDS: list[dict[str, Any]] = [
    {"putObjectHold": {"temporaryHold": value}} for value in ("SET", "UNSET")
]
WHOLE = {"prefixList": {"includedObjectPrefixes": ["d/"]}}


async def fill(service: Service) -> None:
    for bucket in range(BUCKETS):
        await service.store.create_bucket(Bucket(name=f"b{bucket}", create_time_us=0))
        new = (NewObject(name=f"d/{number:06d}", content=b"cargo") for number in range(OBJECTS))
        await service.store.write_objects(f"b{bucket}", new)


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The reply to one request, header and body."""
    connection.sendall(request)
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += connection.recv(65536)
    head, _, body = reply.partition(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 200"), reply
    return body


def latencies(port: int, operation: str, seconds: float, per_second: float) -> list[float]:
    """Of each question, from when it was due to its answer, in milliseconds."""
    request = f"GET /v1/{operation} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    found = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = began = time.monotonic()
        while due < began + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            ask(connection, request)
            found.append(1000 * (time.monotonic() - due))
            due += 1 / per_second
    return sorted(found)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def report(what: str, found: list[float], busy: list[float]) -> None:
    cells = (what, *(f"{at(found, share):.1f}" for share in (0.5, 0.9, 0.99, 1.0)))
    used = ", ".join(f"{one:.2f}" for one in busy)
    print(f"| {' | '.join(cells)} | {used} |", flush=True)


def measure(what: str, service: Service, operation: str, given: argparse.Namespace) -> None:
    pids = [service.pid, *service.workers()]
    before = [cpu_seconds(pid) for pid in pids]
    found = latencies(service.port, operation, given.seconds, given.per_second)
    busy = [
        (cpu_seconds(pid) - used) / given.seconds for pid, used in zip(pids, before, strict=True)
    ]
    report(what, found, busy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--per-second", type=float, default=50)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=cores())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory), workers=given.workers)
        asyncio.run(fill(service))
        service.start()
        service.until(lambda: service.http.get("/readyz").status_code == 200, 30, "be ready")
        print("| GetOperation, ms | median | p90 | p99 | most | cores used by API, workers |")
        print("|---|---|---|---|---|---|")
        buckets = [f"b{bucket}" for bucket in range(BUCKETS)]
        operation = service.create(buckets, WHOLE, HOLDS[0])
        service.done(operation, 120)
        measure("idle", service, operation, given)
        for number in range(given.jobs):
            options = HOLDS[1 - number % 2] | {"dryRun": True}
            operation = service.create(buckets, WHOLE, options)
        measure("workers saturated", service, operation, given)
        assert not service.get(operation).get("done"), "the work was not enough"
        service.kill()
        service.close()


if __name__ == "__main__":
    main()
