"""A service under way, lanes of jobs, somebody who meddles, and a hand that kills processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from longshore.settings import Settings, StoreSettings
from longshore.store import Bucket, NewObject
from tests.crash.chaos.journal import Journal, Key, Meddled
from tests.crash.chaos.lane import PAPERS, Lane
from tests.crash.chaos.reckoning import Discrepancy
from tests.service import PROJECT, Service

WORKERS = 2
LEASE_SECONDS = 21.0
"""As short as it may be: a worker that hangs is found out after a quarter of it."""
PIERS = ("pier-0", "pier-1", "pier-2")
LANES = {
    "north/2026/cargo-of-the-morning/": ["pier-0"],
    "east/2026/cargo-of-noon-and-after/": ["pier-0", "pier-1"],
    "south/2026/cargo-of-the-evening/": ["pier-1"],
    "west/2026/cargo-that-nobody-meddles-with/": ["pier-2"],
}
QUIET = PIERS[2]
PATIENCE_SECONDS = 120.0


class Storm:
    """``run`` lives through ``kills`` kills, or raises what was wrong first."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        kills: int,
        objects: int,
        database: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """``objects``: of each lane in each of its buckets. ``database``: URL of a PostgreSQL."""
        self.seed = seed
        self.kills = kills
        self.objects = objects
        self.directory = directory
        self.over, self.failed = threading.Event(), threading.Event()
        self.strikes: Counter[str] = Counter()
        self.killed = 0
        self.slowest_start = 0.0
        options: dict[str, Any] = {"database": database} if database else {}
        self.service = Service(directory, workers=WORKERS, lease_seconds=LEASE_SECONDS, **options)
        local = StoreSettings(name="main", kind="local", buckets=("*",))
        self.store_settings = Settings(data_dir=self.service.data_dir, stores={"main": local})
        self._say = say
        self._random = random.Random(seed)
        self._why = ""
        self._began = time.monotonic()
        self._meddler: subprocess.Popen[bytes] | None = None
        self._meddled = Meddled(directory / "meddler.jsonl")
        self._meddled_lock = threading.Lock()
        asyncio.run(self._make_buckets())
        self.lanes = [Lane(self, prefix, buckets) for prefix, buckets in LANES.items()]

    async def _make_buckets(self) -> None:
        for name in (*PIERS, PAPERS):
            await self.service.store.create_bucket(Bucket(name=name, create_time_us=0))
        kept = [NewObject(name=f"kept/{number}", content=b"kept") for number in range(50)]
        for name in PIERS:
            await self.service.store.write_objects(name, kept)
            Journal(self.service.data_dir, name).begin()

    def run(self) -> None:
        """Kill and reckon; raises Discrepancy (or another AssertionError) when the books do not
        balance, and leaves everything as it is then."""
        threads = [threading.Thread(target=self._watched, args=(one.run,)) for one in self.lanes]
        self._start_meddler()
        self._start()
        try:
            for thread in threads:
                thread.start()
            self._watched(self._strike_all)
            self.over.set()
            for thread in threads:
                thread.join()
            if not self.failed.is_set():
                self._watched(self._close_the_books)
        finally:
            self.over.set()
            self.failed.set()  # no lane waits for a service that is gone
            self._end()
        if self._why:
            raise Discrepancy(self._why)

    def _watched(self, run: Callable[[], None]) -> None:
        """Whatever goes wrong in any thread ends the storm."""
        try:
            run()
        except Exception:
            if not self.failed.is_set():
                self._why = traceback.format_exc()
            self.failed.set()
            self.over.set()

    def check(self) -> None:
        """Raises Discrepancy if another thread has met one."""
        if self.failed.is_set():
            raise Discrepancy("another lane has met a discrepancy")

    def _close_the_books(self) -> None:
        jobs = self.ask("GET", f"{PROJECT}/jobs").get("jobs", [])
        if jobs:
            names = [one["name"] for one in jobs]
            raise Discrepancy(f"jobs that nobody made: {names}")
        for name in PIERS:
            outside = {
                name
                for name in Journal(self.service.data_dir, name).names()
                if not name.startswith(tuple(LANES))
            }
            if outside:
                raise Discrepancy(f"touched outside of every job: {outside}")

    def _end(self) -> None:
        if self._meddler is not None:
            self._meddler.kill()
            self._meddler.wait()
        with suppress(ProcessLookupError):
            os.kill(self.service.pid, signal.SIGCONT)
        self.service.close()

    # What lanes ask for.

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The reply; asked again for as long as the service is not there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(httpx.TransportError):
                reply = self.service.http.request(method, f"/v1/{path}", **options)
                if reply.status_code == 200:
                    return dict(reply.json())
                if reply.status_code < 500:
                    raise Discrepancy(f"{method} {path}: {reply.status_code} {reply.text}")
            self.check()
            if time.monotonic() > deadline:
                raise Discrepancy(f"no answer to {method} {path} in {PATIENCE_SECONDS:g} s")
            time.sleep(0.05)

    def deleted_by_others(self, bucket: str) -> set[Key]:
        """What the meddler deleted up to now, once it has finished its sentence."""
        if self._meddler is None:
            return set()
        with self._meddled_lock:
            lines = self._meddled.lines()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while self._meddled.lines() < lines + 3:
                if self._meddler.poll() is not None or time.monotonic() > deadline:
                    raise Discrepancy("the meddler has fallen silent")
                time.sleep(0.01)
            return self._meddled.deleted(bucket)

    def _start_meddler(self) -> None:
        places = [
            part
            for prefix, buckets in LANES.items()
            for bucket in buckets
            if bucket != QUIET
            for part in (bucket, prefix)
        ]
        settings = (str(self.directory), str(self.seed), str(self.objects * 5 // 4))
        command = [sys.executable, "-m", "tests.crash.meddler", *settings, *places]
        self._meddler = subprocess.Popen(command)
        journal = self.directory / "meddler.jsonl"
        self._until(journal.exists, "the meddler to begin")

    # Kills.

    def _strike_all(self) -> None:
        kinds, weights = zip(*_STRIKES.items(), strict=True)
        while self.killed < self.kills:
            goal = self._seen() + self._random.randint(1, self.objects // 2)
            self._until(lambda goal=goal: self._seen() >= goal, "objects to be counted")
            time.sleep(self._random.random() * 0.3)  # anywhere within a batch
            (kind,) = self._random.choices(kinds, weights)
            victims = getattr(self, f"_{kind}")()
            self.strikes[kind] += 1
            self.killed += kind not in _NO_KILLS
            ended = sum(len(one.ended) for one in self.lanes)
            self._say(
                f"{time.monotonic() - self._began:6.1f} s  kill {self.killed:3} of {self.kills}"
                f"  {kind:9} {victims:24} {ended:3} jobs reckoned, {self._seen():9,} objects"
            )

    def _seen(self) -> int:
        return sum(one.seen for one in self.lanes)

    def _one_worker(self) -> int:
        self._until(self.service.workers, "a worker")
        return self._random.choice(self.service.workers())

    def _worker(self) -> str:
        return self._send(signal.SIGKILL, self._one_worker())

    def _workers(self) -> str:
        self._until(self.service.workers, "a worker")
        return self._send(signal.SIGKILL, *self.service.workers())

    def _parent(self) -> str:
        return self._end_service(signal.SIGKILL, self.service.pid)

    def _both(self) -> str:
        return self._end_service(signal.SIGKILL, self.service.pid, *self.service.workers())

    def _cut(self) -> str:
        """A drain that is cut short."""
        os.kill(self.service.pid, signal.SIGTERM)
        time.sleep(self._random.random() * 0.1)
        return self._parent()

    def _drain(self) -> str:
        return self._end_service(signal.SIGTERM, self.service.pid)

    def _hang(self) -> str:
        """A worker that hangs is ended by its parent, and its shards go on. (One that has just
        been started has none, and a minute to begin.)"""
        self._until(self._ready, "all workers to begin")
        pid = self._one_worker()
        said = self._send(signal.SIGSTOP, pid)
        self._until(lambda: not _alive(pid), f"the end of worker {pid}, which hangs")
        return said

    def _ready(self) -> bool:
        with suppress(httpx.TransportError):
            return self.service.http.get("/readyz").status_code == 200
        return False

    def _nap(self) -> str:
        """A process that stands still for a while and then goes on."""
        pid = self._random.choice([self.service.pid, self._one_worker()])
        said = self._send(signal.SIGSTOP, pid)
        time.sleep(self._random.random() * 2.5)
        self._send(signal.SIGCONT, pid)
        return said

    def _send(self, what: signal.Signals, *pids: int) -> str:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, what)
        return " ".join(map(str, pids))

    def _end_service(self, what: signal.Signals, *pids: int) -> str:
        """End the service, and start it again when its workers are gone, too."""
        workers = self.service.workers()
        said = self._send(what, *pids)
        status = self.service.wait(PATIENCE_SECONDS)
        if what is signal.SIGTERM and status != 0:
            raise Discrepancy(f"the service drained with status {status}:\n{self.service.log()}")
        self._until(lambda: not any(map(_alive, workers)), f"the end of workers {workers}")
        self._start()
        return said

    def _start(self) -> None:
        self.slowest_start = max(self.slowest_start, self.service.start(PATIENCE_SECONDS))

    def _until(self, true: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            self.check()
            if time.monotonic() > deadline:
                raise Discrepancy(
                    f"waited {PATIENCE_SECONDS:g} s for {what}:\n{self.service.log()[-5000:]}"
                )
            time.sleep(0.01)


_STRIKES = {
    "worker": 55,
    "workers": 12,
    "parent": 10,
    "both": 14,
    "cut": 4,
    "drain": 3,
    "hang": 2,
    "nap": 4,
}
"""What strikes, and how often, of a hundred or so."""
_NO_KILLS = {"drain", "hang", "nap"}


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
