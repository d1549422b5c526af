"""Jobs over what clients of Cloud Storage have put into the emulator; and its command."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud import storagebatchoperations_v1 as sbo

from longshore.testing import Emulator, emulator

PARENT = "projects/local/locations/global"


@pytest.fixture
def jobs(emulated: Emulator) -> sbo.StorageBatchOperationsClient:
    return sbo.StorageBatchOperationsClient(
        transport="rest",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": emulated.url},
    )


def run(jobs: sbo.StorageBatchOperationsClient, bucket: storage.Bucket, name: str, **what: object):
    source = {
        "bucket": bucket.name,
        "prefix_list": {"included_object_prefixes": ["cargo/"]},
    }
    job = sbo.Job(bucket_list={"buckets": [source]}, **what)
    return jobs.create_job(parent=PARENT, job_id=f"{name}-{bucket.name}", job=job).result(60)


def test_a_hold_by_a_job_is_a_hold(
    jobs: sbo.StorageBatchOperationsClient, bucket: storage.Bucket
) -> None:
    for number in range(20):
        bucket.blob(f"cargo/{number}").upload_from_string(b"1")
    bucket.blob("other").upload_from_string(b"1")
    held = run(jobs, bucket, "hold", put_object_hold={"temporary_hold": 1})
    assert (held.counters.succeeded_object_count, held.counters.failed_object_count) == (20, 0)
    assert [blob.name for blob in bucket.list_blobs() if not blob.temporary_hold] == ["other"]
    with pytest.raises(exceptions.Forbidden):
        bucket.delete_blob("cargo/7")
    run(jobs, bucket, "free", put_object_hold={"temporary_hold": 2})
    bucket.delete_blob("cargo/7")
    gone = run(jobs, bucket, "delete", delete_object={})
    assert gone.counters.succeeded_object_count == 19
    assert [blob.name for blob in bucket.list_blobs()] == ["other"]
    deleted = list(bucket.list_blobs(soft_deleted=True))
    assert {blob.name for blob in deleted} == {f"cargo/{number}" for number in range(20)}
    bucket.restore_blob(deleted[0].name, generation=deleted[0].generation)
    assert [blob.name for blob in bucket.list_blobs()] == [deleted[0].name, "other"]


def test_a_manifest_is_read_where_it_was_uploaded(
    jobs: sbo.StorageBatchOperationsClient, bucket: storage.Bucket
) -> None:
    for name in ("a", "b", "c"):
        bucket.blob(name).upload_from_string(b"1")
    bucket.blob("list.csv").upload_from_string(f"bucket,name\n{bucket.name},a\n{bucket.name},b\n")
    manifest = {"manifest_location": f"gs://{bucket.name}/list.csv"}
    job = sbo.Job(
        bucket_list={"buckets": [{"bucket": bucket.name, "manifest": manifest}]},
        put_metadata={"custom_metadata": {"k": "v"}},
    )
    jobs.create_job(parent=PARENT, job_id=f"manifest-{bucket.name}", job=job).result(60)
    assert [blob.name for blob in bucket.list_blobs() if blob.metadata == {"k": "v"}] == ["a", "b"]


@pytest.fixture(scope="module")
def slow() -> Iterator[Emulator]:
    with emulator(max_objects_per_second=10) as running:
        yield running


class Slow:
    """An emulator all of whose jobs hold what is in one bucket, ten objects a second."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._http = http
        self._jobs = sbo.StorageBatchOperationsClient(
            transport="rest",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": url},
        )

    def begin(self, objects: int) -> sbo.Job:
        """Make the bucket, and a job; give it when it is done with some of its objects."""
        made = [{"name": f"cargo/{number:03}"} for number in range(objects)]
        seed = {"buckets": [{"name": "slow", "objects": made}]}
        self._http.post("/_emulator/seed", json=seed).raise_for_status()
        source = {"bucket": "slow", "prefix_list": {"included_object_prefixes": ["cargo/"]}}
        hold = sbo.Job(bucket_list={"buckets": [source]}, put_object_hold={"temporary_hold": 1})
        self._jobs.create_job(parent=PARENT, job_id="hold", job=hold)
        while not (job := self.job()).counters.succeeded_object_count:
            time.sleep(0.02)
        return job

    def job(self) -> sbo.Job:
        return self._jobs.get_job(name=f"{PARENT}/jobs/hold")

    def cancel(self) -> None:
        self._jobs.cancel_job(name=f"{PARENT}/jobs/hold")

    def ended(self) -> sbo.Job:
        while (job := self.job()).state is sbo.Job.State.RUNNING:
            time.sleep(0.02)
        return job

    def reset(self) -> None:
        self._http.post("/_emulator/reset").raise_for_status()

    def objects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/storage/v1/b/slow/o").json()["items"]
        return found


@pytest.fixture
def running(slow: Emulator) -> Iterator[Slow]:
    with httpx.Client(base_url=slow.url, timeout=20) as http:
        made = Slow(slow.url, http)
        yield made
        made.reset()


def test_a_job_that_runs_is_cancelled(running: Slow) -> None:
    assert running.begin(500).state is sbo.Job.State.RUNNING
    running.cancel()
    job = running.ended()
    held = sum("temporaryHold" in one for one in running.objects())
    assert job.state is sbo.Job.State.CANCELED
    assert 0 < held == job.counters.succeeded_object_count < 500


def test_a_reset_leaves_nothing_of_a_job_that_runs(running: Slow) -> None:
    """Objects of the same names, and a job of the same id, are touched by that one alone."""
    assert running.begin(500).state is sbo.Job.State.RUNNING
    running.reset()
    with pytest.raises(exceptions.NotFound):
        running.job()
    running.begin(15)
    job = running.ended()
    assert job.state is sbo.Job.State.SUCCEEDED
    assert job.counters.total_object_count == job.counters.succeeded_object_count == 15
    assert [one["metageneration"] for one in running.objects()] == ["2"] * 15


def test_what_is_in_a_directory_is_there_again(tmp_path: Path) -> None:
    with emulator(tmp_path) as first, httpx.Client(base_url=first.url) as http:
        http.post("/storage/v1/b", json={"name": "kept", "labels": {"a": "1"}})
        http.post("/upload/storage/v1/b/kept/o?name=a", content=b"x" * 100_000)
    with emulator(tmp_path) as second, httpx.Client(base_url=second.url) as http:
        assert http.get("/storage/v1/b/kept").json()["labels"] == {"a": "1"}
        assert http.get("/storage/v1/b/kept/o/a?alt=media").content == b"x" * 100_000
    assert list((tmp_path / "arriving").iterdir()) == []


def test_the_command_prints_where_it_listens_and_ends_by_a_signal() -> None:
    command = [sys.executable, "-m", "longshore", "emulator", "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = "".join(iter(process.stdout.readline, "# Ctrl-C ends it.\n"))
        exported = dict(re.findall(r"^export (\w+)=(\S+)$", told, re.MULTILINE))
        url = exported["STORAGE_EMULATOR_HOST"]
        assert httpx.get(f"{url}/storage/v1/b").json() == {"kind": "storage#buckets"}
        assert exported["LONGSHORE_SERVER"] == url
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
