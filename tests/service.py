"""The real service, as processes: started, asked over HTTP, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from longshore.settings import Settings, StoreSettings
from longshore.store import Stores
from tests.harbour import LOGGED, PROJECT, Harbour, counters

__all__ = [
    "PROJECT",
    "START_SECONDS",
    "Service",
    "counters",
    "first_on_path",
    "free_port",
    "stream",
]

START_SECONDS = 5.0


class Service(Harbour):
    """``longshore serve`` in a directory of its own, on a free port of 127.0.0.1."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        lease_seconds: float = 30,
        rate: float | None = None,
        gate: Path | None = None,
        sources: Path | None = None,
        database: str | None = None,
        store: StoreSettings | None = None,
        logs: str = "files",
    ) -> None:
        """``rate``: the store's cap. ``gate``: see crash/gate. ``sources``: where modules are first
        looked for. ``database``: the URL of a PostgreSQL. ``store``: of every bucket, with its
        limits, instead of the embedded one. ``logs``: where those of objects go."""
        self.directory = directory
        self.gate = gate
        self.sources = sources
        self.database = database
        self.port = free_port()
        self.data_dir = directory / "data"
        self._output = directory / "serve.out"
        store = store or StoreSettings(name="main", kind="local", buckets=("*",))
        caps = {"max_objects_per_second": rate} if rate else {}
        keys = {"kind": store.kind, "buckets": list(store.buckets), **caps, **store.options}
        table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        for pattern, caps in store.limits.items():
            limit = caps.max_objects_per_second
            table += f"limits.{json.dumps(pattern)}.max_objects_per_second = {limit}\n"
        other = f'database = "{database}"\n' if database else ""
        self.config = directory / "longshore.toml"
        self.config.write_text(
            f'data_dir = "{self.data_dir}"\nworkers = {workers}\n'
            f"lease_seconds = {lease_seconds}\n{other}"
            f'[rest]\nlisten = "127.0.0.1:{self.port}"\n'
            '[grpc]\nlisten = "127.0.0.1:0"\n'
            f'[logs]\nto = "{logs}"\n'
            f"[stores.{store.name}]\n{table}"
        )
        self.stores = Stores(Settings(data_dir=self.data_dir, stores={store.name: store}))
        self.store = self.stores.open(store.name)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self, seconds: float = START_SECONDS + 10) -> float:
        """Start it and wait until it answers; gives the seconds that took."""
        environment = dict(os.environ)
        if self.gate is not None:
            gate = Path(__file__).parent / "crash" / "gate"
            environment["PYTHONPATH"] = first_on_path(gate)
            environment["GATE_DIR"] = str(self.gate)
        if self.sources is not None:
            environment["PYTHONPATH"] = first_on_path(self.sources)
        self.starts += 1
        log = (self.directory / f"serve-{self.starts}.log").open("wb")
        output = self._output.open("ab")
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "longshore", "serve", "--config", str(self.config)],
            env=environment,
            stdout=output,
            stderr=log,
        )
        log.close()
        output.close()
        self.until(self._healthy, seconds, "answer /healthz")
        return time.monotonic() - began

    def _healthy(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"serve ended:\n{self.log()}")
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        # grpc's core quotes what it was sent as it is, which need be no text.
        return (self.directory / f"serve-{self.starts}.log").read_text(errors="replace")

    def grpc_port(self) -> int:
        """The free port that it took."""
        (port,) = re.findall(r" serving .* grpc=127\.0\.0\.1:(\d+) ", self.log())
        return int(port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill(self, *, workers: bool = True) -> None:
        """SIGKILL for the service, and for its workers at the same moment."""
        assert self._process is not None
        for pid in [self.pid, *(self.workers() if workers else ())]:
            with contextlib.suppress(ProcessLookupError):  # it has died with its parent
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM, and wait for a clean end."""
        if self._process is None or not self.running():
            return 0
        self._process.terminate()
        return self.wait(10)

    def wait(self, seconds: float) -> int:
        """The exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(seconds)

    def create(self, bucket: str | list[str], source: dict[str, Any], what: dict[str, Any]) -> str:
        """Create a job that logs everything; gives its operation's name."""
        buckets = [bucket] if isinstance(bucket, str) else bucket
        return self.create_job(dict.fromkeys(buckets, source), {**LOGGED, **what})

    def reply(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, **options)

    @property
    def database_at(self) -> Path | str:
        return self.database or self.data_dir / "longshore.sqlite"

    def logs(self) -> str:
        return self.log()

    def printed(self) -> list[bytes]:
        """Every line that it has ever written to its standard output."""
        return self._output.read_bytes().splitlines()

    def metrics(self) -> dict[str, float]:
        """Each line of ``/metrics`` that is a number."""
        reply = self.http.get("/metrics")
        assert reply.status_code == 200, reply.text
        lines = (line for line in reply.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def close(self) -> None:
        self.stop()
        self.http.close()
        asyncio.run(self.stores.close())


def first_on_path(sources: Path) -> str:
    """A PYTHONPATH of these, and then of whatever it is here."""
    return os.pathsep.join(filter(None, (str(sources), os.environ.get("PYTHONPATH"))))


async def stream(content: bytes) -> AsyncIterator[bytes]:
    yield content


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
