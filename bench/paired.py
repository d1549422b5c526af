"""longshore as it is served, and programs that do the same act, against a server that makes its
answers up (SERVICE_stub.c): one after the other, server on one core, client on the other.

CPU is user + system, of all of the service's processes from the creation of a job to its end, or
of the program's whole process and its children.
"""

from __future__ import annotations

import compileall
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import trustme
from bench.cancel import answers, until

import longshore
from tests.service import free_port

FOLDER = Path(__file__).parent
BUCKET = "bench"
PREFIX = "logs/"
SERVER_CORE, CLIENT_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")
NO_CALLS = ("refused", "connections", "most in flight", "batch", "calls in batches", "keys deleted")
"""What a stub counts besides the calls that it has answered. Who calls a hundred at once has sent
one request, but its calls count as the service counts them."""
HEAD = (
    "| act | who | objects | CPU, s | µs an object | wall, s | our CPU / theirs | goal | wall |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


class Cost(NamedTuple):
    """Seconds of CPU and of the wall clock."""

    cpu: float
    wall: float


class Costs(NamedTuple):
    """What an act upon so many objects has cost somebody, time by time."""

    objects: int
    each: list[Cost]

    def cpu_us(self, time: int) -> float:
        """Microseconds of CPU an object."""
        return self.each[time].cpu / self.objects * 1e6

    def wall_us(self, time: int) -> float:
        return self.each[time].wall / self.objects * 1e6


class Stub:
    """The server that makes its answers up, of a ``service`` and with so many objects."""

    def __init__(
        self,
        folder: Path,
        service: str,
        *,
        objects: int,
        latency_ms: float = 0,
        rate: int = 0,
    ) -> None:
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        self.ca = folder / "ca.pem"
        numbers = [str(one) for one in (port, objects, latency_ms, rate)]
        self._process = subprocess.Popen(
            [str(folder / f"{service}_stub"), *numbers, str(folder / "server.pem")],
            preexec_fn=on_core(SERVER_CORE),
        )
        self._http = httpx.Client(base_url=self.url, verify=str(self.ca))
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return self._http.get("/-/reset").status_code == 200
        except httpx.TransportError:
            return False

    def counts(self) -> dict[str, int]:
        """What it was asked, by kind, since the last ``reset``."""
        found: dict[str, int] = self._http.get("/-/counts").json()
        return found

    def reset(self) -> None:
        self._http.get("/-/reset")

    def cpu(self) -> float:
        return cpu_of(self._process.pid)

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait()


class Product:
    """``longshore serve`` with one worker and one store, of which ``settings`` are the lines."""

    def __init__(self, directory: Path, settings: str) -> None:
        port = free_port()
        self.data = directory / "data"
        config = directory / "longshore.toml"
        config.write_text(
            f'data_dir = "{self.data}"\nworkers = 1\n'
            f'[rest]\nlisten = "127.0.0.1:{port}"\n[grpc]\nlisten = "127.0.0.1:0"\n'
            f'[stores.main]\nbuckets = ["*"]\n{settings}'
        )
        self._log = (directory / "serve.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "longshore", "serve", "--config", str(config)],
            preexec_fn=on_core(CLIENT_CORE),
            stdout=self._log,
            stderr=self._log,
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        until(lambda: answers(f"http://127.0.0.1:{port}"))
        until(lambda: len(self.pids()) == 2)
        until(self._rests)  # else what the worker still imports is taken for the job's
        self.start_up = self.cpu()

    def pids(self) -> list[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu(self) -> float:
        return sum(map(cpu_of, self.pids()))

    def _rests(self) -> bool:
        before = self.cpu()
        time.sleep(0.5)
        return self.cpu() - before < 0.03

    def create(self, what: Mapping[str, Any]) -> str:
        """The name of a job over all objects."""
        source = {"bucket": BUCKET, "prefixList": {"includedObjectPrefixes": [PREFIX]}}
        job = {"bucketList": {"buckets": [source]}, **what}
        made = self._http.post("/v1/projects/p/locations/global/jobs", json=job)
        name: str = made.raise_for_status().json()["metadata"]["job"]["name"]
        return name

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._http.get(f"/v1/{name}").raise_for_status().json()
        return found

    def run(self, what: Mapping[str, Any], objects: int, seconds: float = 600) -> Cost:
        """What a job costs that does ``what`` to all objects."""
        before = self.cpu()
        name = self.create(what)
        deadline = time.monotonic() + seconds
        while "completeTime" not in (job := self.job(name)):
            assert time.monotonic() < deadline, job
            time.sleep(0.5)  # each answer counts as a cost of the job, too
        cpu = self.cpu() - before
        counted = int(job["counters"]["totalObjectCount"])
        assert (job["state"], counted) == ("SUCCEEDED", objects), job
        return Cost(cpu, moment(job["completeTime"]) - moment(job["createTime"]))

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait()
        self._log.close()


def on_core(core: int) -> Callable[[], None]:
    """For ``preexec_fn``: whoever is started stays there."""
    return lambda: os.sched_setaffinity(0, {core})


def cpu_of(pid: int) -> float:
    """Seconds, user and system, of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def cost_of(
    command: Sequence[str], environment: Mapping[str, str], printed: Path | None = None
) -> Cost:
    """What a program costs, from its start to its end. What it prints goes to the file
    ``printed``; what it says on standard error is seen if it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryFile() as said, (printed or Path(os.devnull)).open("wb") as out:
        done = subprocess.run(
            command,
            check=False,
            env=environment,
            preexec_fn=on_core(CLIENT_CORE),
            stdout=out,
            stderr=said,
        )
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[0]}: {said.read()[-2000:].decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.monotonic() - began)


def build(folder: Path, service: str) -> None:
    """The stub, and a certificate for it, of the kind that costs it least; and the bytecode of
    longshore, which pip makes for all who install it."""
    compileall.compile_dir(Path(longshore.__file__).parent, quiet=1)
    source = str(FOLDER / f"{service}_stub.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(folder / f"{service}_stub"), source]
    subprocess.run([*command, "-lssl", "-lcrypto", "-lm"], check=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )


@contextmanager
def stub(folder: Path, service: str, **how: Any) -> Iterator[Stub]:
    """A running one."""
    server = Stub(folder, service, **how)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def product(settings: str) -> Iterator[Product]:
    """A running service that nobody has used yet."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as name:
        service = Product(Path(name), settings)
        try:
            yield service
        finally:
            service.close()


def calls_of(counts: Mapping[str, int]) -> dict[str, int]:
    """The calls that a stub has answered, by kind."""
    return {kind: n for kind, n in counts.items() if n and kind not in NO_CALLS}


def row(act: str, name: str, costs: Costs, ours: Costs | None, goal: float | None) -> None:
    """Print what an act costs somebody, and with ``ours`` how that compares, object by object."""
    times = range(len(costs.each))
    cells = [
        *(act, name, f"{costs.objects:,}"),
        f"{statistics.median(one.cpu for one in costs.each):.2f}",
        f"{statistics.median(map(costs.cpu_us, times)):.2f}",
        f"{statistics.median(one.wall for one in costs.each):.2f}",
    ]
    if ours is None:
        cells += ["", "", ""]
    else:
        cpu = statistics.median(ours.cpu_us(one) / costs.cpu_us(one) for one in times)
        wall = statistics.median(ours.wall_us(one) / costs.wall_us(one) for one in times)
        cells += [f"**{cpu:.4f}**", f"{goal:.2f}" if goal else "", f"{wall:.3f}"]
    print(f"| {' | '.join(cells)} |", flush=True)
