"""How many small requests a second the emulator answers on one core, and how soon it is there.

    python -m bench.emulator [--seconds 3] [--repeat 3] [--connections 16]

From the top of the repository: the real ``longshore emulator`` on one core, in memory and in a
directory; on another one a client that reads as little of the replies as it can, with a request
under way on each of its connections. Both rates are given: by the clock, and by the CPU time that
the emulator has used, which says the same on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.api_latency import ask, cpu_seconds

LAST_LINE = "# Ctrl-C ends it.\n"
NAMES = 1000
CONTENT = b"x" * 1000
BUCKET = b'{"name": "bench", "softDeletePolicy": {"retentionDurationSeconds": "0"}}'
"""What is overwritten is gone: nothing grows while this measures."""


@contextmanager
def emulator(*options: str) -> Iterator[tuple[int, int, float]]:
    """Port, process id, and how long it took to be there."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "longshore", "emulator", "--port=0", "--grpc-port=0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = "".join(iter(process.stdout.readline, LAST_LINE))
        took = time.monotonic() - begun
        _, _, rest = told.partition("STORAGE_EMULATOR_HOST=http://127.0.0.1:")
        try:
            yield int(rest.split()[0]), process.pid, took
        finally:
            process.terminate()


def request(verb: str, path: str, body: bytes = b"", content_type: str = "text/plain") -> bytes:
    head = f"{verb} {path} HTTP/1.1\r\nHost: emulator\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def media(number: int) -> bytes:
    path = f"/upload/storage/v1/b/bench/o?uploadType=media&name=d/{number % NAMES}"
    return request("POST", path, CONTENT)


def multipart(number: int) -> bytes:
    resource = json.dumps({"name": f"d/{number % NAMES}", "metadata": {"k": "v"}}).encode()
    part = b"--=x=\r\ncontent-type: %b\r\n\r\n%b\r\n"
    body = part % (b"application/json", resource) + part % (b"text/plain", CONTENT) + b"--=x=--"
    path = "/upload/storage/v1/b/bench/o?uploadType=multipart"
    return request("POST", path, body, 'multipart/related; boundary="=x="')


def metadata(number: int) -> bytes:
    return request("GET", f"/storage/v1/b/bench/o/d%2F{number % NAMES}")


def contents(number: int) -> bytes:
    return request("GET", f"/storage/v1/b/bench/o/d%2F{number % NAMES}?alt=media")


KINDS: dict[str, Callable[[int], bytes]] = {
    "upload, media": media,
    "upload, multipart": multipart,
    "metadata": metadata,
    "content": contents,
}


def receive(connection: socket.socket) -> None:
    """Read one reply, which must be a success."""
    reply = connection.recv(65536)
    assert reply.startswith(b"HTTP/1.1 200"), reply
    end = reply.index(b"\r\n\r\n") + 4
    at = reply.index(b"content-length: ") + 16
    missing = end + int(reply[at : reply.index(b"\r", at)]) - len(reply)
    while missing > 0:
        missing -= len(connection.recv(65536))


def rates(port: int, pid: int, make: Callable[[int], bytes], seconds: float, connections: int):
    """Requests a second, by the clock and by the CPU time of the emulator."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for one in sockets:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    prepared = itertools.cycle([make(number) for number in range(NAMES)])
    for one in sockets:
        one.sendall(next(prepared))
    begun, used, count = time.monotonic(), cpu_seconds(pid), 0
    while time.monotonic() < begun + seconds:
        for one in sockets:
            receive(one)
            one.sendall(next(prepared))
        count += connections
    took, used = time.monotonic() - begun, cpu_seconds(pid) - used
    for one in sockets:
        receive(one)
        one.close()
    return count / took, count / used


def measure(options: list[str], given: argparse.Namespace) -> None:
    with emulator(*options) as (port, pid, _):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})
        with socket.create_connection(("127.0.0.1", port)) as connection:
            ask(connection, request("POST", "/storage/v1/b", BUCKET))
            for number in range(NAMES):
                ask(connection, multipart(number))
        for name, make in KINDS.items():
            found = [
                rates(port, pid, make, given.seconds, given.connections)
                for _ in range(given.repeat)
            ]
            by_clock, by_cpu = (max(column) for column in zip(*found, strict=True))
            where = options[0] if len(options) == 1 else "--data"
            print(f"| {where} | {name} | {by_clock:,.0f} | {by_cpu:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    starts = []
    for _ in range(given.repeat):
        with emulator("--memory") as (_, _, took):
            starts.append(took)
    print(f"there after {min(starts):.2f} s (most: {max(starts):.2f})\n")
    os.sched_setaffinity(0, {1})
    print("| | | a second | a second of CPU |\n|---|---|---|---|")
    measure(["--memory"], given)
    with tempfile.TemporaryDirectory() as directory:
        measure(["--data", directory], given)


if __name__ == "__main__":
    main()
