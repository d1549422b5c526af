"""Buckets, by google-cloud-storage; what it does not send, by HTTP."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.emulator.conftest import error_of

NewBucket = Callable[..., storage.Bucket]


def test_a_bucket_is_made_and_read(client: storage.Client) -> None:
    made = storage.Bucket(client, "made-and-read")
    made.storage_class = "NEARLINE"
    made.labels = {"env": "test"}
    made.versioning_enabled = True
    made.default_event_based_hold = True
    made.retention_period = 10
    made.iam_configuration.uniform_bucket_level_access_enabled = True
    made.cors = [{"origin": ["*"], "method": ["GET"]}]
    made.create(location="europe-west3")
    read = client.get_bucket("made-and-read")
    assert (read.location, read.location_type) == ("EUROPE-WEST3", "region")
    assert read.storage_class == "NEARLINE"
    assert read.labels == {"env": "test"}
    assert read.versioning_enabled
    assert read.default_event_based_hold
    assert read.retention_period == 10
    assert read.retention_policy_effective_time is not None
    assert not read.retention_policy_locked
    assert read.iam_configuration.uniform_bucket_level_access_enabled
    assert read.iam_configuration.uniform_bucket_level_access_locked_time is not None
    assert read.cors == [{"origin": ["*"], "method": ["GET"]}]
    assert read.metageneration == 1
    assert read.time_created == read.updated
    assert abs(datetime.datetime.now(datetime.UTC) - read.time_created).total_seconds() < 60


def test_a_bucket_has_the_defaults_of_cloud_storage(bucket: storage.Bucket) -> None:
    bucket.reload()
    assert (bucket.location, bucket.location_type) == ("US", "multi-region")
    assert bucket.storage_class == "STANDARD"
    assert bucket.labels == {}
    assert not bucket.versioning_enabled
    assert bucket.retention_period is None


def test_a_patch_merges_and_counts(bucket: storage.Bucket) -> None:
    bucket.labels = {"a": "1", "b": "2"}
    bucket.patch()
    bucket.labels = {"b": "2", "c": "3"}  # the client sends null for the one that is gone
    bucket.versioning_enabled = True
    bucket.patch()
    bucket.reload()
    assert bucket.labels == {"b": "2", "c": "3"}
    assert bucket.versioning_enabled
    assert bucket.metageneration == 3
    bucket.retention_period = 5
    bucket.patch()
    bucket.retention_period = None
    bucket.patch()
    bucket.reload()
    assert bucket.retention_period is None
    assert bucket.versioning_enabled


def test_an_update_replaces(http: httpx.Client, bucket: storage.Bucket) -> None:
    bucket.labels = {"a": "1"}
    bucket.versioning_enabled = True
    bucket.patch()
    at = f"/storage/v1/b/{bucket.name}"
    after = http.put(at, json={"labels": {"b": "2"}}).json()
    assert after["labels"] == {"b": "2"}
    assert "versioning" not in after
    assert http.get(at).json() == after


def test_preconditions_of_buckets(http: httpx.Client, bucket: storage.Bucket) -> None:
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.patch(if_metageneration_match=2)
    bucket.labels = {"a": "1"}
    bucket.patch(if_metageneration_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.delete(if_metageneration_match=1)
    at = f"/storage/v1/b/{bucket.name}"
    assert http.get(at, params={"ifMetagenerationNotMatch": 2}).status_code == 304
    assert http.patch(at, params={"ifMetagenerationNotMatch": 2}, json={}).status_code == 304


def test_a_bucket_is_made_once_and_deleted_empty(
    client: storage.Client, http: httpx.Client, bucket: storage.Bucket
) -> None:
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(bucket.name)
    bucket.blob("a").upload_from_string(b"1")
    assert error_of(http.delete(f"/storage/v1/b/{bucket.name}"))[:2] == (409, "conflict")
    bucket.blob("a").delete()
    bucket.delete()
    assert client.lookup_bucket(bucket.name) is None
    answer = http.get(f"/storage/v1/b/{bucket.name}")
    assert error_of(answer)[:2] == (404, "notFound")


def test_buckets_are_listed_in_pages_of_a_project(client: storage.Client) -> None:
    for name in ("lb-1", "lb-2", "lb-3"):
        client.create_bucket(name, project="lister")
    client.create_bucket("lb-4", project="other")
    pages = client.list_buckets(project="lister", prefix="lb-", page_size=2).pages
    assert [[bucket.name for bucket in page] for page in pages] == [["lb-1", "lb-2"], ["lb-3"]]


def test_a_locked_retention_policy_stays(http: httpx.Client, new_bucket: NewBucket) -> None:
    bucket = new_bucket(retention_period=100)
    bucket.reload()
    at = f"/storage/v1{bucket.path}/lockRetentionPolicy"
    assert http.post(at, params={"ifMetagenerationMatch": 99}).status_code == 412
    assert error_of(http.post(at))[:2] == (400, "required")
    bucket.lock_retention_policy()
    assert bucket.retention_policy_locked
    bucket.retention_period = 50
    with pytest.raises(exceptions.Forbidden, match="locked"):
        bucket.patch()
    bucket.retention_period = 200
    bucket.patch()
    assert bucket.retention_policy_locked


def test_the_layout_of_a_bucket(http: httpx.Client, bucket: storage.Bucket) -> None:
    layout = http.get(f"/storage/v1/b/{bucket.name}/storageLayout").json()
    assert layout["hierarchicalNamespace"] == {"enabled": False}
    assert (layout["location"], layout["locationType"]) == ("US", "multi-region")


@pytest.mark.parametrize(
    ("method", "path", "body", "what"),
    [
        ("GET", "", {}, "GET /storage/v1/b/B/iam"),
        ("POST", "", {"hierarchicalNamespace": {"enabled": True}}, "hierarchical"),
        ("POST", "", {"flavour": "sweet"}, "'flavour'"),
    ],
)
def test_what_is_missing_says_so(
    http: httpx.Client, method: str, path: str, body: dict[str, object], what: str
) -> None:
    if method == "GET":
        answer = http.get("/storage/v1/b/B/iam")
    else:
        answer = http.post("/storage/v1/b", json={"name": "lacking", **body})
    assert answer.status_code == 501
    assert answer.headers["content-type"].startswith("text/plain")
    assert what in answer.text
    assert http.get("/storage/v1/b/lacking").status_code == 404


def test_a_parameter_that_is_not_known_is_no_success(http: httpx.Client) -> None:
    answer = http.get("/storage/v1/b", params={"colour": "red"})
    assert (answer.status_code, "'colour'" in answer.text) == (501, True)


def test_wrong_requests_are_refused(http: httpx.Client) -> None:
    for body in (b"{", b"[]", b'{"name": 1}', b'{"name": "UPPER"}', b'{"name": "x", "labels": 3}'):
        answer = http.post("/storage/v1/b", content=body)
        assert error_of(answer)[:2] == (400, "invalid"), body


@pytest.mark.parametrize(
    "body",
    [
        {"storageClass": "WARM"},
        {"storageClass": 3},
        {"defaultEventBasedHold": "yes"},
        {"versioning": {"enabled": "yes"}},
        {"retentionPolicy": {"retentionPeriod": -1}},
        {"iamConfiguration": {"publicAccessPrevention": "maybe"}},
    ],
)
def test_wrong_values_are_refused(
    http: httpx.Client, bucket: storage.Bucket, body: dict[str, object]
) -> None:
    at = f"/storage/v1/b/{bucket.name}"
    before = http.get(at).json()
    assert error_of(http.patch(at, json=body))[:2] == (400, "invalid")
    assert http.get(at).json() == before


def test_a_storage_class_in_lower_case_is_one(http: httpx.Client, bucket: storage.Bucket) -> None:
    changed = http.patch(f"/storage/v1/b/{bucket.name}", json={"storageClass": "nearline"})
    assert changed.json()["storageClass"] == "NEARLINE"
