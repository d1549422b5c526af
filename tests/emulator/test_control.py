"""Faults, the clock, a fresh start, and seeds."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from longshore.errors import InvalidArgument
from longshore.testing import Emulator, emulator
from tests.emulator.conftest import error_of

pytestmark = pytest.mark.parametrize("emulated", ["memory"], indirect=True, scope="session")

NOTHING = {"kind": "storage#buckets"}


@pytest.fixture(autouse=True)
def fresh(http: httpx.Client) -> Iterator[None]:
    yield
    assert http.post("/_emulator/reset").status_code == 204


def fault(http: httpx.Client, **what: object) -> None:
    http.post("/_emulator/faults", json=what).raise_for_status()


def test_the_next_calls_of_a_kind_fail(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = f"/storage/v1/b/{bucket.name}"
    fault(http, method="get", path=f"{at}*", status=503, count=2)
    assert http.get("/storage/v1/b").status_code == 200
    assert error_of(http.get(at))[:2] == (503, "backendError")
    assert http.patch(at, json={}).status_code == 200
    assert http.get("/_emulator/faults").json()["faults"][0]["count"] == 1
    assert error_of(http.get(f"{at}/o"))[:2] == (503, "backendError")
    assert http.get(at).status_code == 200
    assert http.get("/_emulator/faults").json() == {"faults": []}


def test_a_fault_is_met_where_node_s_client_goes(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    fault(http, path=f"/storage/v1/b/{bucket.name}", status=503)
    assert http.get(f"/b/{bucket.name}").status_code == 503


def test_each_call_of_a_batch_meets_its_own(
    http: httpx.Client, client: storage.Client, bucket: storage.Bucket
) -> None:
    for name in "abc":
        bucket.blob(name).upload_from_string(b"x")
    at = f"/storage/v1/b/{bucket.name}/o"
    fault(http, method="delete", path=f"{at}/b", status=503)
    with client.batch(raise_exception=False) as batch:
        for name in "abc":
            bucket.blob(name).delete()
    assert [reply.status_code for reply in batch._responses] == [204, 503, 204]
    assert [blob.name for blob in bucket.list_blobs()] == ["b"]


def test_a_part_of_a_batch_s_reply_is_lost(http: httpx.Client, bucket: storage.Bucket) -> None:
    for name in "ab":
        bucket.blob(name).upload_from_string(b"x")
    at = f"/storage/v1/b/{bucket.name}/o"
    fault(http, path=f"{at}/a", cut=True)
    head = "--b\r\nContent-Type: application/http\r\nContent-ID: <{}>\r\n\r\n"
    calls = "".join(f"{head.format(name)}DELETE {at}/{name} HTTP/1.1\r\n\r\n" for name in "ab")
    headers = {"content-type": "multipart/mixed; boundary=b"}
    answer = http.post("/batch/storage/v1", content=f"{calls}--b--", headers=headers)
    assert "Content-ID: <response-b>" in answer.text
    assert "Content-ID: <response-a>" not in answer.text
    assert list(bucket.list_blobs()) == []


def test_a_client_tries_again(http: httpx.Client, bucket: storage.Bucket) -> None:
    fault(http, status=429)
    fault(http, status=503)
    bucket.reload()
    assert http.get("/_emulator/faults").json() == {"faults": []}


def test_what_is_not_done_has_no_effect(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = f"/upload/storage/v1/b/{bucket.name}/o"
    fault(http, path="/upload/*", status=500)
    refused = http.post(at, params={"name": "a"}, content=b"x" * 3_000_000)
    assert refused.status_code == 500
    assert not bucket.blob("a").exists()


def test_a_reply_that_breaks_off(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = f"/upload/storage/v1/b/{bucket.name}/o"
    fault(http, path="/upload/*", cut=True)
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(at, params={"name": "a"}, content=b"1")
    assert bucket.blob("a").exists()  # done, but nobody was told


def test_a_delay(http: httpx.Client) -> None:
    fault(http, path="/v1/*", delaySeconds=0.3)
    began = time.monotonic()
    assert http.get("/v1/projects/p/locations/global/jobs").status_code == 200
    assert time.monotonic() - began >= 0.3


def test_faults_are_forgotten(http: httpx.Client) -> None:
    fault(http, status=503, count=100)
    assert http.delete("/_emulator/faults").status_code == 204
    assert http.get("/storage/v1/b").json() == NOTHING


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"status": 200},
        {"status": "503"},
        {"status": 503, "count": 0},
        {"delaySeconds": -1},
        {"status": 503, "colour": "red"},
    ],
)
def test_faults_that_are_none(http: httpx.Client, wrong: dict[str, object]) -> None:
    assert error_of(http.post("/_emulator/faults", json=wrong))[:2] == (400, "invalid")


def test_the_clock_goes_forward(http: httpx.Client, client: storage.Client) -> None:
    bucket = storage.Bucket(client, "aging")
    bucket.retention_period = 86_400
    bucket.create()
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    with pytest.raises(exceptions.Forbidden):
        blob.delete()
    now = http.post("/_emulator/clock", json={"forwardSeconds": 90_000}).json()["now"]
    ahead = datetime.datetime.fromisoformat(now) - datetime.datetime.now(datetime.UTC)
    assert 89_000 < ahead.total_seconds() <= 90_000
    blob.delete()
    assert error_of(http.post("/_emulator/clock", json={"forwardSeconds": -1}))[0] == 400


def test_a_request_id_is_forgotten_after_a_day(http: httpx.Client) -> None:
    at = "/v1/projects/local/locations/global/jobs"
    ask = {"jobId": "twice", "requestId": "6f1a4c8e-0000-4000-8000-000000000001"}
    job = {
        "bucketList": {"buckets": [{"bucket": "nowhere", "prefixList": {}}]},
        "deleteObject": {},
    }
    first = http.post(at, params=ask, json=job).json()["name"]
    assert http.post(at, params=ask, json=job).json()["name"] == first
    http.post("/_emulator/clock", json={"forwardSeconds": 90_000})
    other = {"jobId": "other", "requestId": "6f1a4c8e-0000-4000-8000-000000000002"}
    assert http.post(at, params=other, json=job).status_code == 200
    assert http.post(at, params=ask, json=job).status_code == 409


def test_a_reset_forgets_everything(http: httpx.Client, client: storage.Client) -> None:
    bucket = client.create_bucket("forgotten")
    blob = bucket.blob("a")
    blob.upload_from_string(b"1" * 100_000)
    blob.temporary_hold = True
    blob.patch()
    jobs = "/v1/projects/local/locations/global/jobs"
    job = {
        "bucketList": {"buckets": [{"bucket": "forgotten", "prefixList": {}}]},
        "deleteObject": {},
    }
    assert http.post(jobs, params={"jobId": "j"}, json=job).status_code == 200
    http.post("/_emulator/clock", json={"forwardSeconds": 1000})
    assert http.post("/_emulator/reset").status_code == 204
    assert http.get("/storage/v1/b").json() == NOTHING
    assert http.get(jobs).json() == {}
    again = client.create_bucket("forgotten")
    assert list(again.list_blobs()) == []
    assert http.post(jobs, params={"jobId": "j"}, json=job).status_code == 200


SEED = """
buckets:
  - name: seeded
    labels: {env: test}
    versioning: {enabled: true}
    objects:
      - {name: a, content: hello, contentType: text/plain, metadata: {k: v}}
      - {name: b, contentBase64: AAEC}
  - name: empty
"""


def test_a_seed(http: httpx.Client, client: storage.Client, tmp_path: Path) -> None:
    file = tmp_path / "seed.yaml"
    file.write_text(SEED)
    with emulator(seed=file) as seeded:
        at = f"{seeded.url}/storage/v1/b/seeded"
        assert httpx.get(f"{at}/o/a?alt=media").content == b"hello"
        assert httpx.get(f"{at}/o/b?alt=media").content == bytes(range(3))
    bucket = {"name": "seeded", "objects": [{"name": "a", "content": "x", "temporaryHold": True}]}
    assert http.post("/_emulator/seed", json={"buckets": [bucket]}).status_code == 204
    assert client.bucket("seeded").get_blob("a").temporary_hold
    assert http.post("/_emulator/seed", json={"buckets": [bucket]}).status_code == 204


@pytest.mark.parametrize("text", ["[]", "{", "buckets: [{name: UP}]"])
def test_seeds_that_are_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "seed.yaml"
    file.write_text(text)
    with pytest.raises(InvalidArgument), emulator(seed=file):
        pass


def test_a_test_begins_anew(http: httpx.Client, emulated: Emulator, bucket: storage.Bucket) -> None:
    bucket.blob("held").upload_from_string(b"1")
    held = http.patch(f"/storage/v1/b/{bucket.name}/o/held", json={"temporaryHold": True})
    assert held.json()["temporaryHold"] is True
    emulated.reset()
    assert http.get("/storage/v1/b").json() == NOTHING
