"""A bucket of a Ceph, which each machine reaches by a gateway of its own. They can be killed and
stopped, and each writes down what it was asked for, in the log of operations that it has for that.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from longshore.settings import Settings, StoreSettings
from longshore.store import NewObject, Stores
from longshore.stores.s3.scratch import PREFIX
from tests.cluster.harbour import FOLDERS
from tests.cluster.leases import Sent
from tests.s3.asking import REGION, client_of, options_of
from tests.services import ceph
from tests.services.ceph import Account, Gateway

CHANGING = ("PUT", "POST", "DELETE")
COPY, GIVING = "PUT ", ("PUT tagging", "PUT legal-hold")
HELD_SECONDS = 3.0
"""So soon after it goes on a gateway does what it was sent while it stood still."""
PATIENCE_SECONDS = 120.0
TICK_SECONDS = 0.01
"""Its clock ticks every few milliseconds, and says when the last tick was."""
LOG_SECONDS = 5.0
"""So soon what a gateway has done is in its log, unless it was killed."""


class Act(NamedTuple):
    """Something that was done to objects. ``certain``: whoever asked for it should have heard that
    it was done, and so had no cause to ask again."""

    sent: Sent
    what: str
    certain: bool


class Way:
    """One machine's gateway, and its log."""

    def __init__(self, gateway: Gateway, log: Path, client: Any) -> None:
        self.gateway = gateway
        self.stops: list[tuple[float, float]] = []
        """From when to when it stood still; the last one may not be over."""
        self._client = client
        self._log = log
        self._read = 0

    def entries(self, bucket: str) -> list[dict[str, Any]]:
        """What was written since this was last asked. Returns once nothing that was sent before
        can be written any more."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert time.monotonic() < deadline, "a gateway does not write its log"
            mark, until = self._mark(bucket), time.monotonic() + LOG_SECONDS
            while mark and time.monotonic() < until:  # else it was killed before it wrote that
                found += self._written()
                if any(mark in entry["uri"] for entry in found):
                    if time.time() > self._stood_until() + HELD_SECONDS:
                        return found
                    mark = ""
                time.sleep(0.1)
            time.sleep(0.1)

    def _mark(self, bucket: str) -> str:
        """What is in the log after everything else; "" if it can't be asked for."""
        mark = uuid.uuid4().hex
        try:
            self._client.head_object(Bucket=bucket, Key=mark)
        except ClientError:
            return mark
        except BotoCoreError:
            return ""
        raise AssertionError(f"there is an object {mark}")

    def _written(self) -> Iterator[dict[str, Any]]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # it was killed while it wrote, and wrote on when it was back

    def _stood_until(self) -> float:
        return self.stops[-1][1] if self.stops else 0.0

    def stood(self, when: float) -> float:
        """Since when it stood still, where it has done at ``when`` what it was sent meanwhile;
        else 0."""
        for since, until in self.stops:
            if since <= when <= until + HELD_SECONDS:
                return since
        return 0.0


class Gateways:
    """The bucket, and what its gateways were asked to do with it."""

    name, bucket = "ceph", "ceph"

    def __init__(self, account: Account, ways: list[Way], seconds: float) -> None:
        """``seconds``: what takes longer may have been given up by whoever asked for it."""
        self.ways = ways
        self.changed = 0
        """How often something was done to an object."""
        self.repeated: list[str] = []
        """What was done to an object that had been done since ``taken`` was last asked, though
        nobody had cause to ask for it again."""
        self._account = account
        self._seconds = seconds
        # A gateway ends with the thread that has started it.
        self._hand = ThreadPoolExecutor(1)

    def settings(self, machine: int | None = None) -> StoreSettings:
        account = self._account
        if machine is not None:
            gateway = self.ways[machine % len(self.ways)].gateway
            account = account._replace(endpoint=gateway.endpoint)
        options = {"region": REGION, **options_of(account)}
        return StoreSettings(name=self.name, kind="s3", buckets=(self.bucket,), options=options)

    def kill(self, way: Way) -> None:
        way.gateway.kill()

    def start(self, way: Way) -> None:
        self._hand.submit(way.gateway.start).result()

    def suspend(self, way: Way) -> None:
        way.stops.append((time.time(), math.inf))
        way.gateway.suspend()

    def resume(self, way: Way) -> None:
        way.gateway.resume()
        way.stops[-1] = (way.stops[-1][0], time.time())

    def taken(self) -> list[Sent]:
        """But for what gives back to copies what they have lost, which no lease has to allow
        (docs/stores.md)."""
        acts = [act for number in range(len(self.ways)) for act in self._acts(number)]
        done = Counter((name, act.what) for act in acts if act.certain for name in act.sent.names)
        self.changed += done.total()
        self.repeated += [f"{what} of {name}" for (name, what), times in done.items() if times > 1]
        copies = {(act.sent.machine, *act.sent.names) for act in acts if act.what == COPY}
        return [
            act.sent
            for act in acts
            if not act.what.startswith(GIVING) or (act.sent.machine, *act.sent.names) not in copies
        ]

    def _acts(self, machine: int) -> Iterator[Act]:
        way = self.ways[machine]
        for entry in way.entries(self.bucket):
            method, _, target = entry["uri"].partition(" ")
            path, _, query = target.rpartition(" ")[0].partition("?")
            bucket, _, key = unquote(path).lstrip("/").partition("/")
            if method not in CHANGING or bucket != self.bucket:
                continue
            at = datetime.fromisoformat(entry["time"]).timestamp()
            since = way.stood(at)
            done = entry["http_status"].startswith("2")
            many = entry.get("op_data", {}).get("objects", ())
            names = [one["key"] for one in many] if many else [key]
            if names[0].startswith(PREFIX):  # a trial
                continue
            yield Act(
                Sent(at + TICK_SECONDS, machine, names, since or at),
                "DELETE" if many else f"{method} {query}",
                done and not since and entry["total_time"] < 1000 * self._seconds,
            )

    def close(self) -> None:
        self._hand.shutdown()


@contextmanager
def gateways(
    shared: Path, directory: Path, machines: int, objects: int, call_seconds: float
) -> Iterator[Gateways | None]:
    """As many gateways as there are machines, and a bucket with object lock and so many objects;
    None, with a word, where Ceph is not installed. ``shared``: as of ``ceph.running``."""
    if missing := ceph.missing():
        print(f"WITHOUT CEPH: {', '.join(missing)} not installed", file=sys.stderr, flush=True)
        yield None
        return
    with ceph.running(shared) as server, ExitStack() as stack:
        account = server.new_account()
        client_of(account).create_bucket(Bucket=Gateways.bucket, ObjectLockEnabledForBucket=True)
        ways = []
        for number in range(machines):
            log = directory / f"gateway-{number}.log"
            log.touch()
            gateway = stack.enter_context(
                server.gateway(
                    "--rgw_enable_ops_log=true",
                    "--rgw_ops_log_rados=false",
                    f"--rgw_ops_log_file_path={log}",
                )
            )
            client = client_of(account._replace(endpoint=gateway.endpoint))
            ways.append(Way(gateway, log, client))
        found = Gateways(account, ways, call_seconds / 2)
        stack.callback(found.close)
        asyncio.run(_fill(found.settings(), directory, objects))
        yield found


async def _fill(settings: StoreSettings, directory: Path, objects: int) -> None:
    stores = Stores(Settings(data_dir=directory, stores={settings.name: settings}))
    new = (NewObject(f"d/{number % FOLDERS}/{number:07d}", b"cargo") for number in range(objects))
    outcome = await stores.open(settings.name).write_objects(Gateways.bucket, new)
    assert not outcome.failures, outcome.failures
    await stores.close()
