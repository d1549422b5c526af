"""Objects, by google-cloud-storage; what it does not send, by HTTP."""

from __future__ import annotations

import datetime
import gzip
from collections.abc import Callable

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from longshore.testing import Emulator
from tests.emulator.conftest import error_of

NewBucket = Callable[..., storage.Bucket]
NAME = "dir/a name+%2F?#ü"


def path(blob: storage.Blob) -> str:
    return f"/storage/v1{blob.path}"


def test_an_object_goes_up_and_comes_down(bucket: storage.Bucket) -> None:
    up = bucket.blob(NAME)
    up.metadata = {"k": "v"}
    up.cache_control = "no-store"
    up.custom_time = datetime.datetime(2026, 1, 2, 3, 4, 5, 600_000, datetime.UTC)
    up.upload_from_string(b"hello world", content_type="text/plain")
    down = bucket.get_blob(NAME)
    assert down.download_as_bytes(checksum="md5") == b"hello world"
    assert down.download_as_bytes(checksum="crc32c") == b"hello world"
    assert (down.size, down.content_type) == (11, "text/plain")
    # Those that docs of others have for this text; neither was computed here.
    assert (down.crc32c, down.md5_hash) == ("yZRlqg==", "XrY7u+Ae7tCTyyK7j1rNww==")
    assert (down.metadata, down.cache_control) == ({"k": "v"}, "no-store")
    assert down.custom_time == up.custom_time
    assert (down.metageneration, down.storage_class) == (1, "STANDARD")
    assert down.generation == up.generation
    assert down.etag == up.etag
    assert down.id == f"{bucket.name}/{NAME}/{down.generation}"
    assert down.time_created == down.updated


def test_what_is_not_true_of_a_content_is_refused(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    at = f"/upload/storage/v1/b/{bucket.name}/o"
    ask = {"uploadType": "media", "name": "a"}
    wrong = http.post(at, params=ask, content=b"x", headers={"x-goog-hash": "crc32c=AAAAAA=="})
    assert error_of(wrong)[:2] == (400, "invalid")
    assert not bucket.blob("a").exists()
    right = http.post(at, params=ask, content=b"", headers={"x-goog-hash": "crc32c=AAAAAA=="})
    assert right.json()["size"] == "0"


@pytest.mark.parametrize(
    ("header", "status", "content", "range_"),
    [
        ("bytes=0-4", 206, b"01234", "bytes 0-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-4", 200, b"0123456789", None),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(
    http: httpx.Client,
    bucket: storage.Bucket,
    header: str,
    status: int,
    content: bytes,
    range_: str | None,
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"0123456789")
    for at in (path(blob), f"/download{path(blob)}"):
        answer = http.get(at, params={"alt": "media"}, headers={"range": header})
        assert (answer.status_code, answer.content) == (status, content)
        assert answer.headers.get("content-range") == range_
        assert answer.headers["x-goog-generation"] == str(blob.generation)
        digests = f"crc32c={blob.crc32c},md5={blob.md5_hash}" if len(content) == 10 else None
        assert answer.headers.get("x-goog-hash") == digests


def test_a_range_behind_the_end(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"0123456789")
    answer = http.get(path(blob), params={"alt": "media"}, headers={"range": "bytes=10-"})
    assert error_of(answer)[:2] == (416, "requestedRangeNotSatisfiable")


def test_what_is_stored_as_gzip_is_unpacked_for_who_wants_that(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    blob = bucket.blob("a")
    blob.content_encoding = "gzip"
    packed = gzip.compress(b"text" * 1000)
    blob.upload_from_string(packed)
    ask = {"alt": "media"}
    plain = http.get(path(blob), params=ask, headers={"accept-encoding": "identity"})
    assert plain.content == b"text" * 1000
    assert "content-encoding" not in plain.headers
    with http.stream("GET", path(blob), params=ask, headers={"accept-encoding": "gzip"}) as raw:
        assert b"".join(raw.iter_raw()) == packed
        assert raw.headers["content-encoding"] == "gzip"


def test_large_contents(bucket: storage.Bucket) -> None:
    content = bytes(range(256)) * 24_000  # beyond what is kept in memory while it arrives
    blob = bucket.blob("large")
    blob.upload_from_string(content)
    assert blob.download_as_bytes() == content
    assert blob.download_as_bytes(start=5_000_000, end=5_000_099) == content[5_000_000:5_000_100]


def test_a_patch_changes_what_it_names(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.metadata = {"a": "1", "b": "2"}
    blob.upload_from_string(b"1", content_type="text/plain")
    blob.metadata = {"a": None, "c": ""}
    blob.content_language = "de"
    blob.patch()
    read = bucket.get_blob("a")
    assert read.metadata == {"b": "2", "c": ""}
    assert (read.content_language, read.content_type) == ("de", "text/plain")
    assert (read.generation, read.metageneration) == (blob.generation, 2)
    assert read.updated > read.time_created
    read.metadata = None
    read.content_language = None
    read.patch()
    again = bucket.get_blob("a")
    assert (again.metadata, again.content_language, again.metageneration) == (None, None, 3)


def test_an_update_replaces_what_it_does_not_name(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    blob = bucket.blob("a")
    blob.metadata = {"a": "1"}
    blob.content_language = "de"
    blob.upload_from_string(b"1")
    after = http.put(path(blob), json={"metadata": {"b": "2"}, "temporaryHold": True}).json()
    assert after["metadata"] == {"b": "2"}
    assert after["temporaryHold"] is True
    assert "contentLanguage" not in after
    assert after["metageneration"] == "2"


def test_contexts_are_merged(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")

    def patch(contexts: object) -> dict[str, str]:
        after = http.patch(path(blob), json={"contexts": contexts}).json()
        custom = after.get("contexts", {}).get("custom", {})
        return {key: payload["value"] for key, payload in custom.items()}

    assert patch({"custom": {"a": {"value": "1"}, "b": {"value": "2"}}}) == {"a": "1", "b": "2"}
    assert patch({"custom": {"a": None, "b": {"value": "3"}}}) == {"b": "3"}
    assert patch({"custom": None}) == {}
    wrong = http.patch(path(blob), json={"contexts": {"custom": {"-": {"value": "x"}}}})
    assert error_of(wrong)[:2] == (400, "invalid")


def test_a_time_that_goes_back_is_refused(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.custom_time = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    blob.upload_from_string(b"1")
    blob.custom_time = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(exceptions.BadRequest):
        blob.patch()


@pytest.mark.parametrize(
    ("hold", "text"), [("temporary_hold", "Temporary"), ("event_based_hold", "Event-Based")]
)
def test_a_hold_forbids_to_delete_and_to_replace(
    http: httpx.Client, bucket: storage.Bucket, hold: str, text: str
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    setattr(blob, hold, True)
    blob.patch()
    refused = (
        http.delete(path(blob)),
        http.post(
            f"/upload/storage/v1/b/{bucket.name}/o",
            params={"name": "a", "uploadType": "media"},
            content=b"2",
        ),
    )
    for answer in refused:
        status, reason, message = error_of(answer)
        assert (status, reason) == (403, "forbidden")
        assert message.startswith(f"Object '{bucket.name}/a' is under active {text} hold")
    early = http.delete(path(blob), params={"ifMetagenerationMatch": 1})
    assert error_of(early)[:2] == (412, "conditionNotMet")
    assert blob.download_as_bytes() == b"1"
    setattr(blob, hold, False)
    blob.patch()
    blob.delete()
    assert not blob.exists()


def test_the_retention_of_a_bucket(http: httpx.Client, new_bucket: NewBucket) -> None:
    bucket = new_bucket(retention_period=1000)
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    expires = blob.retention_expiration_time
    assert expires == blob.time_created + datetime.timedelta(seconds=1000)
    status, reason, message = error_of(http.delete(path(blob)))
    assert (status, reason) == (403, "retentionPolicyNotMet")
    assert "is subject to bucket's retention policy or object retention" in message


def test_the_retention_of_an_object(http: httpx.Client, new_bucket: NewBucket) -> None:
    bucket = new_bucket(object_retention=True)
    assert bucket.object_retention_mode == "Enabled"
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    blob.retention.mode = "Unlocked"
    blob.retention.retain_until_time = later
    blob.patch()
    read = bucket.get_blob("a")
    assert (read.retention.mode, read.retention.retain_until_time) == ("Unlocked", later)
    assert error_of(http.delete(path(blob)))[:2] == (403, "retentionPolicyNotMet")
    read.retention.retain_until_time = later - datetime.timedelta(hours=1)
    with pytest.raises(exceptions.Forbidden):
        read.patch()
    read.patch(override_unlocked_retention=True)
    read.retention.mode = None
    read.retention.retain_until_time = None
    read.patch(override_unlocked_retention=True)
    read.delete()


def test_an_object_is_not_retained_where_the_bucket_was_not_made_for_it(
    bucket: storage.Bucket,
) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    blob.retention.mode = "Locked"
    blob.retention.retain_until_time = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(exceptions.BadRequest):
        blob.patch()


def test_preconditions_of_writes(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"2", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("b").upload_from_string(b"2", if_generation_match=blob.generation)
    first = blob.generation
    bucket.blob("a").upload_from_string(b"2", if_generation_match=first)
    plain = bucket.blob("a")
    with pytest.raises(exceptions.PreconditionFailed):
        plain.delete(if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        plain.patch(if_metageneration_match=2)
    with pytest.raises(exceptions.NotModified):
        plain.patch(if_metageneration_not_match=1)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("c").delete(if_generation_match=1)
    plain.patch(if_metageneration_match=1)
    plain.delete(if_metageneration_match=2)


def test_preconditions_of_reads(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    ask = [
        ({"ifGenerationMatch": blob.generation}, 200),
        ({"ifGenerationMatch": 1}, 412),
        ({"ifGenerationNotMatch": blob.generation}, 304),
        ({"ifGenerationNotMatch": 1}, 200),
        ({"ifMetagenerationMatch": 2}, 412),
        ({"ifMetagenerationNotMatch": 1}, 304),
    ]
    for parameters, status in ask:
        for media in ({}, {"alt": "media"}):
            assert http.get(path(blob), params={**parameters, **media}).status_code == status
    for header, status in (("if-match", 200), ("if-none-match", 304)):
        assert http.get(path(blob), headers={header: blob.etag}).status_code == status
    assert http.get(path(blob), headers={"if-match": "other"}).status_code == 412


def test_versions(http: httpx.Client, new_bucket: NewBucket) -> None:
    bucket = new_bucket(versioning_enabled=True)
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    first = blob.generation
    bucket.blob("a").upload_from_string(b"2")
    second = bucket.get_blob("a").generation
    assert first < second
    assert bucket.blob("a", generation=first).download_as_bytes() == b"1"
    bucket.blob("a").delete()
    assert not bucket.blob("a").exists()
    kept = list(bucket.list_blobs(versions=True))
    assert [one.generation for one in kept] == [first, second]
    assert all(one.time_deleted is not None for one in kept)
    for one in kept:
        one.delete()  # with its generation: for good
    assert list(bucket.list_blobs(versions=True)) == []
    missing = http.get(path(blob), params={"generation": first})
    assert error_of(missing) == (404, "notFound", f"No such object: {bucket.name}/a")


def test_fields(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.metadata = {"a": "1", "b": "2"}
    blob.upload_from_string(b"1")
    asked = http.get(path(blob), params={"fields": "name,metadata/a,nothing"}).json()
    assert asked == {"name": "a", "metadata": {"a": "1"}}
    listed = http.get(
        f"/storage/v1/b/{bucket.name}/o", params={"fields": "items(name,size),nextPageToken"}
    ).json()
    assert listed == {"items": [{"name": "a", "size": "1"}]}
    assert http.get(path(blob), params={"fields": "a("}).status_code == 400


def test_the_class_and_the_holds_of_new_objects_are_those_of_the_bucket(
    new_bucket: NewBucket,
) -> None:
    bucket = new_bucket(storage_class="COLDLINE", default_event_based_hold=True)
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    assert (blob.storage_class, blob.event_based_hold) == ("COLDLINE", True)
    other = bucket.blob("b")
    other.storage_class = "ARCHIVE"
    other.upload_from_string(b"1")
    assert other.storage_class == "ARCHIVE"


def test_what_is_not_there(http: httpx.Client, bucket: storage.Bucket) -> None:
    answers = [
        http.get(f"/storage/v1/b/{bucket.name}/o/none"),
        http.get(f"/storage/v1/b/{bucket.name}/o/none?alt=media"),
        http.delete(f"/storage/v1/b/{bucket.name}/o/none"),
        http.patch(f"/storage/v1/b/{bucket.name}/o/none", json={}),
        http.get("/storage/v1/b/nowhere/o/none"),
        http.get("/storage/v1/b/nowhere/o"),
        http.post("/upload/storage/v1/b/nowhere/o?name=x", content=b"1"),
    ]
    assert {error_of(answer)[:2] for answer in answers} == {(404, "notFound")}


def test_what_is_missing_says_so(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = f"/storage/v1/b/{bucket.name}/o"
    answers = [
        http.get(at, params={"filter": 'contexts."k":*'}),
        http.post(f"{at}/bulkRestore", json={}),
        http.patch(f"{at}/a", json={"customerEncryption": {}}),
        http.post(f"/upload{at}?name=x", content=b"1", headers={"content-encoding": "gzip"}),
        http.get(f"{at}/a", headers={"x-goog-encryption-key": "x"}),
        http.get(f"/{bucket.name}/a"),  # the XML API, by which Go's client reads
        http.post(f"{at}/a", headers={"x-http-method-override": "PATCH"}, json={}),
    ]
    assert {answer.status_code for answer in answers} == {501}
    assert "'filter'" in answers[0].text
    assert "bulkRestore" in answers[1].text
    assert "'customerEncryption'" in answers[2].text


def test_a_name_that_is_too_long_or_none(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = f"/upload/storage/v1/b/{bucket.name}/o"
    assert error_of(http.post(at, content=b"1"))[:2] == (400, "required")
    assert error_of(http.post(at, params={"name": "x" * 1025}, content=b"1"))[:2] == (
        400,
        "invalid",
    )


def test_both_apis_are_at_one_address(emulated: Emulator, http: httpx.Client) -> None:
    assert http.get("/v1/projects/nobody/locations/global/jobs").json() == {}
    assert http.get("/readyz").json() == {"database": True, "workers": True}
    assert emulated.environment["LONGSHORE_SERVER"] == emulated.url


def test_paths_without_a_prefix_as_node_sends_them(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    blob = bucket.blob(NAME)
    blob.upload_from_string(b"1")
    assert http.get(blob.path).json() == http.get(path(blob)).json()
    assert http.get("/b").json()["kind"] == "storage#buckets"


def test_metadata_is_no_header_of_its_own(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.content_disposition = "inline\r\nx-forged: yes"
    blob.upload_from_string(b"1")
    answer = http.get(path(blob), params={"alt": "media"})
    assert "x-forged" not in answer.headers
    assert answer.content == b"1"


@pytest.mark.parametrize(
    "at",
    [
        "/storage/v1/b/B/o/%FF",
        "/storage/v1/b/B/o/a?generation=9223372036854775808",
        "/storage/v1/b/B/o/a?generation=-1",
        "/storage/v1/b/B/o/a?ifGenerationMatch=99999999999999999999999",
        "/storage/v1/b/B/o?pageToken=WyJhIiwxODQ0Njc0NDA3MzcwOTU1MTYxNV0=",
        "/storage/v1/b/B/o?versions=maybe",
        "/storage/v1/b/B/o?maxResults=0",
        "/storage/v1/b?fields=(",
    ],
)
def test_wrong_parameters_are_refused(http: httpx.Client, bucket: storage.Bucket, at: str) -> None:
    answer = http.get(at.replace("/B/", f"/{bucket.name}/").replace("/B?", f"/{bucket.name}?"))
    assert error_of(answer)[:2] == (400, "invalid")
