"""The whole service on a real S3 server: nothing is lost, doubled or left behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from longshore.patch import dump_map
from longshore.settings import StoreSettings
from longshore.store import ABSENT, NewObject
from tests.s3.asking import client_of, options_of, versions_of
from tests.service import Service, counters
from tests.services.ceph import Account, Ceph

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

ALL = {"prefixList": {"includedObjectPrefixes": [""]}}
DELETE = {"deleteObject": {"permanentObjectDeletionEnabled": False}}
PERMANENT = {"deleteObject": {"permanentObjectDeletionEnabled": True}}
HOLD = {"putObjectHold": {"temporaryHold": "SET"}}
RELEASE = {"putObjectHold": {"temporaryHold": "UNSET"}}
METADATA = {"putMetadata": {"contentLanguage": "de", "customMetadata": {"new": "ü", "b": "2"}}}
BUCKET = "harbour"
OBJECTS = int(os.environ.get("OBJECTS", "5000"))
"""Over how many the outages come; bench/README.md has what came of 100,000."""
ODD = ("plain", "with space", "a+b", "100%", "ü/ö", "x%2Fy", "q?&=#", "<&>'\"")


class Harbour:
    """A service whose buckets are those of an account, and boto3 to look at them."""

    def __init__(self, directory: Path, account: Account, **options: Any) -> None:
        keys = {"region": "us-east-1", **options_of(account)}
        store = StoreSettings(name="ceph", kind="s3", buckets=("*",), options=keys)
        self.service = Service(directory, store=store, **options)
        self.s3 = client_of(account)

    def put(self, bucket: str, names: list[str], **how: Any) -> None:
        with ThreadPoolExecutor(8) as threads:
            put = self.s3.put_object
            list(threads.map(lambda name: put(Bucket=bucket, Key=name, Body=b"x", **how), names))

    def write(self, bucket: str, names: list[str], **metadata: Any) -> None:
        """The same, by the store itself: three times as fast."""

        async def main() -> None:
            store = self.service.stores.open("ceph")
            new = (NewObject(name, b"x", metadata) for name in names)
            assert not (await store.write_objects(bucket, new)).failures
            await self.service.stores.close()

        asyncio.run(main())

    def heads(self, bucket: str, names: list[str]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(8) as threads:
            return list(
                threads.map(lambda name: self.s3.head_object(Bucket=bucket, Key=name), names)
            )

    def metadata(self, bucket: str, names: list[str]) -> set[str]:
        """What there is of custom metadata on any of them, by the store itself."""

        async def main() -> set[str]:
            store, columns = self.service.stores.open("ceph"), ("custom_metadata",)
            found = await store.read_objects(bucket, names, [ABSENT] * len(names), columns=columns)
            await self.service.stores.close()
            assert ABSENT not in found.generations
            return set(found.columns["custom_metadata"])

        return asyncio.run(main())

    def versions(self, bucket: str) -> tuple[Counter[str], Counter[str]]:
        """How many versions and markers each name has."""
        found: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        for one in versions_of(self.s3, bucket):
            found[one.marker][one.name] += 1
        return found

    def run(self, bucket: str, what: dict[str, Any], seconds: float = 240) -> dict[str, Any]:
        return self.service.done(self.service.create(bucket, ALL, what), seconds)

    def close(self) -> None:
        self.service.close()
        self.s3.close()


@contextmanager
def harbour(directory: Path, account: Account, **options: Any) -> Iterator[Harbour]:
    at = Harbour(directory, account, **options)
    try:
        at.service.start()
        yield at
    finally:
        at.close()


def test_in_a_bucket_with_locks_nothing_is_lost_and_what_is_held_stays(
    ceph: Ceph, tmp_path: Path
) -> None:
    """Without default retention, and without a probe bucket."""
    names = [f"{ODD[n % len(ODD)]}/{n:04d}" for n in range(2_000)]
    with harbour(tmp_path, ceph.new_account(), workers=2) as at:
        at.s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        at.put(
            BUCKET,
            names,
            ContentType="text/x-odd",
            CacheControl="max-age=7",
            Metadata={"old": "1", "b": "1"},
            Tagging="team=dock&x=y",
        )
        assert counters(at.run(BUCKET, METADATA))["succeededObjectCount"] == 2_000
        for head in at.heads(BUCKET, names):
            assert head["ContentType"] == "text/x-odd"
            assert head["CacheControl"] == "max-age=7"
            assert head["ContentLanguage"] == "de"
            assert head["Metadata"] | {"new": ""} == {"old": "1", "b": "2", "new": ""}
        for name in names[::100]:
            tags = at.s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"]
            assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "dock", "x": "y"}
        versions, markers = at.versions(BUCKET)
        assert set(versions.values()) == {2}
        assert (len(versions), markers) == (2_000, Counter())

        assert counters(at.run(BUCKET, HOLD))["succeededObjectCount"] == 2_000
        refused = at.run(BUCKET, PERMANENT)
        done = counters(refused)
        # The versions from before the change of metadata go, those that are held stay.
        assert (done["failedObjectCount"], done["succeededObjectCount"]) == (2_000, 2_000)
        (summary,) = refused["errorSummaries"]
        assert (summary["errorCode"], summary["errorCount"]) == ("PERMISSION_DENIED", "2000")
        assert at.versions(BUCKET)[0] == Counter(versions.keys())

        assert counters(at.run(BUCKET, RELEASE))["succeededObjectCount"] == 2_000
        assert counters(at.run(BUCKET, PERMANENT))["succeededObjectCount"] == 2_000
        assert at.versions(BUCKET) == (Counter(), Counter())


def test_twenty_crashes_lay_one_marker(ceph: Ceph, tmp_path: Path) -> None:
    """What they do to copies is in test_copying_jobs.py."""
    names = [f"d/{n:04d}" for n in range(1_500)]
    with harbour(tmp_path, ceph.new_account(), workers=1, rate=250) as at:
        at.s3.create_bucket(Bucket=BUCKET)
        versioning = {"Status": "Enabled"}
        at.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=versioning)
        at.write(BUCKET, names)
        operation = at.service.create(BUCKET, ALL, DELETE)
        for crash in range(20):
            began = _done(at.service, operation)
            at.service.until(
                lambda began=began: _done(at.service, operation) >= min(began + 40, 1_500),
                60,
                "make progress",
            )
            time.sleep(crash * 0.007)  # at any point of a batch
            at.service.kill()
            at.service.start()
        job = at.service.done(operation, 240)
        assert job["state"] == "SUCCEEDED"
        assert counters(job)["succeededObjectCount"] == counters(job)["totalObjectCount"] == 1_500
        each_once = Counter(names)
        assert at.versions(BUCKET) == (each_once, each_once)


@pytest.mark.timeout(300 + OBJECTS // 20)
def test_the_gateway_and_the_service_are_killed(ceph: Ceph, tmp_path: Path) -> None:
    """In an outage nothing is lost and nothing counted twice, and each object has its record in a
    bucket that is out as well; OBJECTS says how many objects."""
    names = [f"d/{n:06d}" for n in range(OBJECTS)]
    account = ceph.new_account()
    with ceph.gateway() as gateway:
        own = account._replace(endpoint=gateway.endpoint)
        to = "gs://job-logs/harbour"
        with harbour(tmp_path, own, workers=2, rate=OBJECTS / 10, logs=to) as at:
            at.s3.create_bucket(Bucket=BUCKET)
            at.s3.create_bucket(Bucket="job-logs")
            at.write(BUCKET, names, custom_metadata=dump_map({"old": "1"}))
            operation = at.service.create(BUCKET, ALL, METADATA)
            for share, strike in (
                (0.2, _restart(gateway)),
                (0.4, _restart(at.service)),
                (0.6, _restart(gateway)),
            ):
                at.service.until(
                    lambda share=share: _done(at.service, operation) >= share * OBJECTS,
                    120 + OBJECTS / 50,
                    "make progress",
                )
                strike()
            job = at.service.done(operation, 240 + OBJECTS / 50)
            assert job["state"] == "SUCCEEDED"
            done = counters(job)
            assert (done["succeededObjectCount"], done["totalObjectCount"]) == (OBJECTS, OBJECTS)
            for head in at.heads(BUCKET, names[:: OBJECTS // 200]):
                assert head["Metadata"].keys() == {"old", "new", "b"}
            assert at.metadata(BUCKET, names) == {dump_map({"old": "1", "new": "ü", "b": "2"})}
            assert _recorded(at.s3, "job-logs") == set(names)


def _recorded(s3: Any, bucket: str) -> set[str]:
    """The objects that have a record of a change of metadata in ``bucket``."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="harbour/local/")
    keys = [one["Key"] for page in pages for one in page["Contents"]]
    with ThreadPoolExecutor(8) as threads:
        get = s3.get_object
        bodies = list(threads.map(lambda key: get(Bucket=bucket, Key=key)["Body"].read(), keys))
    payloads = [orjson.loads(line)["jsonPayload"] for body in bodies for line in body.splitlines()]
    changes = [one["PutMetadata"] for one in payloads if "PutMetadata" in one]  # no remarks
    return {one["objectMetadataBefore"]["gcsObject"]["objectKey"] for one in changes}


def _restart(what: Any) -> Callable[[], None]:
    def strike() -> None:
        what.kill()
        time.sleep(0.5)
        what.start()

    return strike


def _done(service: Service, operation: str) -> int:
    return counters(service.job_of(operation)).get("succeededObjectCount", 0)


def test_nothing_is_sent_after_a_cancel(ceph: Ceph, tmp_path: Path) -> None:
    names = [f"d/{n:05d}" for n in range(1_500)]
    with harbour(tmp_path, ceph.new_account(), workers=2, rate=300) as at:
        at.s3.create_bucket(Bucket=BUCKET)
        at.write(BUCKET, names)
        operation = at.service.create(BUCKET, ALL, METADATA)
        at.service.until(lambda: _done(at.service, operation) > 200, 60, "make progress")
        assert at.service.http.post(f"/v1/{operation}:cancel").json() == {}
        at.service.until(lambda: at.service.get(operation)["done"], 12, "end")
        job = at.service.job_of(operation)
        assert job["state"] == "CANCELED"
        changed = sum(bool(head["Metadata"]) for head in at.heads(BUCKET, names))
        assert changed == counters(job)["succeededObjectCount"] < 1_500
