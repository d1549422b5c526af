"""What logs of objects cost, by where they go: CPU and time per object.

    python -m bench.logs [--objects N] [--repeat N]

Runs a job of one shard over all objects of a bucket of the memory store, in batches of 1,000, as
bench/engine.py does, with no log and with one in each place. The bucket is one of Cloud Storage,
which here is a server in another process that reads what comes and says that it is written.
Standard output is a pipe to a program that throws everything away. CPU is of this process alone.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop
from bench.engine import BATCH, BUCKET, CASES, LOGGED, Bench

from longshore.database import Database
from longshore.settings import LogSettings, Settings, StoreSettings
from longshore.store import Bucket, Stores

PLACES = {"no log": "", "files": "files", "stdout": "stdout", "bucket": "gs://job-logs/bench"}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REPLY = b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"generation":"1"}'


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_REPLY)
    except asyncio.IncompleteReadError:
        writer.close()


def _serve(tell: Connection) -> None:
    async def run() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0, limit=1 << 20)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def _open(directory: Path, port: int, objects: int) -> Bench:
    options = {"endpoint": f"http://127.0.0.1:{port}", "anonymous": True, "project": "bench"}
    stores = {
        "main": StoreSettings(name="main", kind="memory", buckets=("*",)),
        "logs": StoreSettings(name="logs", kind="gs", buckets=("job-logs",), options=options),
    }
    settings = Settings(data_dir=directory, workers=1, stores=stores)
    opened, database = Stores(settings), Database(settings.database_path)
    await database.create()
    bench = Bench(
        settings=settings,
        database=database,
        stores=opened,
        store=opened.open("main"),
        objects=objects,
    )
    await bench.store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
    await bench.fill()
    return bench


async def measure(port: int, objects: int, repeat: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and time of each run in µs an object, by where the log goes; the places take turns."""
    figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
    hold, number = CASES["hold"], 0
    with tempfile.TemporaryDirectory() as directory:
        bench = await _open(Path(directory), port, objects)
        for _ in range(repeat):
            for place, to in PLACES.items():
                bench.settings = replace(bench.settings, logs=LogSettings(to=to or "files"))
                variant = hold.variants[number % 2]
                number += 1
                began = time.monotonic()
                cpu, _ = await bench.run_engine(hold, variant, LOGGED if to else ())
                wall = time.monotonic() - began
                figures[place].append((cpu / objects * 1e6, wall / objects * 1e6))
        await bench.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    ours, its = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(its,), daemon=True)
    server.start()
    port = ours.recv()
    with os.fdopen(os.dup(1), "w") as results:
        reader = subprocess.Popen(["/bin/sh", "-c", "cat > /dev/null"], stdin=subprocess.PIPE)
        assert reader.stdin is not None
        os.dup2(reader.stdin.fileno(), 1)
        figures = uvloop.run(measure(port, given.objects, given.repeat))
        results.write(f"µs an object, minimum (median); batches of {BATCH:,}\n\n")
        results.write("| log | CPU | time |\n|---|---|---|\n")
        for place, runs in figures.items():
            cells = [
                f"{min(one):.2f} ({statistics.median(one):.2f})" for one in zip(*runs, strict=True)
            ]
            results.write(f"| {place} | {' | '.join(cells)} |\n")
    server.terminate()
    os.close(1)
    reader.stdin.close()
    reader.wait()


if __name__ == "__main__":
    main()
