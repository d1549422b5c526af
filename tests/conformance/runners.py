"""The runners that ``test_runner.py`` holds to what every runner promises.

Each has two workers, and services that are asked for jobs over one store of local files. Another
runner is one class more.
"""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from longshore.settings import Caps, StoreSettings
from tests.cluster.harbour import START_SECONDS, Cluster, Program
from tests.harbour import Harbour
from tests.service import Service

WORKERS = 2
SHARDS_AT_ONCE = 4
LEASE_SECONDS = 90.0
"""Longer than anything takes that need not wait for a lease's end, on a busy machine as well."""
RATE = 1_000.0
"""Objects a second, in a bucket whose name begins with ``slow``."""
LIMITS = {"slow*": RATE}
DEADLY = Path(__file__).parent / "deadly"


class Runner(ABC):
    """A runner at work, and what may befall its processes. What has ended stays so until
    ``start``."""

    harbour: Harbour

    @abstractmethod
    def start(self) -> None:
        """Start what does not run, and wait until all of it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """SIGTERM for everything, which ends by itself soon, and says that all went well."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL for everything."""

    @abstractmethod
    def kill_leader(self) -> None:
        """SIGKILL for the process that sees to it that others carry shards."""

    @abstractmethod
    def rest(self) -> None:
        """Nobody carries or is dealt a shard any more, though the API answers."""

    @abstractmethod
    def workers(self) -> list[int]:
        """The processes that carry shards."""

    @abstractmethod
    def log(self) -> str:
        """What has been said, since their last start, of these processes by their parent."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    def kill_worker(self) -> None:
        """SIGKILL for one that has a shard or is about to get one."""
        os.kill(self.workers()[0], signal.SIGKILL)


class Local(Runner):
    """``longshore serve`` alone."""

    def __init__(self, directory: Path, database: str | None) -> None:
        limits = {pattern: Caps(max_objects_per_second=cap) for pattern, cap in LIMITS.items()}
        self.harbour = self._service = Service(
            directory,
            workers=WORKERS,
            lease_seconds=LEASE_SECONDS,
            database=database,
            sources=DEADLY,
            store=StoreSettings(name="main", kind="local", buckets=("*",), limits=limits),
        )

    def start(self) -> None:
        if not self._service.running():
            self._service.start(START_SECONDS)
        for worker in self.workers():
            os.kill(worker, signal.SIGCONT)
        ready = httpx.codes.OK
        self._service.until(
            lambda: self._service.http.get("/readyz").status_code == ready, START_SECONDS, "begin"
        )

    def stop(self) -> None:
        assert self._service.stop() == 0, self.log()

    def kill(self) -> None:
        self._service.kill()

    def kill_leader(self) -> None:
        self._service.kill(workers=False)

    def rest(self) -> None:
        """The API and what keeps the workers are one process, so these stand still: it takes them
        for hung after some seconds."""
        for worker in self.workers():
            os.kill(worker, signal.SIGSTOP)

    def workers(self) -> list[int]:
        return self._service.workers()

    def log(self) -> str:
        return self._service.log()

    def close(self) -> None:
        self._service.close()


class Dask(Runner):
    """Two services, of which one coordinates, a scheduler, and a machine with the workers."""

    def __init__(self, directory: Path, database: str) -> None:
        self.harbour = self._cluster = Cluster(
            directory,
            database,
            services=2,
            machines=1,
            workers=WORKERS,
            shards_at_once=SHARDS_AT_ONCE,
            lease_seconds=LEASE_SECONDS,
            limits=LIMITS,
            sources=DEADLY,
        )

    def start(self) -> None:
        for program in self._programs():
            if not program.running():
                program.start()
        for service in self._cluster.services:
            self._cluster.until(lambda one=service: self._ready(one), START_SECONDS, "be ready")

    def _ready(self, service: Program) -> bool:
        if not self._cluster.healthy(service):
            return False
        with self._cluster.http(service) as http:
            return http.get("/readyz").status_code == httpx.codes.OK

    def _programs(self) -> Iterable[Program]:
        return (self._cluster.scheduler, *self._cluster.services, *self._cluster.machines)

    def stop(self) -> None:
        with ThreadPoolExecutor() as side_by_side:
            statuses = list(side_by_side.map(Program.stop, self._programs()))
        assert not any(statuses), (statuses, self._cluster.logs())

    def kill(self) -> None:
        for program in self._programs():
            program.kill()

    def kill_leader(self) -> None:
        self._cluster.until(self._cluster.coordinating, START_SECONDS, "coordinate").kill()

    def rest(self) -> None:
        self._cluster.scheduler.kill()
        for machine in self._cluster.machines:
            machine.kill()

    def workers(self) -> list[int]:
        return [pid for machine in self._cluster.machines for pid in machine.children()]

    def log(self) -> str:
        return "".join(machine.log() for machine in self._cluster.machines)

    def close(self) -> None:
        self._cluster.close()
