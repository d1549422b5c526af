"""One job after the other over the same names, each reckoned when it has ended."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from longshore.store import NewObject, Stores
from tests.crash.chaos.journal import LOADED, Journal, Version, by_others
from tests.crash.chaos.orders import Order, choose
from tests.crash.chaos.reckoning import (
    Books,
    Discrepancy,
    Place,
    Sums,
    compare,
    together,
    words_of,
)
from tests.service import PROJECT, counters, stream

if TYPE_CHECKING:
    from tests.crash.chaos.storm import Storm

PAPERS = "papers"
JOB_SECONDS = 900.0
_CONTEXTS = ("", '{"old":"x"}', '{"team":"crane"}', '{"old":"x","team":"crane"}')


class Ended(NamedTuple):
    """A job that was reckoned."""

    kind: str
    form: str
    sums: Sums
    halved: int
    seconds: float


class Lane:
    """Names with ``prefix`` in ``buckets``: no other lane's, and nobody's but the meddler's."""

    def __init__(self, storm: Storm, prefix: str, buckets: list[str]) -> None:
        self.prefix = prefix
        self.buckets = buckets
        self.ended: list[Ended] = []
        self.seen = 0
        """Objects of all jobs so far that the service said were done."""
        self._storm = storm
        self._random = random.Random(f"{storm.seed} {prefix}")
        self._cargo = random.Random(f"{storm.seed} {prefix} cargo")
        self._journals = {one: Journal(storm.service.data_dir, one) for one in buckets}
        self._numbers = 0

    def run(self) -> None:
        """Jobs, until the storm is over."""
        while not self._storm.over.is_set():
            self._voyage()

    def _voyage(self) -> None:
        self._numbers += 1
        order = choose(self._random, self._numbers)
        before = {bucket: self._load(bucket) for bucket in self.buckets}
        rows: dict[str, frozenset[str]] = {}
        source: dict[str, dict[str, Any]] = {}
        form, ranges = "prefix", 1
        if self._random.random() < 0.4:
            form, ranges = "manifest", self._random.choice((1, 1, 3))
        for bucket in self.buckets:
            source[bucket] = {"prefixList": {"includedObjectPrefixes": [self.prefix]}}
            if form == "manifest":
                rows[bucket], source[bucket] = self._write_manifest(bucket, before[bucket], ranges)
        began = time.monotonic()
        job = self._follow(self._create(order, source))
        seconds = time.monotonic() - began
        sums, shards = self._reckon(order, job, before, rows)
        halved = shards - ranges * len(self.buckets)
        self.ended.append(Ended(order.kind, form, sums, halved, seconds))
        self._storm.ask("DELETE", f"{job['name']}?force=true&requestId={self._request()}")

    # Objects.

    def _load(self, bucket: str) -> dict[str, Version]:
        """What is there, of which at least half of the names; nobody may have touched it since the
        job before ended, but the meddler."""
        there = self._take_quiet(bucket)
        if len(there) * 2 < self._storm.objects:
            asyncio.run(self._write(bucket, there))
            there = self._take_quiet(bucket)
        return there

    def _take_quiet(self, bucket: str) -> dict[str, Version]:
        snapshot = self._journals[bucket].take(self.prefix)
        others = by_others(snapshot.changes, self._storm.deleted_by_others(bucket))
        for change in snapshot.changes:
            if change.sequence not in others:
                raise Discrepancy(f"done after the job had ended: {change}")
        return snapshot.objects

    async def _write(self, bucket: str, there: dict[str, Version]) -> None:
        def missing() -> Iterator[NewObject]:
            for number in range(self._storm.objects):
                name = f"{self.prefix}{number:06d}"
                if name not in there:
                    metadata = {
                        "cache_control": LOADED,
                        "contexts": self._cargo.choice(_CONTEXTS),
                        "temporary_hold": self._cargo.random() < 0.05,
                    }
                    yield NewObject(name, b"x" * self._cargo.randrange(60), metadata)

        stores = Stores(self._storm.store_settings)
        await stores.open("main").write_objects(bucket, missing())
        await stores.close()

    def _write_manifest(
        self, bucket: str, there: dict[str, Version], files: int
    ) -> tuple[frozenset[str], dict[str, Any]]:
        """Most of what is there, some in the generation that it has, and names that are not."""
        names = [name for name in there if self._random.random() < 0.9]
        names += [f"{self.prefix}never-{number}" for number in range(len(names) // 50)]
        if self._random.random() < 0.5:
            self._random.shuffle(names)
        lines = []
        for name in names:
            named = name in there and self._random.random() < 0.3
            lines.append(f"{bucket},{name},{there[name].generation if named else ''}\r\n")
        folder = f"{self.prefix}{bucket}/{self._numbers}/"

        async def write() -> None:
            stores = Stores(self._storm.store_settings)
            for number in range(files):
                text = "bucket,name,generation\r\n" + "".join(lines[number::files])
                name = f"{folder}{number}.csv"
                await stores.open("main").write_object(PAPERS, name, stream(text.encode()))
            await stores.close()

        asyncio.run(write())
        location = f"gs://{PAPERS}/{folder}*.csv"
        return frozenset(names), {"manifest": {"manifestLocation": location}}

    # The job.

    def _create(self, order: Order, source: dict[str, dict[str, Any]]) -> str:
        body = {
            "bucketList": {"buckets": [{"bucket": one, **what} for one, what in source.items()]},
            "loggingConfig": {
                "logActions": ["TRANSFORM"],
                "logActionStates": ["SUCCEEDED", "FAILED"],
            },
            **order.message,
        }
        # The same request until it is answered: a service that dies may have made the job.
        path = f"{PROJECT}/jobs?requestId={self._request()}"
        operation = self._storm.ask("POST", path, json=body)
        return str(self._storm.ask("GET", operation["name"])["metadata"]["job"]["name"])

    def _request(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def _follow(self, name: str) -> dict[str, Any]:
        """The job, once it has ended; its counters never go back."""
        deadline = time.monotonic() + JOB_SECONDS
        before = self.seen
        last: dict[str, int] = {}
        while True:
            job = self._storm.ask("GET", name)
            now = counters(job)
            if any(now.get(counter, 0) < value for counter, value in last.items()):
                raise Discrepancy(f"{name}: counters went back from {last} to {now}")
            last = now
            handled = now.get("succeededObjectCount", 0) + now.get("failedObjectCount", 0)
            self.seen = before + handled
            if job["state"] not in {"QUEUED", "RUNNING"}:
                return job
            if time.monotonic() > deadline:
                raise Discrepancy(f"{name} has not ended in {JOB_SECONDS:g} s: {job}")
            self._storm.failed.wait(0.1)
            self._storm.check()

    def _reckon(
        self,
        order: Order,
        job: dict[str, Any],
        before: dict[str, dict[str, Version]],
        rows: dict[str, frozenset[str]],
    ) -> tuple[Sums, int]:
        """What the job comes to, and how many shards it had."""
        logs = self._storm.service.data_dir / "logs"
        files = sorted(logs.glob(f"*/{job['name'].rpartition('/')[2]}/shard-*.jsonl"))
        lines = (line for file in files for line in file.read_bytes().splitlines())
        records = (orjson.loads(line)["jsonPayload"] for line in lines)
        words = words_of(records, by_generation=order.deletes and not rows)
        listed = self._storm.ask("GET", f"{job['name']}/bucketOperations")["bucketOperations"]
        parts = {one["bucketName"]: one for one in listed}
        if not parts.keys() == before.keys() >= words.keys():
            raise Discrepancy(f"{parts.keys()} and {words.keys()} instead of {before.keys()}")
        sums = []
        for bucket in self.buckets:
            after = self._journals[bucket].take(self.prefix)
            place = Place(
                bucket=bucket,
                before=before[bucket],
                after=after,
                deleted_by_others=self._storm.deleted_by_others(bucket),
                rows=rows.get(bucket),
            )
            if rows and words[bucket].keys() != rows[bucket]:
                raise Discrepancy(f"rows without a word: {words[bucket].keys() ^ rows[bucket]}")
            sums.append(Books(order, place).reckon(words[bucket]))
            compare(parts[bucket], order, sums[-1])
        whole = together(sums)
        compare(job, order, whole)
        return whole, len({file.name.split(".")[0] for file in files})
