"""A mix of jobs over some stores, round after round, and what must have come of each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from longshore.patch import dump_map
from longshore.store import NewObject
from tests.cluster.harbour import FOLDERS, Cluster
from tests.service import counters

JOB_SECONDS = 600.0
"""A job that takes longer hangs: in a storm of a blow a second nobody lives for long."""
DELETE: dict[str, Any] = {"deleteObject": {}}
PREFIXES, MANIFEST, DOOMED = range(4), range(4, 6), range(6, FOLDERS)
"""The folders of jobs by prefix, of those by manifest, and of those that are cancelled."""
WHOLE = ("b", "ceph")
"""The buckets in which jobs also delete and are cancelled in each round."""


class Order(NamedTuple):
    """A job that was created: ``objects`` are what it is over, and ``changed`` counts those that
    are as it wants them."""

    operation: str
    what: str
    objects: int
    changed: Callable[[], int]


class Mix:
    """Rounds of jobs, each of them upon what no other job of its round touches."""

    def __init__(self, cluster: Cluster, objects: dict[str, int], chance: random.Random) -> None:
        """``objects``: how many each bucket has, in FOLDERS folders of one size."""
        self._cluster = cluster
        self._objects = objects
        self._chance = chance
        self._rounds = self.jobs = self.counted = self.uncounted = 0
        asyncio.run(self._write_manifests())

    async def _write_manifests(self) -> None:
        for bucket, objects in self._objects.items():
            rows = [
                f"{bucket},d/{number % FOLDERS}/{number:07d}\n"
                for number in range(objects)
                if number % FOLDERS in MANIFEST
            ]
            new = NewObject(f"lists/{bucket}.csv", "".join(["bucket,name\n", *rows]).encode())
            await self._cluster.store.write_objects("b", [new])

    def round(self) -> list[str]:
        """Jobs side by side; gives what was wrong with them."""
        self._rounds += 1
        orders, doomed = [], []
        for bucket in self._objects:
            orders += [self._by_prefix(bucket), self._by_manifest(bucket)]
            if bucket in WHOLE:
                orders.append(self._deletion(bucket))
                doomed.append(self._order(bucket, DOOMED, prefixes(DOOMED), "putMetadata"))
        time.sleep(self._chance.uniform(0, 2))
        for order in doomed:
            self._cluster.cancel(order.operation)
        faults = [fault for order in orders for fault in self._wrong(order)]
        return faults + [fault for order in doomed for fault in self._wrong_though_cancelled(order)]

    def end(self) -> list[str]:
        """Delete everything; gives what was wrong."""
        faults = []
        for change in ({"putObjectHold": {"temporaryHold": "UNSET"}}, DELETE):
            orders = [
                Order(
                    self._cluster.create_over(bucket, prefixes(range(FOLDERS)), change),
                    f"{change} of all {bucket}",
                    objects,
                    lambda bucket=bucket, objects=objects: objects - self._left(bucket, "d/"),
                )
                for bucket, objects in self._objects.items()
            ]
            if change is not DELETE:
                orders = [order._replace(changed=lambda n=order.objects: n) for order in orders]
            faults += [fault for order in orders for fault in self._wrong(order)]
        return faults

    def _by_prefix(self, bucket: str) -> Order:
        return self._order(bucket, PREFIXES, prefixes(PREFIXES), self._kind())

    def _by_manifest(self, bucket: str) -> Order:
        source = {"manifest": {"manifestLocation": f"gs://b/lists/{bucket}.csv"}}
        return self._order(bucket, MANIFEST, source, self._kind())

    def _kind(self) -> str:
        return self._chance.choice(("putObjectHold", "putMetadata", "updateObjectCustomContext"))

    def _order(self, bucket: str, folders: range, source: dict[str, Any], kind: str) -> Order:
        run = str(self._rounds)
        held = self._rounds % 2 == 1
        what, column, wanted = {
            "putObjectHold": (
                {"temporaryHold": "SET" if held else "UNSET"},
                "temporary_hold",
                held,
            ),
            "putMetadata": (
                {"customMetadata": {"run": run}},
                "custom_metadata",
                dump_map({"run": run}),
            ),
            "updateObjectCustomContext": (
                {"customContextUpdates": {"updates": {"run": {"value": run}}}},
                "contexts",
                dump_map({"run": run}),
            ),
        }[kind]
        return Order(
            self._cluster.create_over(bucket, source, {kind: what}),
            f"{kind} of {len(folders)} folders of {bucket}, round {run}",
            self._objects[bucket] // FOLDERS * len(folders),
            lambda: self._are(bucket, folders, column, wanted),
        )

    def _deletion(self, bucket: str) -> Order:
        """A job that deletes what has just been written for it."""
        objects = self._objects[bucket] // FOLDERS
        folder = f"x/{self._rounds}/"

        async def write() -> None:
            new = (NewObject(f"{folder}{number:07d}", b"waste") for number in range(objects))
            async with self._cluster.opened(bucket) as store:
                assert not (await store.write_objects(bucket, new)).failures

        asyncio.run(write())
        source = {"prefixList": {"includedObjectPrefixes": [folder]}}
        return Order(
            self._cluster.create_over(bucket, source, DELETE),
            f"deletion of {folder} of {bucket}",
            objects,
            lambda: objects - self._left(bucket, folder),
        )

    def _wrong(self, order: Order) -> list[str]:
        job = self._cluster.done(order.operation, JOB_SECONDS)
        found = counters(job)
        counted = (found.get("totalObjectCount", 0), found.get("succeededObjectCount", 0))
        changed = order.changed()
        self.jobs += 1
        self.counted += counted[1]
        if job["state"] == "SUCCEEDED" and {*counted, changed} == {order.objects}:
            return []
        return [
            f"{order.what}: {job['state']} with {found}, {changed} changed, of {order.objects}:"
            f" {job.get('errorSummaries')}"
        ]

    def _wrong_though_cancelled(self, order: Order) -> list[str]:
        """What is done is counted, unless whoever did it was lost when nobody could look any more:
        then it is among the total."""
        job = self._cluster.done(order.operation, JOB_SECONDS)
        found = counters(job)
        total, counted = found.get("totalObjectCount", 0), found.get("succeededObjectCount", 0)
        changed = order.changed()
        self.jobs += 1
        self.counted += counted
        self.uncounted += changed - counted
        if job["state"] in ("CANCELED", "SUCCEEDED") and counted <= changed <= total:
            return []
        return [f"{order.what}, cancelled: {job['state']} with {found}, {changed} changed"]

    def _are(self, bucket: str, folders: range, column: str, wanted: Any) -> int:
        """How many objects of these folders have ``wanted`` there."""

        async def count() -> int:
            return sum(
                [
                    await self._cluster.count(bucket, f"d/{folder}/", column, wanted)
                    for folder in folders
                ]
            )

        return asyncio.run(count())

    def _left(self, bucket: str, prefix: str) -> int:
        return asyncio.run(self._cluster.count(bucket, prefix))


def prefixes(folders: Sequence[int]) -> dict[str, Any]:
    listed = [f"d/{folder}/" for folder in folders]
    return {"prefixList": {"includedObjectPrefixes": listed}}
