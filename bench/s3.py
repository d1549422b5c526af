"""What an object on S3 costs longshore, against s5cmd, rclone and boto3.

    python -m bench.s3 [--cases delete metadata list latency limit ceph] [--quick] [--repeat 3]

Builds a server that makes its answers up (s3_stub.c), and runs the real service with one worker
against it, and each peer for the same act, one after the other: server on one core, client on the
other. CPU is user + system, of all of the service's processes from the creation of a job to its
end, or of the peer's whole process. s5cmd and rclone are found on PATH or by --s5cmd and --rclone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import trustme
from bench.cancel import answers, free_port, until

from longshore.stores.s3.features import Feature
from tests.s3.asking import client_of
from tests.services.ceph import running

FOLDER = Path(__file__).parent
BUCKET = "bench"
PREFIX = "logs/"
SERVER_CORE, CLIENT_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")
LATENCY_MS = 30
CONCURRENCY = 64
LIMIT = 750
WARM_SECONDS = 10.0

ACTS: dict[str, dict[str, Any]] = {
    "delete": {"deleteObject": {}},
    "metadata": {"putMetadata": {"customMetadata": {"team": "data"}}},
    "list": {"deleteObject": {}, "dryRun": True},
}
OBJECTS = {"delete": 1_000_000, "metadata": 100_000, "list": 1_000_000}
GOALS = {
    ("delete", "s5cmd"): 0.10,
    ("metadata", "s5cmd"): 0.25,
    ("metadata", "rclone"): 0.35,
    ("list", "s5cmd"): 0.10,
    ("list", "rclone"): 0.15,
}
PEERS: dict[tuple[str, str], list[str]] = {
    ("delete", "s5cmd"): ["--log", "error", "rm", f"s3://{BUCKET}/{PREFIX}*"],
    ("metadata", "s5cmd"): [
        *("--log", "error", "cp", "--metadata-directive", "REPLACE", "--metadata", "team=data"),
        *("--content-type", "application/json", "--cache-control", "max-age=3600"),
        *(f"s3://{BUCKET}/{PREFIX}*", f"s3://{BUCKET}/{PREFIX}"),
    ],
    ("list", "s5cmd"): ["ls", f"s3://{BUCKET}/{PREFIX}*"],
    ("metadata", "rclone"): ["settier", "STANDARD_IA", f"s:{BUCKET}/{PREFIX}"],
    ("list", "rclone"): ["lsf", "-R", "--fast-list", f"s:{BUCKET}/{PREFIX}"],
}
"""What each is told, behind its name and the endpoint."""
CASES = [*ACTS, "latency", "limit", "ceph"]
SERVED = ("list", "head", "delete", "copy", "other")
HEAD = (
    "| act | who | objects | CPU, s | µs an object | wall, s | our CPU / theirs | goal | wall |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
SLOW = 10
"""boto3 gets so many times fewer objects."""

BOTO3 = """
import sys, boto3
from concurrent.futures import ThreadPoolExecutor
act, url = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=64))
def copy(name):
    about = s3.head_object(Bucket="bench", Key=name)
    s3.copy_object(Bucket="bench", Key=name, CopySource={"Bucket": "bench", "Key": name},
                   MetadataDirective="REPLACE", Metadata=about["Metadata"] | {"team": "data"},
                   ContentType=about["ContentType"], CacheControl=about["CacheControl"])
with ThreadPoolExecutor(64) as pool:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix="logs/"):
        names = [one["Key"] for one in page["Contents"]]
        if act == "delete":
            keys = [{"Key": name} for name in names]
            s3.delete_objects(Bucket="bench", Delete={"Objects": keys, "Quiet": True})
        elif act == "metadata":
            list(pool.map(copy, names))
"""


class Cost(NamedTuple):
    """Seconds of CPU and of the wall clock."""

    cpu: float
    wall: float


class Endpoint(NamedTuple):
    """Where an S3 server is, and what it takes to be let in."""

    url: str
    access_key: str
    secret_key: str
    ca: Path | None = None

    def environment(self) -> dict[str, str]:
        """What a peer needs to know of it."""
        known = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_S_TYPE": "s3",
            "RCLONE_CONFIG_S_PROVIDER": "AWS",
            "RCLONE_CONFIG_S_ENV_AUTH": "true",
            "RCLONE_CONFIG_S_ENDPOINT": self.url,
        }
        if self.ca:
            known |= {"AWS_CA_BUNDLE": str(self.ca), "SSL_CERT_FILE": str(self.ca)}
        return {**os.environ, **known}


class Stub:
    """The server that makes its answers up."""

    def __init__(
        self, folder: Path, *, objects: int, tls: bool = True, latency_ms: float = 0, rate: int = 0
    ) -> None:
        port = free_port()
        scheme = "https" if tls else "http"
        ca = folder / "ca.pem"
        self.endpoint = Endpoint(
            f"{scheme}://127.0.0.1:{port}", "bench", "secret", ca if tls else None
        )
        numbers = [str(one) for one in (port, objects, latency_ms, rate)]
        pem = [str(folder / "server.pem")] if tls else []
        self._process = subprocess.Popen(
            [str(folder / "s3_stub"), *numbers, *pem], preexec_fn=on_core(SERVER_CORE)
        )
        self._http = httpx.Client(base_url=self.endpoint.url, verify=str(ca) if tls else True)
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
    """``longshore serve`` with one worker on a store of kind "s3"."""

    def __init__(self, directory: Path, endpoint: Endpoint, settings: str = "") -> None:
        port = free_port()
        self._data = directory / "data"
        config = directory / "longshore.toml"
        ca = f'ca_file = "{endpoint.ca}"\n' if endpoint.ca else ""
        config.write_text(
            f'data_dir = "{self._data}"\nworkers = 1\n'
            f'[rest]\nlisten = "127.0.0.1:{port}"\n[grpc]\nlisten = "127.0.0.1:0"\n'
            f'[stores.s3]\nkind = "s3"\nbuckets = ["*"]\nendpoint = "{endpoint.url}"\n'
            f'access_key = "{endpoint.access_key}"\nsecret_key = "{endpoint.secret_key}"\n'
            f"{ca}{settings}"
        )
        self._log = (directory / "serve.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "longshore", "serve", "--config", str(config)],
            preexec_fn=on_core(CLIENT_CORE),
            stdout=self._log,
            stderr=self._log,
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        until(lambda: answers(port))
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

    def trust(self, endpoint: Endpoint) -> None:
        """Note that the service was proven to do every call, as any job but the first finds it."""
        now_us = time.time_ns() // 1000
        rows = [(endpoint.url, "AmazonS3", feature, "WORKS", "", now_us) for feature in Feature]
        with contextlib.closing(sqlite3.connect(self._data / "longshore.sqlite")) as database:
            database.executemany("INSERT INTO proofs VALUES (?, ?, ?, ?, ?, ?)", rows)
            database.commit()

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
            time.sleep(0.1)
        cpu = self.cpu() - before
        counted = int(job["counters"]["totalObjectCount"])
        assert (job["state"], counted) == ("SUCCEEDED", objects), job
        return Cost(cpu, moment(job["completeTime"]) - moment(job["createTime"]))

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait()
        self._log.close()


class Peers:
    """The other programs: where they are, and what they cost."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places

    def names(self, act: str) -> list[str]:
        return [name for name in ("s5cmd", "rclone", "boto3") if self._knows(act, name)]

    def _knows(self, act: str, name: str) -> bool:
        return name in self._places and (name == "boto3" or (act, name) in PEERS)

    def run(self, act: str, name: str, endpoint: Endpoint) -> Cost:
        """What the whole process costs."""
        program = str(self._places[name])
        if name == "boto3":
            command = [program, "-c", BOTO3, act, endpoint.url]
        else:
            more = ["--endpoint-url", endpoint.url] if name == "s5cmd" else ["-q"]
            command = [program, *more, *PEERS[act, name]]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            command,
            check=True,
            env=endpoint.environment(),
            preexec_fn=on_core(CLIENT_CORE),
            stdout=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(cpu, time.monotonic() - began)


def on_core(core: int) -> Callable[[], None]:
    """For ``preexec_fn``: whoever is started stays there."""
    return lambda: os.sched_setaffinity(0, {core})


def cpu_of(pid: int) -> float:
    """Seconds, user and system, of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def build(folder: Path) -> None:
    """The stub, and a certificate for it, of the kind that costs it least."""
    source = str(FOLDER / "s3_stub.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(folder / "s3_stub"), source]
    subprocess.run([*command, "-lssl", "-lcrypto", "-lm"], check=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )


@contextmanager
def stub(folder: Path, **how: Any) -> Iterator[Stub]:
    """A running one."""
    server = Stub(folder, **how)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def product(endpoint: Endpoint, settings: str = "") -> Iterator[Product]:
    """A running service that nobody has used yet."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as name:
        service = Product(Path(name), endpoint, settings)
        try:
            yield service
        finally:
            service.close()


def compare(folder: Path, act: str, objects: int, peers: Peers, repeat: int) -> None:
    """Print what the act costs us and the others, over TLS, by turns."""
    ours: list[Cost] = []
    others: dict[str, list[Cost]] = {name: [] for name in peers.names(act)}
    starts, asked, server = [], {}, 0.0
    with stub(folder, objects=objects) as whole, stub(folder, objects=objects // SLOW) as part:
        for _ in range(repeat):
            with product(whole.endpoint) as service:
                service.trust(whole.endpoint)
                whole.reset()
                before = whole.cpu()
                ours.append(service.run(ACTS[act], objects))
                server, asked = whole.cpu() - before, whole.counts()
                starts.append(service.start_up)
            for name, costs in others.items():
                fewer = name == "boto3"
                cost = peers.run(act, name, (part if fewer else whole).endpoint)
                costs.append(Cost(*(one * SLOW for one in cost)) if fewer else cost)
    row(act, "longshore", objects, ours)
    for name, costs in others.items():
        row(act, name, objects, costs, ours)
    requests = sum(asked[kind] for kind in SERVED)
    kinds = ", ".join(f"{kind} {asked[kind]:,}" for kind in asked if asked[kind])
    print(
        f"\n{act}: {requests / objects:.4f} requests an object ({kinds}); start-up"
        f" {statistics.median(starts):.2f} s of CPU; the server took {server / objects * 1e6:.2f}"
        " µs an object for ours.\n",
        flush=True,
    )


def row(
    act: str, name: str, objects: int, costs: list[Cost], ours: list[Cost] | None = None
) -> None:
    cpu = statistics.median(one.cpu for one in costs)
    wall = statistics.median(one.wall for one in costs)
    cells = [act, name, f"{objects:,}", f"{cpu:.2f}", f"{cpu / objects * 1e6:.2f}", f"{wall:.2f}"]
    if ours is not None:
        pairs = list(zip(ours, costs, strict=True))
        goal = GOALS.get((act, name))
        cells += [
            f"**{statistics.median(mine.cpu / other.cpu for mine, other in pairs):.3f}**",
            f"{goal:.2f}" if goal else "",
            f"{statistics.median(mine.wall / other.wall for mine, other in pairs):.3f}",
        ]
    else:
        cells += ["", "", ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def under_latency(folder: Path, objects: int) -> None:
    """Print how much of the concurrency that is allowed is used, when each answer takes a while."""
    with (
        stub(folder, objects=objects, latency_ms=LATENCY_MS) as server,
        product(server.endpoint, f"max_concurrency = {CONCURRENCY}\n") as service,
    ):
        service.trust(server.endpoint)
        server.reset()
        cost = service.run(ACTS["metadata"], objects)
        asked = server.counts()
    requests = sum(asked[kind] for kind in SERVED)
    used = requests * LATENCY_MS / 1000 / cost.wall
    print(
        f"latency: {requests:,} requests of {LATENCY_MS} ms in {cost.wall:.1f} s, {used:.1f} at a"
        f" time of {CONCURRENCY} allowed: **{used / CONCURRENCY:.1%}** (goal 90 %), at most"
        f" {asked['most in flight']}; {cost.cpu / objects * 1e6:.1f} µs of CPU an object\n",
        flush=True,
    )


def under_limit(folder: Path, seconds: float) -> None:
    """Print how much of what a server allows is used, and how much is refused."""
    objects = int(LIMIT * seconds / 3)
    with (
        stub(folder, objects=objects, latency_ms=LATENCY_MS, rate=LIMIT) as server,
        product(server.endpoint) as service,
    ):
        service.trust(server.endpoint)
        server.reset()
        name = service.create(ACTS["metadata"])
        time.sleep(WARM_SECONDS)
        warm, began, last = server.counts(), time.monotonic(), server.counts()
        while "completeTime" not in (job := service.job(name)):
            last, ended = server.counts(), time.monotonic()
            time.sleep(0.25)
    took = ended - began
    served, refused = (sum(last[k] - warm[k] for k in kinds) for kinds in (SERVED, ("refused",)))
    failed = job["counters"].get("failedObjectCount", 0)
    print(
        f"limit: {served / took:,.0f} requests a second were served of {LIMIT} allowed after"
        f" {WARM_SECONDS:.0f} s: **{served / took / LIMIT:.1%}** (goal 90 %), and"
        f" **{refused / (served + refused):.1%}** refused (goal 5 %), within {took:.0f} s;"
        f" {job['state']}, {job['counters']}, **{failed}** failed\n",
        flush=True,
    )


def on_ceph(objects: int, peers: Peers, repeat: int) -> None:
    """Print how long the same acts take on a real server, which shares the cores with all."""
    print("| Ceph | objects | longshore, s | s5cmd, s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as shared, running(Path(shared)) as ceph:
        account = ceph.new_account()
        endpoint = Endpoint(account.endpoint, account.access_key, account.secret_key)
        s3 = client_of(account)
        s3.create_bucket(Bucket=BUCKET)
        for act in ("metadata", "delete"):
            ours, theirs = [], []
            for _ in range(repeat):
                fill(s3, objects)
                with product(endpoint) as service:
                    ours.append(service.run(ACTS[act], objects).wall)
                fill(s3, objects)
                theirs.append(peers.run(act, "s5cmd", endpoint).wall)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            times = [f"{statistics.median(one):.2f}" for one in (ours, theirs)]
            print(f"| {act} | {objects:,} | {' | '.join(times)} | **{ratio:.2f}** |", flush=True)


def fill(s3: Any, objects: int) -> None:
    """See to it that there are so many objects, of which nothing was changed."""

    def write(number: int) -> None:
        s3.put_object(
            Bucket=BUCKET,
            Key=f"{PREFIX}2026/11/25/node-{number // 10_000:04d}/{number:026d}.json.gz",
            Body=b"x" * 1000,
            ContentType="application/json",
            CacheControl="max-age=3600",
            Metadata={"owner": "data-platform", "batch": "2026-11-25"},
        )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(objects)))


def peers_of(given: argparse.Namespace) -> Peers:
    """Those that are there; says which are not."""
    places = {"s5cmd": given.s5cmd, "rclone": given.rclone, "boto3": sys.executable}
    if given.peers is not None:
        places = {name: place for name, place in places.items() if name in given.peers}
    found = {name: Path(place) for name, place in places.items() if shutil.which(place)}
    for name in places.keys() - found.keys():
        print(f"{name} is not there, and left out", file=sys.stderr)
    return Peers(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the objects, once")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=["s5cmd", "rclone", "boto3"])
    parser.add_argument("--s5cmd", default="s5cmd")
    parser.add_argument("--rclone", default="rclone")
    given = parser.parse_args()
    share, repeat = (50, 1) if given.quick else (1, given.repeat)
    peers, began = peers_of(given), time.monotonic()
    os.sched_setaffinity(0, {SERVER_CORE})
    with tempfile.TemporaryDirectory(prefix="longshore-s3-") as name:
        folder = Path(name)
        build(folder)
        acts = [act for act in ACTS if act in given.cases]
        if acts:
            print(HEAD)
        for act in acts:
            compare(folder, act, OBJECTS[act] // share, peers, repeat)
        if "latency" in given.cases:
            under_latency(folder, 5_000 if given.quick else 50_000)
        if "limit" in given.cases:
            under_limit(folder, 20 if given.quick else 40)
    if "ceph" in given.cases:
        on_ceph(1_000 if given.quick else 10_000, peers, repeat)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
