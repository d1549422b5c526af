"""What calls of the API cost the server, and how long they take, out of a million jobs.

    python -m bench.api [--jobs 1000000] [--seconds 3] [--databases sqlite postgresql]

From the top of the repository. The API as ``longshore serve`` composes it, in a process of its own
without workers; another process asks, over REST on raw sockets, over gRPC by grpc.aio. First as
much as some connections make it do: that gives the CPU of a call, and so the calls a second of one
core. Then half of the goals on both transports at once, at fixed times: a late answer does not
delay the next question, so it counts as late as it is. *Waited* is for how much of the time threads
of the server were ready and had no core: where that is much, p99 is that of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import grpc
import uvloop
from bench.api_latency import at, cpu_seconds
from google.cloud import storagebatchoperations_v1 as sbo
from google.longrunning import operations_pb2
from sqlalchemy import Connection, text

from longshore import telemetry
from longshore.api.grpc_server import GrpcServer
from longshore.api.methods import Methods
from longshore.api.rest import App
from longshore.api.server import make_server
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database
from longshore.database.engines import one_connection
from tests.database.many_jobs import PROJECT, START_US, fill
from tests.services.postgresql import running

PARENT = f"projects/{PROJECT}/locations/global"
PREFIXES = {"includedObjectPrefixes": ["tmp/"]}
JOB = {"bucketList": {"buckets": [{"bucket": "b", "prefixList": PREFIXES}]}, "deleteObject": {}}
SERVICE = "google.cloud.storagebatchoperations.v1.StorageBatchOperations"
GOALS = {"GetOperation": 1600.0, "CreateJob": 400.0}
"""Calls a second, the mean of both transports'; at half of that p99 counts."""
CONNECTIONS = {"GetOperation": 16, "CreateJob": 16, "ListJobs": 4}


class Calls:
    """Requests without end, as bytes: those of REST with their headers."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._random = random.Random(1)

    def rest(self, call: str) -> Iterator[bytes]:
        body = json.dumps(JOB).encode()
        posted = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        while True:
            match call:
                case "GetOperation":
                    yield _head("GET", f"/v1/{self._operation()}") + b"\r\n"
                case "ListJobs":
                    yield _head("GET", f"/v1/{PARENT}/jobs") + b"\r\n"
                case _:
                    yield _head("POST", f"/v1/{PARENT}/jobs") + posted + body

    def grpc(self, call: str) -> Iterator[bytes]:
        job = sbo.Job.from_json(json.dumps(JOB))
        create = sbo.CreateJobRequest(parent=PARENT, job=job)
        while True:
            match call:
                case "GetOperation":
                    name = self._operation()
                    yield operations_pb2.GetOperationRequest(name=name).SerializeToString()
                case "ListJobs":
                    request = sbo.ListJobsRequest(parent=PARENT)
                    yield sbo.ListJobsRequest.serialize(request)
                case _:
                    yield sbo.CreateJobRequest.serialize(create)

    def _operation(self) -> str:
        number = self._random.randrange(self._jobs) + 1
        made = START_US + number * 4_000_000
        return f"{PARENT}/operations/operation-{made}-{number * 7919 % 1000003:07}"


def _head(verb: str, target: str) -> bytes:
    return f"{verb} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n".encode()


@dataclass(slots=True)
class Load:
    """What to ask, and how: ``per_second`` of all connections together; 0: as fast as answered."""

    transport: str
    call: str
    port: int
    connections: int
    seconds: float
    jobs: int
    per_second: float = 0.0
    found: list[float] = field(default_factory=list)

    def dues(self, number: int, began: float) -> Iterator[float]:
        """When the questions of one connection are due."""
        if not self.per_second:
            yield from itertools.repeat(0.0)
        step = self.connections / self.per_second
        for index in itertools.count():
            yield began + (index + number / self.connections) * step

    async def run(self) -> None:
        began = time.monotonic()
        requests = getattr(Calls(self.jobs), self.transport)(self.call)
        ask = _ask_rest if self.transport == "rest" else _ask_grpc
        lanes = (ask(self, requests, number, began) for number in range(self.connections))
        await asyncio.gather(*lanes)


class _Replies(asyncio.Protocol):
    """One connection: a reply at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._data = bytearray()
        self._whole: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self._whole = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._whole

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self._data.index(b"content-length: ") + 16
        length = int(self._data[start : self._data.index(b"\r", start)])
        if len(self._data) >= head + 4 + length:
            assert self._data.startswith(b"HTTP/1.1 200"), bytes(self._data)
            assert self._whole is not None
            self._data.clear()
            self._whole.set_result(None)


async def _ask_rest(load: Load, requests: Iterator[bytes], number: int, began: float) -> None:
    loop = asyncio.get_running_loop()
    transport, replies = await loop.create_connection(_Replies, "127.0.0.1", load.port)
    for due in load.dues(number, began):
        await _until(due)
        asked = due or time.monotonic()
        if asked > began + load.seconds:
            break
        await replies.ask(next(requests))
        load.found.append(time.monotonic() - asked)
    transport.close()


async def _ask_grpc(load: Load, requests: Iterator[bytes], number: int, began: float) -> None:
    service = "google.longrunning.Operations" if load.call == "GetOperation" else SERVICE
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{load.port}", options) as channel:
        call = channel.unary_unary(f"/{service}/{load.call}")
        for due in load.dues(number, began):
            await _until(due)
            asked = due or time.monotonic()
            if asked > began + load.seconds:
                break
            await call(next(requests))
            load.found.append(time.monotonic() - asked)


async def _until(due: float) -> None:
    if (left := due - time.monotonic()) > 0:
        await asyncio.sleep(left)


def _asking(pipe: Pipe) -> None:
    """A process that puts loads on the server, one after another, once it is ready."""
    pipe.send(None)
    while (load := pipe.recv()) is not None:
        uvloop.run(load.run())
        pipe.send(load.found)


def _serving(pipe: Pipe, where: Path | str) -> None:
    """The process of the server. Its log goes where it costs a write, and no disk."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    telemetry.set_up()
    asyncio.run(_serve(pipe, where))


async def _serve(pipe: Pipe, where: Path | str) -> None:
    database = Database(where, patience_seconds=5.0)
    methods = Methods(database, SYSTEM_CLOCK)

    async def nothing() -> Any:
        raise AssertionError("nobody asks for this")

    rest = make_server(App(methods, database, nothing, nothing), "127.0.0.1", 0)
    over_grpc = GrpcServer(methods, "127.0.0.1", 0)
    over_grpc.start()
    task = asyncio.create_task(rest.serve())
    pipe.send({"rest": rest.port, "grpc": over_grpc.port})
    await asyncio.to_thread(pipe.recv)
    over_grpc.stop()
    rest.should_exit = True
    await task
    await database.close()


class Bench:
    """A server over one database, and two processes that ask."""

    def __init__(self, database: str, where: Path | str) -> None:
        self._database = database
        spawn = multiprocessing.get_context("spawn")
        self._server, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serving, args=(theirs, where))
        self._process.start()
        self._ports: dict[str, int] = self._server.recv()
        self._askers: dict[str, Any] = {}
        self._ends = [self._server]
        for transport in self._ports:
            mine, other = spawn.Pipe()
            spawn.Process(target=_asking, args=(other,)).start()
            mine.recv()
            self._askers[transport] = mine
            self._ends.append(mine)

    def close(self) -> None:
        for end in self._ends:
            end.send(None)
        self._process.join()

    def measure(self, *asked: tuple[str, str, float]) -> None:
        """(transport, call, calls a second), all at once; prints a row of each."""
        pid = self._process.pid
        assert pid is not None
        before, began, waited = cpu_seconds(pid), time.monotonic(), waited_seconds(pid)
        for transport, call, per_second in asked:
            load = Load(
                transport=transport,
                call=call,
                port=self._ports[transport],
                connections=CONNECTIONS[call],
                seconds=given.seconds,
                jobs=given.jobs,
                per_second=per_second,
            )
            self._askers[transport].send(load)
        replies = [sorted(self._askers[transport].recv()) for transport, _, _ in asked]
        seconds = time.monotonic() - began
        waited = (waited_seconds(pid) - waited) / seconds
        cpu = (cpu_seconds(pid) - before) / sum(len(found) for found in replies)
        for (transport, call, per_second), found in zip(asked, replies, strict=True):
            how = f"{per_second:.0f}/s" if per_second else f"{CONNECTIONS[call]} connections"
            cells = [self._database, call, transport, how, f"{1e6 * cpu:.0f}", f"{1 / cpu:,.0f}"]
            cells += [f"{len(found) / seconds:,.0f}"]
            cells += [f"{1000 * at(found, share):.1f}" for share in (0.5, 0.99)]
            cells += [f"{100 * waited:.0f}", f"{self._memory_mib():.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)

    def _memory_mib(self) -> float:
        statm = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return int(statm[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def waited_seconds(pid: int) -> float:
    """For how long the threads that a process has were ready and had no core."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


async def prepare(where: Path | str) -> None:
    database = Database(where)
    await database.create()
    await database.write(fill, given.jobs)
    await database.write(_continue_ids)
    await database.close()
    if isinstance(where, str):
        _settle(where)


def _continue_ids(connection: Connection) -> None:
    """``fill`` chooses ids itself; those of later rows come after them."""
    if connection.dialect.name == "postgresql":
        for table in ("jobs", "bucket_operations"):
            last = f"(SELECT max(id) FROM {table})"
            sequence = f"pg_get_serial_sequence('{table}', 'id')"
            connection.execute(text(f"SELECT setval({sequence}, {last})"))
    connection.execute(text("ANALYZE"))


def _settle(url: str) -> None:
    """What a server does by itself within minutes of a million new rows, and has done long ago
    where they came one by one; else it would do it while we measure, or would not."""
    connection = one_connection(url, "bench")
    connection.execute(text("VACUUM (ANALYZE)"))
    connection.execute(text("CHECKPOINT"))
    connection.close()


def measure(database: str, where: Path | str) -> None:
    bench = Bench(database, where)
    for call, transport in itertools.product(given.calls, ("rest", "grpc")):
        bench.measure((transport, call, 0.0))
    for call in given.calls:
        if call in GOALS:
            bench.measure(*((one, call, GOALS[call] / 4) for one in ("rest", "grpc")))
    bench.close()


def main() -> None:
    head = "| database | call | over | asked | CPU µs | /s a core | /s here | p50 ms | p99 ms |"
    print(f"{head} waited % | MiB |\n{'|---' * 11}|", flush=True)
    with ExitStack() as stack:
        for name in given.databases:
            if name == "sqlite":
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                where: Path | str = Path(directory) / "longshore.sqlite"
            else:
                server = stack.enter_context(running())
                assert server is not None, "PostgreSQL is not installed"
                where = server.new_database()
            asyncio.run(prepare(where))
            measure(name, where)


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--jobs", type=int, default=1_000_000)
parser.add_argument("--seconds", type=float, default=3.0)
parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
parser.add_argument("--calls", nargs="+", default=list(CONNECTIONS))
if __name__ == "__main__":
    given = parser.parse_args()
    main()
