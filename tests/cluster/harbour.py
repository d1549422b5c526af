"""The processes of a cluster, each of which can be started, stopped, continued and killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from longshore.settings import Settings, StoreSettings
from longshore.store import Store, Stores
from tests.cluster.forwarding import Forwarder
from tests.harbour import FOLDERS, HOLD, Harbour
from tests.service import first_on_path, free_port

__all__ = ["FOLDERS", "HOLD", "START_SECONDS", "Cluster", "Program"]

if TYPE_CHECKING:
    from tests.cluster.elsewhere import Elsewhere

RULES = Path(__file__).parents[2] / "src" / "longshore" / "runners" / "dask" / "rules.yaml"
START_SECONDS = 120.0


class Program:
    """One process of the cluster, and those that came before it in its place."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str]):
        self.name = name
        self.port = 0
        self._command = command
        self._log = log
        own = {key: text for key, text in os.environ.items() if not key.startswith("DASK_")}
        self._environment = own | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[int]:
        try:
            found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:  # it has died
            return []
        return [int(pid) for pid in found.split()]

    def kill(self) -> None:
        """SIGKILL, which ends a stopped process as well; its children die with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_child(self, chance: random.Random) -> None:
        """SIGKILL for one of its children, if it has any."""
        if children := self.children():
            _signal(chance.choice(children), signal.SIGKILL)

    def suspend(self) -> None:
        """SIGSTOP, for its children as well: all of a machine stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        for child in self.children():
            _signal(child, signal.SIGSTOP)

    def resume(self) -> None:
        for child in self.children():
            _signal(child, signal.SIGCONT)
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def close(self) -> None:
        if self.running():
            self.resume()
            self.kill()


class Cluster(Harbour):
    """``services`` that are candidates for coordinating, a scheduler, and ``machines`` with
    ``workers`` each, over one database and one store of local files."""

    look_seconds = 0.05
    done_seconds = 120.0

    def __init__(
        self,
        directory: Path,
        database: str,
        *,
        services: int = 1,
        machines: int = 1,
        workers: int = 1,
        shards_at_once: int = 4,
        lease_seconds: float = 21.0,
        rate: float | None = None,
        limits: Mapping[str, float] | None = None,
        certificates: Path | None = None,
        rules: Path | None = RULES,
        sources: Path | None = None,
        elsewhere: Sequence[Elsewhere] = (),
        cuttable: bool = False,
    ) -> None:
        """``rate``: the store's cap, in objects a second; ``limits``: of its buckets, by pattern.
        ``certificates``: a directory with ``ca.pem``, ``own.pem`` and ``key.pem``, for TLS.
        ``rules``: the settings of the scheduler. ``sources``: of another longshore, which services
        and machines are to be. ``elsewhere``: more stores, each with one bucket.
        ``cuttable``: each service reaches the others by ``forwarders``."""
        self.directory = directory
        self.database = database
        self.elsewhere = {store.bucket: store for store in elsewhere}
        self._settings = {
            "runner": "dask",
            "workers": workers,
            "shards_at_once": shards_at_once,
            "lease_seconds": lease_seconds,
        }
        self._rate = rate
        self._limits = limits or {}
        port = free_port()
        scheme = "tls" if certificates else "tcp"
        self.scheduler_address = f"{scheme}://127.0.0.1:{port}"
        environment = {"DASK_CONFIG": str(rules)} if rules else {}
        self._dask = {"scheduler": self.scheduler_address}
        self._cuttable = cuttable
        self.forwarders: dict[str, tuple[Forwarder, Forwarder]] = {}
        """By a service's name, on its ways to PostgreSQL and to the scheduler."""
        options = []
        if certificates:
            for key, option, name in (
                ("ca", "--tls-ca-file", "ca.pem"),
                ("certificate", "--tls-cert", "own.pem"),
                ("key", "--tls-key", "key.pem"),
            ):
                self._dask[key] = str(certificates / name)
                options += [option, str(certificates / name)]
        else:
            environment["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "False"
        self.scheduler = Program(
            "scheduler",
            [
                *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"),
                *("--host", f"{scheme}://127.0.0.1", "--port", str(port), *options),
            ],
            directory / "scheduler.log",
            environment,
        )
        self.services = [self._longshore("serve", number, sources) for number in range(services)]
        self.machines = [self._longshore("worker", number, sources) for number in range(machines)]
        store = StoreSettings(
            name="main",
            kind="local",
            buckets=("*",),
            options={"directory": str(directory / "objects")},
        )
        stores = Stores(Settings(data_dir=directory, stores={"main": store}))
        self.store = stores.open("main")

    def add_machine(self, sources: Path | None = None) -> Program:
        """One more machine, which is started."""
        program = self._longshore("worker", len(self.machines), sources)
        self.machines.append(program)
        program.start()
        return program

    def add_service(self, sources: Path | None = None) -> Program:
        """One more service, which is started."""
        program = self._longshore("serve", len(self.services), sources)
        self.services.append(program)
        program.start()
        self.until(lambda: self.healthy(program), START_SECONDS, "answer")
        return program

    def run(self, *words: str, sources: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command that needs no more than the settings of a service."""
        config = ("--config", str(self.directory / "serve-0.toml"))
        return subprocess.run(
            [sys.executable, "-m", "longshore", *words, *config],
            env={**os.environ, **_environment(sources)},
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )

    def _longshore(self, command: str, number: int, sources: Path | None = None) -> Program:
        name = f"{command}-{number}"
        port = free_port()
        config = self.directory / f"{name}.toml"
        database, scheduler = self.database, self.scheduler_address
        if self._cuttable and command == "serve":
            (to_database, database), (to_scheduler, scheduler) = map(_by, (database, scheduler))
            self.forwarders[name] = to_database, to_scheduler
        main: dict[str, Any] = {
            "kind": "local",
            "buckets": ["*"],
            "directory": str(self.directory / "objects"),
        }
        if self._rate:
            main["max_objects_per_second"] = self._rate
        tables: dict[str, dict[str, Any]] = {
            "": {**self._settings, "database": database, "data_dir": str(self.directory / name)},
            "[rest]": {"listen": f"127.0.0.1:{port}"},
            "[grpc]": {"listen": "127.0.0.1:0"},
            "[dask]": {**self._dask, "scheduler": scheduler},
            "[stores.main]": main,
        }
        for pattern, cap in self._limits.items():
            tables[f'[stores.main.limits."{pattern}"]'] = {"max_objects_per_second": cap}
        for one in self.elsewhere.values():
            its = one.settings(number)
            table = {"kind": its.kind, "buckets": [one.bucket], **its.options}
            tables[f"[stores.{its.name}]"] = table
        lines = []
        for head, table in tables.items():
            lines += [head, *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        config.write_text("\n".join(lines))
        program = Program(
            name,
            [sys.executable, "-m", "longshore", command, "--config", str(config)],
            self.directory / f"{name}.log",
            _environment(sources),
        )
        program.port = port
        return program

    async def count(self, bucket: str, prefix: str, column: str = "", wanted: Any = None) -> int:
        """How many objects there are with ``prefix``, and with that in that column."""
        columns, found = (column,) if column else (), 0
        async with self.opened(bucket) as store:
            async for page in store.list_objects(bucket, prefix=prefix, columns=columns):
                found += page.columns[column].count(wanted) if column else len(page)
        return found

    @asynccontextmanager
    async def opened(self, bucket: str) -> AsyncIterator[Store]:
        """The store of a bucket, as the tests reach it."""
        if (one := self.elsewhere.get(bucket)) is None:
            yield self.store
            return
        settings = one.settings()  # its connections belong to one event loop
        stores = Stores(Settings(data_dir=self.directory, stores={settings.name: settings}))
        try:
            yield stores.open(settings.name)
        finally:
            await stores.close()

    def start(self) -> None:
        for program in (self.scheduler, *self.services, *self.machines):
            program.start()
        for service in self.services:
            self.until(lambda one=service: self.healthy(one), START_SECONDS, "answer")

    def healthy(self, service: Program) -> bool:
        try:
            with self.http(service) as http:
                return http.get("/healthz").status_code == 200
        except httpx.TransportError:
            assert service.running(), service.log()
            return False

    def http(self, service: Program | None = None) -> httpx.Client:
        port = (service or self.services[0]).port
        return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False)

    def create(self, prefixes: list[str], what: dict[str, Any]) -> str:
        """A job over ``b``; gives its operation's name."""
        return self.create_over("b", {"prefixList": {"includedObjectPrefixes": prefixes}}, what)

    def create_over(self, bucket: str, source: dict[str, Any], what: dict[str, Any]) -> str:
        """A job over those of ``bucket`` that a source gives; gives its operation's name."""
        return self.create_job({bucket: source}, what)

    def reply(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Of the first service that answers, and has a database to do so by."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            for service in self.services:
                with contextlib.suppress(httpx.TransportError), self.http(service) as http:
                    reply = http.request(method, path, **options)
                    if reply.status_code not in (503, 504):
                        return reply
            assert time.monotonic() < deadline, f"nobody answers:\n{self.logs()}"
            time.sleep(0.1)

    @property
    def database_at(self) -> str:
        return self.database

    def coordinating(self) -> Program | None:
        """The service that coordinates, by its own account."""
        for one in self.services:
            said = re.findall(r" (not coordinating|coordinating) ", one.log())
            if one.running() and said and said[-1] == "coordinating":
                return one
        return None

    def place(self, machine: Program) -> str:
        """What the names of a machine's workers begin with; "": it has not begun."""
        path = self.directory / machine.name / "id"
        return path.read_text().strip() if path.exists() else ""

    def logs(self) -> str:
        """The end of what every process said."""
        programs = (self.scheduler, *self.services, *self.machines)
        return "\n".join(f"== {one.name}\n{one.log()[-3_000:]}" for one in programs)

    def close(self) -> None:
        for program in (*self.services, *self.machines, self.scheduler):
            program.close()
        for pair in self.forwarders.values():
            for forwarder in pair:
                forwarder.close()


def _environment(sources: Path | None) -> dict[str, str]:
    return {"PYTHONPATH": first_on_path(sources)} if sources else {}


def _by(address: str) -> tuple[Forwarder, str]:
    """A forwarder to ``address``, and the address by way of it."""
    found = re.search(r"127\.0\.0\.1:(\d+)", address)
    assert found is not None, address
    forwarder = Forwarder(int(found[1]))
    return forwarder, address.replace(found[0], f"127.0.0.1:{forwarder.port}")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
