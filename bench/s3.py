"""What an object on S3 costs longshore, against s5cmd, rclone and boto3.

    python -m bench.s3 [--cases delete metadata class list latency limit ceph] [--quick]

Builds a server that makes its answers up (s3_stub.c), and runs the real service with one worker
against it, and each peer for the same act, one after the other: server on one core, client on the
other: see paired. s5cmd and rclone are found on PATH or by --s5cmd and --rclone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import join, quote
from typing import Any, NamedTuple

from bench.paired import (
    BUCKET,
    HEAD,
    PREFIX,
    SERVER_CORE,
    Cost,
    Costs,
    Product,
    Stub,
    build,
    calls_of,
    cost_of,
    product,
    row,
    stub,
)

from longshore.stores.s3.features import Feature
from tests.s3.asking import client_of
from tests.services.ceph import running

LATENCY_MS = 30
CONCURRENCY = 64
LIMIT = 750
WARM_SECONDS = 10.0

ACTS: dict[str, dict[str, Any]] = {
    "delete": {"deleteObject": {}},
    "metadata": {"putMetadata": {"customMetadata": {"team": "data"}}},
    "class": {"rewriteObject": {"storageClass": "NEARLINE"}},
    "list": {"deleteObject": {}, "dryRun": True},
}
OBJECTS = {"delete": 1_000_000, "metadata": 100_000, "class": 100_000, "list": 1_000_000}
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
    ("class", "rclone"): ["settier", "NEARLINE", f"s:{BUCKET}/{PREFIX}"],
    ("list", "rclone"): ["lsf", "-R", "--fast-list", f"s:{BUCKET}/{PREFIX}"],
}
"""What each is told, behind its name and the endpoint."""
CASES = [*ACTS, "latency", "limit", "ceph"]
SLOW = 10
"""boto3 gets so many times fewer objects."""

BOTO3 = """
import sys, boto3
from botocore.config import Config
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


def settings_of(endpoint: Endpoint, more: str = "") -> str:
    """The lines of our settings for it."""
    ca = f'ca_file = "{endpoint.ca}"\n' if endpoint.ca else ""
    return (
        f'kind = "s3"\nendpoint = "{endpoint.url}"\naccess_key = "{endpoint.access_key}"\n'
        f'secret_key = "{endpoint.secret_key}"\n{ca}{more}'
    )


def endpoint_of(server: Stub) -> Endpoint:
    return Endpoint(server.url, "bench", "secret", server.ca)


def trust(service: Product, endpoint: Endpoint) -> None:
    """Note that the service was proven to do every call, as any job but the first finds it."""
    now_us = time.time_ns() // 1000
    calls = [*Feature, f"{Feature.COPY_CLASS} NEARLINE"]
    rows = [(endpoint.url, "AmazonS3", call, "WORKS", "", now_us) for call in calls]
    with contextlib.closing(sqlite3.connect(service.data / "longshore.sqlite")) as database:
        database.executemany("INSERT INTO proofs VALUES (?, ?, ?, ?, ?, ?)", rows)
        database.commit()


class Peers:
    """The other programs: where they are, and what they cost."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places

    def names(self, act: str) -> list[str]:
        return [name for name in ("s5cmd", "rclone", "boto3") if self._knows(act, name)]

    def _knows(self, act: str, name: str) -> bool:
        return name in self._places and (name == "boto3" or (act, name) in PEERS)

    def look_and_copy(self, endpoint: Endpoint, folder: Path) -> float:
        """Seconds that s5cmd takes for one more key of metadata, if what it can see of each object
        is to stay. It sees content type, storage class and metadata; what else there is (cache
        control, encoding, language and disposition, tags, ACL) it still loses."""
        common = [str(self._places["s5cmd"]), "--endpoint-url", endpoint.url, "--json"]
        listed, looks, copies, seen = (
            folder / name for name in ("listed", "looks", "copies", "seen")
        )

        def seconds(what: list[str], printed: Path | None = None) -> float:
            return cost_of([*common, *what], endpoint.environment(), printed).wall

        took = seconds(["ls", f"s3://{BUCKET}/{PREFIX}*"], listed)
        looks.write_text("".join(f"head {quote(one['key'])}\n" for one in lines_of(listed)))
        took += seconds(["run", str(looks)], seen)
        copies.write_text("".join(copy_of(one) for one in lines_of(seen)))
        return took + seconds(["run", str(copies)])

    def run(self, act: str, name: str, endpoint: Endpoint) -> Cost:
        """What the whole process costs."""
        program = str(self._places[name])
        if name == "boto3":
            command = [program, "-c", BOTO3, act, endpoint.url]
        else:
            more = ["--endpoint-url", endpoint.url] if name == "s5cmd" else ["-q"]
            command = [program, *more, *PEERS[act, name]]
        return cost_of(command, endpoint.environment())


def lines_of(printed: Path) -> list[dict[str, Any]]:
    """What s5cmd has printed as JSON, an object a line."""
    return [json.loads(line) for line in printed.read_text().splitlines()]


def copy_of(seen: Mapping[str, Any]) -> str:
    """The line by which s5cmd copies an object onto itself as it was ``seen``, and adds a key."""
    words = ["cp", "--raw", "--metadata-directive", "REPLACE"]
    for key, value in {**seen.get("metadata", {}), "team": "data"}.items():
        words += ["--metadata", f"{key}={value}"]
    words += ["--content-type", seen["content_type"], "--storage-class", seen["storage_class"]]
    return f"{join([*words, seen['key'], seen['key']])}\n"


def compare(folder: Path, act: str, objects: int, peers: Peers, repeat: int) -> None:
    """Print what the act costs us and the others, over TLS, by turns."""
    ours = Costs(objects, [])
    others = {
        name: Costs(objects // SLOW if name == "boto3" else objects, [])
        for name in peers.names(act)
    }
    starts, asked, cpu = [], {}, 0.0
    for _ in range(repeat):
        with (
            stub(folder, "s3", objects=objects) as whole,
            stub(folder, "s3", objects=objects // SLOW) as part,
        ):
            endpoint = endpoint_of(whole)
            with product(settings_of(endpoint)) as service:
                trust(service, endpoint)
                whole.reset()
                before = whole.cpu()
                ours.each.append(service.run(ACTS[act], objects))
                cpu, asked = whole.cpu() - before, calls_of(whole.counts())
                starts.append(service.start_up)
            for name, costs in others.items():
                server = part if name == "boto3" else whole
                costs.each.append(peers.run(act, name, endpoint_of(server)))
    row(act, "longshore", ours, None, None)
    for name, costs in others.items():
        row(act, name, costs, ours, GOALS.get((act, name)))
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in asked.items())
    print(
        f"\n{act}: {sum(asked.values()) / objects:.4f} requests an object ({kinds}); start-up"
        f" {statistics.median(starts):.2f} s of CPU; the server took {cpu / objects * 1e6:.2f}"
        " µs an object for ours.\n",
        flush=True,
    )


def under_latency(folder: Path, objects: int) -> None:
    """Print how much of the concurrency that is allowed is used, when each answer takes a while."""
    with (
        stub(folder, "s3", objects=objects, latency_ms=LATENCY_MS) as server,
        product(settings_of(endpoint_of(server), f"max_concurrency = {CONCURRENCY}\n")) as service,
    ):
        trust(service, endpoint_of(server))
        server.reset()
        cost = service.run(ACTS["metadata"], objects)
        asked = server.counts()
    requests = sum(calls_of(asked).values())
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
        stub(folder, "s3", objects=objects, latency_ms=LATENCY_MS, rate=LIMIT) as server,
        product(settings_of(endpoint_of(server))) as service,
    ):
        trust(service, endpoint_of(server))
        server.reset()
        name = service.create(ACTS["metadata"])
        time.sleep(WARM_SECONDS)
        warm, began, last = server.counts(), time.monotonic(), server.counts()
        while "completeTime" not in (job := service.job(name)):
            last, ended = server.counts(), time.monotonic()
            time.sleep(0.25)
    took = ended - began
    served = sum(calls_of(last).values()) - sum(calls_of(warm).values())
    refused = last["refused"] - warm["refused"]
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
    print("| Ceph | objects | longshore, s | who | s | ours / theirs |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as shared, running(Path(shared)) as ceph:
        account = ceph.new_account()
        endpoint = Endpoint(account.endpoint, account.access_key, account.secret_key)
        s3 = client_of(account)
        s3.create_bucket(Bucket=BUCKET)
        for act in ("metadata", "delete"):
            ways = {"s5cmd": lambda act=act: peers.run(act, "s5cmd", endpoint).wall}
            if act == "metadata":
                ways["s5cmd, looking first"] = lambda: peers.look_and_copy(endpoint, Path(shared))
            ours: list[float] = []
            theirs: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(repeat):
                fill(s3, objects)
                with product(settings_of(endpoint)) as service:
                    ours.append(service.run(ACTS[act], objects).wall)
                for name, run in ways.items():
                    fill(s3, objects)
                    theirs[name].append(run())
            for name, times in theirs.items():
                ratio = statistics.median(a / b for a, b in zip(ours, times, strict=True))
                cells = [act, f"{objects:,}", f"{statistics.median(ours):.2f}", name]
                cells += [f"{statistics.median(times):.2f}", f"**{ratio:.2f}**"]
                print(f"| {' | '.join(cells)} |", flush=True)


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
        build(folder, "s3")
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
