"""What an object on Cloud Storage costs longshore, against gcloud and google-cloud-storage.

    python -m bench.gcs [--cases hold delete list] [--quick] [--repeat 3] [--peers gcloud google]

Builds a server that makes its answers up (gcs_stub.c), and runs the real service with one worker
against it, and each peer for the same act, one after the other: server on one core, client on the
other: see paired. gcloud is found on PATH, google-cloud-storage is that of this environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.paired import (
    BUCKET,
    HEAD,
    PREFIX,
    SERVER_CORE,
    Cost,
    Costs,
    Stub,
    build,
    calls_of,
    cost_of,
    product,
    row,
    stub,
)

from tests.api.clients.programs import gcloud_environment

ACTS: dict[str, dict[str, Any]] = {
    "hold": {"putObjectHold": {"temporaryHold": "SET"}},
    "delete": {"deleteObject": {}},
    "list": {"deleteObject": {}, "dryRun": True},
}
OBJECTS = 100_000
FEWER = {("hold", "gcloud"): 3_000, ("delete", "gcloud"): 3_000}
"""Of what costs milliseconds an object."""
GOALS = {
    ("hold", "gcloud"): 0.02,
    ("delete", "gcloud"): 0.02,
    ("list", "gcloud"): 0.02,
    ("hold", "google"): 0.06,
    ("delete", "google"): 0.06,
}
ALL = f"gs://{BUCKET}/{PREFIX}**"
GCLOUD = {
    "hold": ["objects", "update", ALL, "--temporary-hold"],
    "delete": ["rm", ALL],
    "list": ["ls", ALL],
}
GOOGLE = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
act, url = sys.argv[1:]
client = Client("p", AnonymousCredentials(), client_options={"api_endpoint": url})
fields = "items(name,generation),nextPageToken"
for page in client.list_blobs("bench", prefix="logs/", fields=fields).pages:
    blobs = list(page)
    for start in range(0, len(blobs) if act != "list" else 0, 100):
        with client.batch():
            for blob in blobs[start : start + 100]:
                if act == "delete":
                    blob.delete(if_generation_match=blob.generation)
                else:
                    blob.temporary_hold = True
                    blob.patch(if_generation_match=blob.generation)
"""


def peer(name: str, act: str, server: Stub) -> Cost:
    """What it costs the other program to do the act to all objects of a server."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as home:
        if name == "google":
            environment = {**os.environ, "REQUESTS_CA_BUNDLE": str(server.ca)}
            return cost_of([sys.executable, "-c", GOOGLE, act, server.url], environment)
        environment = {
            **gcloud_environment(server.url, Path(home)),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{server.url}/",
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(server.ca),
            "CLOUDSDK_CORE_PROJECT": "p",
        }
        return cost_of(["gcloud", "storage", *GCLOUD[act]], environment)


def compare(folder: Path, act: str, share: int, peers: Sequence[str], repeat: int) -> None:
    """Print what the act costs us and the others, over TLS, by turns; and what it costs the others
    to do it to one object, which is about what it takes them to begin."""
    objects = OBJECTS // share
    ours = Costs(objects, [])
    others = {name: Costs(FEWER.get((act, name), OBJECTS) // share, []) for name in peers}
    begun: dict[str, list[float]] = {name: [] for name in ["longshore", *peers]}
    with ExitStack() as stack:
        counts = {1, objects, *(costs.objects for costs in others.values())}
        servers = {n: stack.enter_context(stub(folder, "gcs", objects=n)) for n in counts}
        server = servers[objects]
        settings = (
            f'kind = "gs"\nendpoint = "{server.url}"\nca_file = "{server.ca}"\nanonymous = true\n'
        )
        for _ in range(repeat):
            with product(settings) as service:
                server.reset()
                before = server.cpu()
                ours.each.append(service.run(ACTS[act], objects))
                cpu, asked = server.cpu() - before, server.counts()
                begun["longshore"].append(service.start_up)
            for name, costs in others.items():
                begun[name].append(peer(name, act, servers[1]).cpu)
                servers[costs.objects].reset()
                costs.each.append(peer(name, act, servers[costs.objects]))
                check(name, act, servers[costs.objects], costs.objects)
    row(act, "longshore", ours, None, None)
    for name, costs in others.items():
        row(act, name, costs, ours, GOALS.get((act, name)))
    calls = ", ".join(f"{kind} {count:,}" for kind, count in calls_of(asked).items())
    starts = ", ".join(f"{name} {statistics.median(each):.2f}" for name, each in begun.items())
    print(
        f"\n{act}: our calls: {calls}, in {asked['batch']:,} batches; start-up, s of CPU: {starts};"
        f" the server took {cpu / objects * 1e6:.2f} µs an object for ours.\n",
        flush=True,
    )


def check(name: str, act: str, server: Stub, objects: int) -> None:
    """Raises RuntimeError unless a peer has done what it was told."""
    counts = server.counts()
    changed = {"hold": counts["patch"], "delete": counts["delete"], "list": objects}[act]
    if changed != objects or counts["list"] < objects // 1000:
        raise RuntimeError(f"{name} did not {act} {objects} objects: {counts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="*", choices=ACTS, default=list(ACTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the objects, once")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=["gcloud", "google"])
    given = parser.parse_args()
    share, repeat = (10, 1) if given.quick else (1, given.repeat)
    peers = ["gcloud", "google"] if given.peers is None else given.peers
    if "gcloud" in peers and not shutil.which("gcloud"):
        print("gcloud is not there, and left out", file=sys.stderr)
        peers.remove("gcloud")
    began = time.monotonic()
    os.sched_setaffinity(0, {SERVER_CORE})
    with tempfile.TemporaryDirectory(prefix="longshore-gcs-") as name:
        build(Path(name), "gcs")
        print(HEAD)
        for act in given.cases:
            compare(Path(name), act, share, peers, repeat)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
