"""What every runner promises to whoever asks for jobs, with real processes and over HTTP.

All cases of a runner share its processes, which each finds running and has buckets of its own in.
Bounds are generous, for busy machines.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import httpx
import pytest

from longshore.patch import dump_map
from longshore.store import Bucket, NewObject
from tests.conformance.runners import (
    LEASE_SECONDS,
    RATE,
    SHARDS_AT_ONCE,
    WORKERS,
    Dask,
    Local,
    Runner,
)
from tests.harbour import CONTENT, FOLDERS, HOLD, LOGGED, Harbour, alive, counters, prefixes

pytestmark = pytest.mark.timeout(300)

OBJECTS = 1_600
"""A job of as many, in a slow bucket, takes some seconds."""
SOME = OBJECTS // 8
DELETE = {"deleteObject": {}}
RELABEL = {"putMetadata": {"customMetadata": {"run": "1"}}}
CANCEL_SECONDS = 10.0
"""After which a cancelled job must have ended; a quiet machine takes a tenth of a second."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["local", pytest.param("dask", marks=pytest.mark.services)])
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    directory = tmp_path_factory.mktemp(request.param)
    made: Runner
    if request.param == "dask":
        made = Dask(directory, request.getfixturevalue("postgresql").new_database())
    else:
        made = Local(directory, request.getfixturevalue("new_database")())
    with closing(made):
        made.start()
        yield made


@pytest.fixture
def runner(started: Runner) -> Runner:
    started.start()
    return started


@pytest.fixture
def harbour(runner: Runner) -> Harbour:
    return runner.harbour


Fill = Callable[..., str]


@pytest.fixture
def fill(harbour: Harbour) -> Fill:
    """Makes a bucket with objects in FOLDERS folders; its name begins with what is given."""

    def make(kind: str = "quick", objects: int = OBJECTS, folders: int = FOLDERS) -> str:
        bucket = f"{kind}-{next(_numbers)}"
        harbour.fill(objects, folders, bucket)
        return bucket

    return make


def begin(harbour: Harbour, bucket: str, what: Mapping[str, Any] = HOLD, done: int = SOME) -> str:
    """A job over the whole bucket, by prefixes, that has made some progress."""
    operation = harbour.create_job({bucket: prefixes()}, {**what, **LOGGED})
    harbour.until(lambda: harbour.done_by(operation) > done, 60, "make progress")
    return operation


def end(harbour: Harbour, operation: str, objects: int = OBJECTS) -> dict[str, Any]:
    """The job ends well, with each object counted once, and with a record."""
    job = harbour.done(operation)
    assert job["state"] == "SUCCEEDED", (job, harbour.logs())
    found = counters(job)
    assert (found["totalObjectCount"], found["succeededObjectCount"]) == (objects, objects)
    assert found["totalBytesFound"] == objects * len(CONTENT)
    assert found.get("failedObjectCount", 0) == 0
    assert len({name for name, _ in logged(harbour, job)}) == objects
    return job


def logged(harbour: Harbour, job: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The name and the status of each record in the job's log."""
    found = []
    for record in harbour.records(id_of(job)):
        (member,) = record.keys() - {"@type", "completeTime", "status", "settled"}
        thing = record[member]["objectMetadataBefore"]["gcsObject"]
        found.append((thing["bucket"] + thing["objectKey"], record["status"]["statusCode"]))
    return found


def delete(harbour: Harbour, name: str) -> tuple[int, str]:
    """The status of the reply, as HTTP has it and, of an error, by name."""
    reply = harbour.reply("DELETE", f"/v1/{name}")
    return reply.status_code, reply.json().get("error", {}).get("status", "")


def there(harbour: Harbour, name: str) -> bool:
    return harbour.reply("GET", f"/v1/{name}").status_code != httpx.codes.NOT_FOUND


def deaths(runner: Runner) -> int:
    """How many workers have been found dead since the last start."""
    return len(re.findall(r"worker died .*of=SIGKILL", runner.log()))


def id_of(job: Mapping[str, Any]) -> str:
    return str(job["name"]).rpartition("/")[2]


def changed_once(harbour: Harbour, bucket: str, objects: int = OBJECTS) -> None:
    """Each object of the bucket has been held, and nothing else has been done to it."""
    found = harbour.listing(bucket, columns=("temporary_hold",))
    assert found.columns["temporary_hold"] == [True] * objects
    assert found.metagenerations == [2] * objects


def manifest(harbour: Harbour, bucket: str, names: Sequence[str]) -> dict[str, Any]:
    """The source of these objects of a bucket, in a manifest in another one."""
    papers = f"papers-of-{bucket}"
    rows = "".join(f"{bucket},{name}\n" for name in names)

    async def write() -> None:
        await harbour.store.create_bucket(Bucket(name=papers, create_time_us=0))
        new = NewObject("list.csv", f"bucket,name\n{rows}".encode())
        await harbour.store.write_objects(papers, [new])

    asyncio.run(write())
    return {"manifest": {"manifestLocation": f"gs://{papers}/list.csv"}}


def test_jobs_of_every_kind_at_once_over_two_buckets(harbour: Harbour, fill: Fill) -> None:
    """By prefixes over both, by manifest, and deletions: each object is changed once."""
    one, two = fill(), fill()
    own = OBJECTS // FOLDERS
    of_both = harbour.create_job({one: prefixes(range(4)), two: prefixes(range(4))}, HOLD | LOGGED)
    names = {bucket: harbour.listing(bucket, "d/4/").names for bucket in (one, two)}
    listed = {bucket: manifest(harbour, bucket, names[bucket]) for bucket in names}
    relabelled = [harbour.create_job({bucket: listed[bucket]}, RELABEL) for bucket in listed]
    gone = [harbour.create_job({bucket: prefixes([5])}, DELETE | LOGGED) for bucket in (one, two)]
    end(harbour, of_both, 2 * 4 * own)
    for operation in gone:
        job = end(harbour, operation, own)
        assert counters(job)["totalBytesTransformed"] == own * len(CONTENT)
    for operation in relabelled:
        job = harbour.done(operation)
        assert job["state"] == "SUCCEEDED", job
        assert counters(job) == {"totalObjectCount": own, "succeededObjectCount": own}
    for bucket in (one, two):
        found = harbour.listing(bucket, columns=("temporary_hold", "custom_metadata"))
        is_in = [int(name.split("/")[1]) for name in found.names]
        assert {folder: is_in.count(folder) for folder in range(FOLDERS)} == {
            folder: 0 if folder == 5 else own for folder in range(FOLDERS)
        }
        assert found.columns["temporary_hold"] == [folder < 4 for folder in is_in]
        labels = [dump_map({"run": "1"}) if folder == 4 else "" for folder in is_in]
        assert [text or "" for text in found.columns["custom_metadata"]] == labels
        assert found.metagenerations == [2 if folder < 5 else 1 for folder in is_in]


def test_a_small_job_waits_for_nobody(harbour: Harbour, fill: Fill) -> None:
    assert harbour.ask("GET", "/readyz") == {"database": True, "workers": True}
    bucket = fill(objects=3, folders=1)
    began = time.monotonic()
    end(harbour, harbour.create_job({bucket: prefixes([0])}, HOLD | LOGGED), 3)
    assert time.monotonic() - began < 5.0  # a quiet machine takes a fifth of a second


def test_a_dry_run_counts_and_changes_nothing(harbour: Harbour, fill: Fill) -> None:
    bucket = fill()
    before = harbour.listing(bucket)
    job = harbour.done(harbour.create_job({bucket: prefixes()}, {**DELETE, "dryRun": True}))
    assert job["state"] == "SUCCEEDED", job
    assert counters(job) == {
        "totalObjectCount": OBJECTS,
        "totalBytesFound": OBJECTS * len(CONTENT),
    }
    assert harbour.listing(bucket) == before


def test_objects_that_fail_are_counted_and_logged(harbour: Harbour, fill: Fill) -> None:
    bucket = fill()
    there = harbour.listing(bucket, "d/1/").names
    absent = [f"d/never/{number}" for number in range(100)]
    source = manifest(harbour, bucket, [*there, *absent])
    job = harbour.done(harbour.create_job({bucket: source}, HOLD | LOGGED))
    assert job["state"] == "SUCCEEDED", job
    assert counters(job) == {
        "totalObjectCount": len(there) + len(absent),
        "succeededObjectCount": len(there),
        "failedObjectCount": len(absent),
    }
    (summary,) = job["errorSummaries"]
    assert (summary["errorCode"], summary["errorCount"]) == ("NOT_FOUND", "100")
    assert len(summary["errorLogEntries"]) == 5
    expected = {bucket + name: "OK" for name in there}
    expected |= {bucket + name: "NOT_FOUND" for name in absent}
    found = logged(harbour, job)
    assert dict(found) == expected
    assert len(found) == len(expected)


def test_one_failing_bucket_fails_the_job_and_the_others_run(harbour: Harbour, fill: Fill) -> None:
    bucket = fill()
    operation = harbour.create_job({"missing": prefixes(), bucket: prefixes()}, HOLD)
    job = harbour.done(operation)
    assert job["state"] == "FAILED"
    assert job["isMultiBucketJob"] is True
    assert counters(job)["succeededObjectCount"] == OBJECTS
    changed_once(harbour, bucket)
    listed = harbour.get(f"{job['name']}/bucketOperations")["bucketOperations"]
    states = {one["bucketName"]: one["state"] for one in listed}
    assert states == {"missing": "FAILED", bucket: "SUCCEEDED"}
    error = harbour.get(operation)["error"]
    assert error["code"] == 5
    assert "missing" in error["message"]


def test_a_cancel_stops_a_running_job(harbour: Harbour, fill: Fill) -> None:
    objects = int((CANCEL_SECONDS + 2) * RATE)
    bucket = fill("slow", objects)
    operation = begin(harbour, bucket)
    harbour.cancel(operation)
    assert harbour.get(operation)["metadata"]["requestedCancellation"] is True
    harbour.until(lambda: harbour.get(operation)["done"], CANCEL_SECONDS, "end it")
    ended, job = harbour.get(operation), harbour.job_of(operation)
    assert ended["error"]["code"] == 1
    assert "response" not in ended
    assert job["state"] == "CANCELED"
    before = harbour.listing(bucket, columns=("temporary_hold",))
    held = sum(before.columns["temporary_hold"])
    assert counters(job)["succeededObjectCount"] == held < objects
    assert counters(job).get("failedObjectCount", 0) == 0
    time.sleep(0.5)  # long enough for ten batches, had anything gone on
    assert harbour.listing(bucket, columns=("temporary_hold",)) == before
    for _ in range(2):  # again, on the finished operation: {} and nothing changes
        harbour.cancel(operation)
    assert (harbour.get(operation), harbour.job_of(operation)) == (ended, job)


def test_jobs_together_do_not_exceed_a_cap(harbour: Harbour, fill: Fill) -> None:
    """How near they come to it depends on the machine; that is tested in engine/test_limits.py."""
    bucket = fill("slow")
    began = time.monotonic()
    operations = [harbour.create_job({bucket: prefixes()}, what) for what in (HOLD, RELABEL)]
    for operation in operations:
        assert counters(harbour.done(operation))["succeededObjectCount"] == OBJECTS
    assert time.monotonic() - began >= 2 * OBJECTS / (1.1 * RATE)


def test_a_worker_carries_no_more_shards_at_once_than_it_may(harbour: Harbour, fill: Fill) -> None:
    folders = 3 * WORKERS * SHARDS_AT_ONCE
    bucket = fill("slow", folders=folders)
    operation = harbour.create_job({bucket: prefixes(range(folders))}, HOLD | LOGGED)
    harbour.until(lambda: harbour.done_by(operation), 60, "make progress")  # it has been planned
    most = 0
    while not harbour.get(operation).get("done"):
        most = max(most, *harbour.carried().values(), 0)
    end(harbour, operation)
    assert 1 < most <= SHARDS_AT_ONCE


def test_a_worker_that_is_killed_loses_nothing(runner: Runner, fill: Fill) -> None:
    harbour, bucket = runner.harbour, fill("slow")
    operation = begin(harbour, bucket)
    before = deaths(runner)
    runner.kill_worker()
    harbour.until(lambda: deaths(runner) == before + 1, 30, "notice")
    end(harbour, operation)
    changed_once(harbour, bucket)


def test_jobs_go_on_when_who_leads_is_killed(runner: Runner, fill: Fill) -> None:
    """And others begin."""
    harbour, buckets = runner.harbour, [fill("slow"), fill()]
    operation = begin(harbour, buckets[0])
    runner.kill_leader()
    runner.start()
    another = harbour.create_job({buckets[1]: prefixes()}, HOLD | LOGGED)
    for one, bucket in zip((operation, another), buckets, strict=True):
        end(harbour, one)
        changed_once(harbour, bucket)


def test_everything_is_killed_and_goes_on(runner: Runner, fill: Fill) -> None:
    """Where it was, and without waiting for leases; also a job that nobody had begun."""
    harbour, bucket, another = runner.harbour, fill("slow"), fill()
    operation = begin(harbour, bucket, DELETE)
    before = harbour.done_by(operation)
    just_asked = harbour.create_job({another: prefixes()}, HOLD | LOGGED)
    runner.kill()
    runner.start()
    again = time.monotonic()
    assert harbour.done_by(operation) >= before
    end(harbour, just_asked)
    changed_once(harbour, another)
    job = end(harbour, operation)
    assert time.monotonic() - again < LEASE_SECONDS
    assert counters(job)["totalBytesTransformed"] == OBJECTS * len(CONTENT)
    assert harbour.listing(bucket) is None


def test_a_graceful_stop_hands_back(runner: Runner, fill: Fill) -> None:
    """Nothing is left to be looked at, nor done or recorded twice."""
    harbour, bucket = runner.harbour, fill("slow")
    operation = begin(harbour, bucket)
    before = harbour.done_by(operation)
    workers = runner.workers()
    runner.stop()
    assert not any(map(alive, workers))
    assert harbour.carried() == {}
    runner.start()
    assert harbour.done_by(operation) >= before
    job = end(harbour, operation)
    changed_once(harbour, bucket)
    records = harbour.records(id_of(job))
    assert len(records) == OBJECTS
    assert not any(record.get("settled") for record in records)


def test_what_is_asked_while_nobody_carries_is_done_later(runner: Runner, fill: Fill) -> None:
    harbour, buckets = runner.harbour, [fill(), fill()]
    runner.rest()
    first, second = (harbour.create_job({bucket: prefixes()}, HOLD | LOGGED) for bucket in buckets)
    harbour.cancel(second)
    assert harbour.job_of(second)["state"] == "CANCELED"
    assert harbour.job_of(first)["state"] in ("QUEUED", "RUNNING")
    runner.start()
    end(harbour, first)
    changed_once(harbour, buckets[0])
    assert set(harbour.listing(buckets[1]).metagenerations) == {1}
    assert harbour.job_of(second)["state"] == "CANCELED"


def test_a_shard_that_kills_its_workers_is_given_up_and_others_go_on(
    runner: Runner, fill: Fill
) -> None:
    harbour = runner.harbour
    deadly, spared, slow = fill("deadly", 10, 1), fill(objects=80), fill("slow")
    before = deaths(runner)
    operation = harbour.create_job({deadly: prefixes([0]), spared: prefixes()}, HOLD)
    other = harbour.create_job({slow: prefixes()}, HOLD | LOGGED)
    job = harbour.done(operation, 120)
    assert deaths(runner) - before == 10
    assert job["state"] == "FAILED"
    error = harbour.get(operation)["error"]
    assert error["code"] == 13
    assert "10 workers in a row died or hung while they carried it" in error["message"]
    found = counters(job)
    assert (found["succeededObjectCount"], found["failedObjectCount"]) == (80, 10)
    assert harbour.held(deadly) == 0
    changed_once(harbour, spared, 80)
    end(harbour, other)
    changed_once(harbour, slow)


def test_jobs_and_their_operations_are_deleted_apart(harbour: Harbour, fill: Fill) -> None:
    """Neither takes the other with it; an open job is not deleted, a cancelled one is waited for;
    and the log goes with its job."""
    bucket = fill("slow")
    operation = begin(harbour, bucket)
    name = harbour.job_of(operation)["name"]
    assert delete(harbour, name) == (400, "FAILED_PRECONDITION")
    assert delete(harbour, operation) == (200, "")
    assert not there(harbour, operation)
    harbour.until(lambda: harbour.get(name)["state"] == "SUCCEEDED", 60, "run on")
    changed_once(harbour, bucket)
    assert delete(harbour, name) == (200, "")
    assert not there(harbour, name)
    log = f"*/logs/*/{id_of({'name': name})}/*"
    harbour.until(lambda: not any(harbour.directory.glob(log)), 30, "remove the log")
    cancelled = begin(harbour, fill("slow"))
    name = harbour.job_of(cancelled)["name"]
    harbour.cancel(cancelled)
    assert delete(harbour, name) == (200, "")
    assert not there(harbour, name)
    assert harbour.get(cancelled)["done"] is True
