"""Soft delete and restore, by google-cloud-storage and as they are on the wire; the stores below
are compared in tests/conformance/test_soft_delete.py."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.emulator.conftest import error_of

pytestmark = pytest.mark.parametrize("emulated", ["data"], indirect=True, scope="session")

NewBucket = Callable[..., storage.Bucket]
WEEK = 604_800
LARGE = b"x" * 100_000


@pytest.fixture
def turned_back(http: httpx.Client) -> Iterator[None]:
    """What turns the clock forward leaves nothing behind."""
    yield
    assert http.post("/_emulator/reset").status_code == 204


def versions_deleted(bucket: storage.Bucket) -> list[tuple[str, int]]:
    return [(one.name, one.generation) for one in bucket.list_blobs(soft_deleted=True)]


def test_a_bucket_keeps_what_is_deleted_for_a_week(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    policy = bucket.soft_delete_policy
    assert policy.retention_duration_seconds == WEEK
    assert policy.effective_time <= bucket.time_created
    bucket.soft_delete_policy.retention_duration_seconds = 2 * WEEK
    bucket.patch()
    longer = bucket.soft_delete_policy
    assert longer.retention_duration_seconds == 2 * WEEK
    assert longer.effective_time >= policy.effective_time
    bucket.soft_delete_policy.retention_duration_seconds = WEEK
    bucket.patch()
    assert bucket.soft_delete_policy.effective_time == longer.effective_time
    at = f"/storage/v1{bucket.path}"
    off = http.patch(at, json={"softDeletePolicy": {"retentionDurationSeconds": "0"}}).json()
    assert off["softDeletePolicy"] == {"retentionDurationSeconds": "0"}
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    blob.delete()
    assert versions_deleted(bucket) == []


@pytest.mark.parametrize("seconds", [1, WEEK - 1, 90 * 86_400 + 1, "much", -1])
def test_policies_of_other_durations_are_refused(
    http: httpx.Client, bucket: storage.Bucket, seconds: object
) -> None:
    change = {"softDeletePolicy": {"retentionDurationSeconds": seconds}}
    assert error_of(http.patch(f"/storage/v1{bucket.path}", json=change))[:2] == (400, "invalid")
    assert error_of(http.post("/storage/v1/b", json={"name": "x", **change}))[:2] == (
        400,
        "invalid",
    )


@pytest.mark.parametrize("content", [b"cargo", LARGE])
def test_what_is_deleted_is_restored(bucket: storage.Bucket, content: bytes) -> None:
    blob = bucket.blob("dir/a")
    blob.metadata = {"k": "v"}
    blob.upload_from_string(content, content_type="text/x-test")
    blob.delete()
    assert not blob.exists()
    assert list(bucket.list_blobs(versions=True)) == []
    (deleted,) = bucket.list_blobs(soft_deleted=True)
    assert (deleted.name, deleted.generation, deleted.size) == (
        "dir/a",
        blob.generation,
        len(content),
    )
    assert deleted.hard_delete_time - deleted.soft_delete_time == datetime.timedelta(seconds=WEEK)
    assert deleted.soft_delete_time >= blob.time_created
    again = bucket.get_blob("dir/a", generation=blob.generation, soft_deleted=True)
    assert again.soft_delete_time == deleted.soft_delete_time
    assert again.metadata == {"k": "v"}
    restored = bucket.restore_blob("dir/a", generation=blob.generation)
    assert restored.generation > blob.generation
    assert (restored.metageneration, restored.soft_delete_time) == (1, None)
    assert (restored.metadata, restored.content_type) == ({"k": "v"}, "text/x-test")
    assert restored.crc32c == blob.crc32c
    assert bucket.blob("dir/a").download_as_bytes() == content
    assert versions_deleted(bucket) == [("dir/a", blob.generation)]


def test_what_is_overwritten_is_kept_too(bucket: storage.Bucket) -> None:
    generations = []
    for content in (b"1", b"2", b"3"):
        blob = bucket.blob("a")
        blob.upload_from_string(content)
        generations.append(blob.generation)
    blob.update_storage_class("COLDLINE")
    assert versions_deleted(bucket) == [("a", one) for one in generations]  # the oldest first
    for wrong in ({"if_generation_match": 0}, {"if_metageneration_match": 2}):
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.restore_blob("a", generation=generations[0], **wrong)
    with pytest.raises(exceptions.NotFound):
        bucket.restore_blob("a", generation=generations[0] + 1)
    blob.temporary_hold = True
    blob.patch()
    with pytest.raises(exceptions.Forbidden):
        bucket.restore_blob("a", generation=generations[0])
    blob.temporary_hold = False
    blob.patch()
    bucket.restore_blob("a", generation=generations[0], if_generation_match=blob.generation)
    assert bucket.blob("a").download_as_bytes() == b"1"
    assert versions_deleted(bucket)[-1] == ("a", blob.generation)


def test_where_there_are_versions_those_are_kept_that_would_be_gone(
    new_bucket: NewBucket,
) -> None:
    bucket = new_bucket(versioning_enabled=True)
    first, second = bucket.blob("a"), bucket.blob("a")
    first.upload_from_string(b"1")
    second.upload_from_string(b"2")
    bucket.delete_blob("a")
    assert versions_deleted(bucket) == []
    bucket.delete_blob("a", generation=first.generation)
    bucket.delete_blob("a", generation=second.generation)
    assert versions_deleted(bucket) == [("a", first.generation), ("a", second.generation)]
    bucket.restore_blob("a", generation=second.generation)
    bucket.restore_blob("a", generation=first.generation)
    live, noncurrent = bucket.blob("a"), next(iter(bucket.list_blobs(versions=True)))
    assert live.download_as_bytes() == b"1"
    assert noncurrent.download_as_bytes() == b"2"


def test_a_list_of_the_soft_deleted_is_a_list(bucket: storage.Bucket) -> None:
    for name in ("a/1", "a/2", "b", "c.log"):
        bucket.blob(name).upload_from_string(b"1")
    for name in ("a/1", "b", "c.log"):
        bucket.delete_blob(name)
    pages = bucket.list_blobs(soft_deleted=True, page_size=1)
    assert [one.name for one in pages] == ["a/1", "b", "c.log"]
    below = bucket.list_blobs(soft_deleted=True, delimiter="/")
    assert [one.name for one in below] == ["b", "c.log"]
    assert below.prefixes == {"a/"}
    logs = bucket.list_blobs(soft_deleted=True, match_glob="*.log")
    assert [one.name for one in logs] == ["c.log"]
    ranged = bucket.list_blobs(soft_deleted=True, start_offset="b", end_offset="c")
    assert [one.name for one in ranged] == ["b"]
    assert [one.name for one in bucket.list_blobs()] == ["a/2"]


def test_acls_of_the_restored(bucket: storage.Bucket, new_bucket: NewBucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1", predefined_acl="publicRead")
    blob.delete()
    kept = bucket.restore_blob("a", generation=blob.generation, copy_source_acl=True)
    assert [one["entity"] for one in kept.acl] == ["allUsers"]
    bucket.default_object_acl.group("g@example.com").grant_owner()
    bucket.default_object_acl.save()
    plain = bucket.restore_blob("a", generation=blob.generation)
    assert [one["entity"] for one in plain.acl] == ["group-g@example.com"]
    uniform = new_bucket()
    uniform.iam_configuration.uniform_bucket_level_access_enabled = True
    uniform.patch()
    other = uniform.blob("a")
    other.upload_from_string(b"1")
    other.delete()
    with pytest.raises(exceptions.BadRequest, match="uniform"):
        uniform.restore_blob("a", generation=other.generation, copy_source_acl=True)
    uniform.restore_blob("a", generation=other.generation)


def test_what_cannot_be_asked_of_the_soft_deleted(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    at, one = f"/storage/v1{bucket.path}/o", f"/storage/v1{blob.path}"
    ask = {"softDeleted": "true", "generation": str(blob.generation)}
    assert error_of(http.get(one, params=ask))[:2] == (404, "notFound")  # it is live
    blob.delete()
    assert http.get(one, params=ask).status_code == 200
    assert error_of(http.get(at, params={"softDeleted": "true", "versions": "true"}))[:2] == (
        400,
        "invalid",
    )
    assert error_of(http.get(one, params={"softDeleted": "true"}))[:2] == (400, "required")
    assert error_of(http.post(f"{one}/restore"))[:2] == (400, "required")
    assert error_of(http.get(one, params={**ask, "alt": "media"}))[:2] == (400, "invalid")
    version = {"generation": str(blob.generation)}
    assert error_of(http.get(one, params=version))[:2] == (404, "notFound")
    assert error_of(http.patch(one, params=version, json={}))[:2] == (404, "notFound")
    assert error_of(http.delete(one, params=version))[:2] == (404, "notFound")
    for answer in (
        http.post(f"{one}/restore", params={**version, "restoreToken": "x"}),
        http.post(f"{at}/bulkRestore", json={"matchGlobs": ["**"]}),
        http.get("/storage/v1/b", params={"softDeleted": "true"}),
        http.post(f"/storage/v1{bucket.path}/restore", params={"generation": "1"}),
    ):
        assert answer.status_code == 501
        assert answer.headers["content-type"].startswith("text/plain")


def test_the_resource_of_the_restored_is_full_unless_less_is_wanted(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    blob.delete()
    at, ask = f"/storage/v1{blob.path}/restore", {"generation": str(blob.generation)}
    answer = http.post(at, params=ask)
    assert answer.json()["acl"] == []
    assert answer.headers["etag"] == answer.json()["etag"]
    assert "acl" not in http.post(at, params=ask | {"projection": "noAcl"}).json()


def test_a_bucket_goes_with_what_is_soft_deleted_in_it(
    client: storage.Client, bucket: storage.Bucket
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(LARGE)
    with pytest.raises(exceptions.Conflict):
        bucket.delete()
    blob.delete()
    bucket.delete()
    again = client.create_bucket(bucket.name)
    assert versions_deleted(again) == []


@pytest.mark.usefixtures("turned_back")
def test_in_a_week_it_is_gone(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(LARGE)
    blob.delete()
    http.post("/_emulator/clock", json={"forwardSeconds": WEEK - 600}).raise_for_status()
    assert versions_deleted(bucket) == [("a", blob.generation)]
    http.post("/_emulator/clock", json={"forwardSeconds": 1200}).raise_for_status()
    assert versions_deleted(bucket) == []
    with pytest.raises(exceptions.NotFound):
        bucket.restore_blob("a", generation=blob.generation)
