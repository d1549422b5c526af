"""Objects made of others, ACLs and batches, by google-cloud-storage."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from datetime import UTC

import google_crc32c
import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.emulator.conftest import error_of

NewBucket = Callable[..., storage.Bucket]


@pytest.fixture
def source(bucket: storage.Bucket) -> storage.Blob:
    made = bucket.blob("dir/source")
    made.metadata = {"k": "v"}
    made.content_language = "de"
    made.upload_from_string(b"content", content_type="text/x-test")
    return made


def test_a_copy_has_content_and_metadata(new_bucket: NewBucket, source: storage.Blob) -> None:
    other = new_bucket(storage_class="NEARLINE")
    source.temporary_hold = True
    source.patch()
    copied = source.bucket.copy_blob(source, other, "dir/copy")
    assert copied.download_as_bytes() == b"content"
    assert (copied.metadata, copied.content_language) == ({"k": "v"}, "de")
    assert (copied.content_type, copied.storage_class) == ("text/x-test", "NEARLINE")
    assert (copied.crc32c, copied.md5_hash) == (source.crc32c, source.md5_hash)
    assert not copied.temporary_hold
    assert copied.generation != source.generation


def test_preconditions_of_copies(bucket: storage.Bucket, source: storage.Blob) -> None:
    bucket.copy_blob(source, bucket, "b", if_generation_match=0)
    for wrong in (
        {"if_generation_match": 0},
        {"if_source_generation_match": 1},
        {"if_source_metageneration_match": 2},
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.copy_blob(source, bucket, "b", **wrong)
    with pytest.raises(exceptions.NotModified):
        bucket.copy_blob(source, bucket, "b", if_source_generation_not_match=source.generation)
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(source, bucket, "b", source_generation=1)


def test_a_rename_and_a_move(bucket: storage.Bucket, source: storage.Blob) -> None:
    renamed = bucket.rename_blob(source, "renamed")
    assert not source.exists()
    moved = bucket.move_blob(renamed, "dir/moved")
    assert [blob.name for blob in bucket.list_blobs()] == ["dir/moved"]
    assert (moved.metadata, moved.content_type) == ({"k": "v"}, "text/x-test")
    moved.temporary_hold = True
    moved.patch()
    with pytest.raises(exceptions.Forbidden):
        bucket.move_blob(moved, "elsewhere")
    assert [blob.name for blob in bucket.list_blobs()] == ["dir/moved"]


def test_a_move_takes_all_of_an_object_with_it(http: httpx.Client, new_bucket: NewBucket) -> None:
    bucket = new_bucket(storage_class="NEARLINE", versioning_enabled=True)
    blob = bucket.blob("a")
    blob.storage_class, blob.custom_time = "ARCHIVE", datetime.datetime(2026, 1, 2, tzinfo=UTC)
    blob.upload_from_string(b"x" * 100_000, predefined_acl="publicRead")
    replaced = bucket.blob("b")
    replaced.upload_from_string(b"replaced")
    at = f"/storage/v1{blob.path}/moveTo/o"
    assert error_of(http.post(f"{at}/b", params={"ifGenerationMatch": "0"}))[0] == 412
    assert error_of(http.post(f"{at}/b", params={"ifSourceMetagenerationMatch": "2"}))[0] == 412
    assert error_of(http.post(f"{at}/a"))[:2] == (400, "invalid")
    assert error_of(http.post(at.replace("/o/a/", "/o/none/") + "/b"))[:2] == (404, "notFound")
    moved = bucket.move_blob(
        blob, "b", if_generation_match=replaced.generation, if_source_metageneration_match=1
    )
    assert (moved.storage_class, moved.custom_time) == ("ARCHIVE", blob.custom_time)
    assert (moved.metageneration, moved.crc32c) == (1, blob.crc32c)
    assert moved.generation > replaced.generation
    assert [(one["entity"], one["role"]) for one in moved.acl] == [("allUsers", "READER")]
    assert moved.download_as_bytes() == b"x" * 100_000
    versions = [(one.name, one.generation) for one in bucket.list_blobs(versions=True)]
    assert versions == [
        ("a", blob.generation),
        ("b", replaced.generation),
        ("b", moved.generation),
    ]
    assert [one.name for one in bucket.list_blobs()] == ["b"]


def test_a_move_soft_deletes_what_it_replaces_and_nothing_else(bucket: storage.Bucket) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(name.encode())
    bucket.move_blob(bucket.get_blob("a"), "b")
    assert [one.name for one in bucket.list_blobs(soft_deleted=True)] == ["b"]
    assert bucket.blob("b").download_as_bytes() == b"a"


def test_contexts_persist_unless_others_are_given(
    http: httpx.Client, bucket: storage.Bucket, source: storage.Blob
) -> None:
    def contexts_of(body: dict[str, object], verb: str) -> dict[str, object]:
        at = f"/storage/v1{source.path}/{verb}/b/{bucket.name}/o/copy"
        made = http.post(at, json=body).json()
        made = made.get("resource", made)
        custom = made.get("contexts", {}).get("custom", {})
        return {key: value["value"] for key, value in custom.items()} | {
            "language": made.get("contentLanguage")
        }

    value = {"custom": {"k": {"value": "v"}}}
    http.patch(f"/storage/v1{source.path}", json={"contexts": value}).raise_for_status()
    for verb in ("copyTo", "rewriteTo"):
        assert contexts_of({}, verb) == {"k": "v", "language": "de"}
        assert contexts_of({"contentLanguage": "fr"}, verb) == {"k": "v", "language": "fr"}
        assert contexts_of({"contentType": "a/b"}, verb) == {"k": "v", "language": None}
        other = {"contexts": {"custom": {"l": {"value": "w"}}}}
        assert contexts_of(other, verb) == {"l": "w", "language": "de"}
        assert contexts_of({"contexts": {"custom": None}}, verb) == {"language": "de"}


def test_contexts_of_what_is_composed_are_merged(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    for name, custom in (("a", {"k": "1", "l": "1"}), ("b", {"l": "2"}), ("c", {})):
        blob = bucket.blob(name)
        blob.upload_from_string(b"1")
        contexts = {"custom": {key: {"value": value} for key, value in custom.items()}}
        http.patch(f"/storage/v1{blob.path}", json={"contexts": contexts}).raise_for_status()
    at = f"/storage/v1{bucket.path}/o/whole/compose"
    sources = [{"name": name} for name in "abc"]
    made = http.post(at, json={"sourceObjects": sources}).json()
    assert made["contexts"]["custom"] == {"k": {"value": "1"}, "l": {"value": "2"}}
    own = {"contexts": {"custom": {"m": {"value": "3"}}}}
    made = http.post(at, json={"sourceObjects": sources, "destination": own}).json()
    assert made["contexts"]["custom"] == {"m": {"value": "3"}}


def test_what_a_copy_does_not_have_of_its_source(new_bucket: NewBucket, http: httpx.Client) -> None:
    bucket = new_bucket(object_retention=True)
    blob = bucket.blob("a")
    blob.storage_class = "ARCHIVE"
    blob.upload_from_string(b"1", predefined_acl="publicRead")
    blob.temporary_hold = True
    blob.retention.mode = "Unlocked"
    blob.retention.retain_until_time = datetime.datetime.now(UTC) + datetime.timedelta(days=1)
    blob.patch()
    at = f"/storage/v1{blob.path}"
    for verb in ("copyTo", "rewriteTo"):
        made = http.post(f"{at}/{verb}/b/{bucket.name}/o/b?projection=full").json()
        made = made.get("resource", made)
        assert made["storageClass"] == "STANDARD"
        assert made["acl"] == []
        assert not made.keys() & {"temporaryHold", "retention"}
    bucket.default_object_acl.user("a@example.com").grant_owner()
    bucket.default_object_acl.save()
    made = http.post(f"{at}/copyTo/b/{bucket.name}/o/b?projection=full").json()
    assert [one["entity"] for one in made["acl"]] == ["user-a@example.com"]
    body = {"temporaryHold": True, "storageClass": "COLDLINE", "contentType": "a/b"}
    made = http.post(f"{at}/copyTo/b/{bucket.name}/o/c?projection=full", json=body).json()
    assert body == {name: made[name] for name in body}


def test_a_rewrite_in_place_changes_the_class(bucket: storage.Bucket, source: storage.Blob) -> None:
    before = source.generation
    source.update_storage_class("COLDLINE")
    read = bucket.get_blob(source.name)
    assert read.storage_class == "COLDLINE"
    assert (read.generation > before, read.metadata) == (True, {"k": "v"})
    read.temporary_hold = True
    read.patch()
    with pytest.raises(exceptions.Forbidden):
        read.update_storage_class("ARCHIVE")


def test_a_rewrite_in_several_calls(http: httpx.Client, bucket: storage.Bucket) -> None:
    large = bucket.blob("large")
    large.upload_from_string(b"x" * ((2 << 20) + 1))
    at = f"/storage/v1{large.path}/rewriteTo/b/{bucket.name}/o/copy"
    ask: dict[str, object] = {"maxBytesRewrittenPerCall": 1 << 20}
    seen = []
    while True:
        answer = http.post(at, params=ask).json()
        seen.append((answer["totalBytesRewritten"], answer["done"]))
        if answer["done"]:
            break
        assert not bucket.blob("copy").exists()
        ask["rewriteToken"] = answer["rewriteToken"]
    sizes = [str(1 << 20), str(2 << 20), str(large.size)]
    assert seen == [(sizes[0], False), (sizes[1], False), (sizes[2], True)]
    assert answer["resource"]["crc32c"] == large.crc32c
    assert "rewriteToken" not in answer
    other = f"/storage/v1{large.path}/rewriteTo/b/{bucket.name}/o/other"
    for wrong in ({"rewriteToken": ask["rewriteToken"]}, {"maxBytesRewrittenPerCall": 5}):
        assert error_of(http.post(other, params=wrong))[:2] == (400, "invalid")


def test_a_rewrite_by_the_library(bucket: storage.Bucket, source: storage.Blob) -> None:
    copy = bucket.blob("copy")
    assert copy.rewrite(source) == (None, 7, 7)
    assert (copy.metadata, copy.content_type) == ({"k": "v"}, "text/x-test")


def test_objects_are_composed(bucket: storage.Bucket, source: storage.Blob) -> None:
    other = bucket.blob("other")
    other.upload_from_string(b"-more")
    whole = bucket.blob("whole")
    whole.content_type = "text/x-whole"
    whole.compose([source, other, source])
    assert whole.download_as_bytes() == b"content-morecontent"
    assert (whole.component_count, whole.md5_hash) == (3, None)
    crc = google_crc32c.value(b"content-morecontent").to_bytes(4, "big")
    assert base64.b64decode(whole.crc32c) == crc
    assert whole.content_type == "text/x-whole"
    whole.compose([whole, other])
    assert (whole.component_count, whole.size) == (4, 24)
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose([source], if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose([source], if_source_generation_match=[1])
    with pytest.raises(exceptions.NotFound):
        whole.compose([bucket.blob("none")])
    with pytest.raises(exceptions.BadRequest):
        whole.compose([source] * 33)


def test_the_acl_of_an_object(
    http: httpx.Client, new_bucket: NewBucket, source: storage.Blob
) -> None:
    source.acl.all().grant_read()
    source.acl.user("a@example.com").grant_owner()
    source.acl.save()
    again = source.bucket.get_blob(source.name)
    again.acl.reload()
    wanted = {"allUsers": {"READER"}, "user-a@example.com": {"OWNER"}}
    assert {entity["entity"]: {entity["role"]} for entity in again.acl} == wanted
    at = f"/storage/v1{source.path}/acl"
    assert http.post(at, json={"entity": "allUsers", "role": "OWNER"}).json()["role"] == "OWNER"
    assert http.patch(f"{at}/allUsers", json={"role": "READER"}).json()["role"] == "READER"
    assert http.get(f"{at}/allUsers").json()["entity"] == "allUsers"
    assert http.delete(f"{at}/allUsers").status_code == 204
    assert error_of(http.get(f"{at}/allUsers"))[:2] == (404, "notFound")
    assert error_of(http.post(at, json={"entity": "x", "role": "KING"}))[:2] == (400, "invalid")
    uniform = storage.Bucket(source.client, f"{source.bucket.name}-uniform")
    uniform.iam_configuration.uniform_bucket_level_access_enabled = True
    uniform.create()
    blob = uniform.blob("a")
    blob.upload_from_string(b"1")
    with pytest.raises(exceptions.BadRequest):
        blob.acl.reload()


def test_acls_that_are_predefined(http: httpx.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1", predefined_acl="publicRead")
    blob.acl.reload()
    assert [(one["entity"], one["role"]) for one in blob.acl] == [("allUsers", "READER")]
    blob.metadata = {"k": "v"}
    blob.patch()
    assert http.get(f"/storage/v1{blob.path}?projection=full").json()["acl"] != []
    at = f"/storage/v1{blob.path}"
    private = http.patch(f"{at}?predefinedAcl=private&projection=full", json={}).json()
    assert private["acl"] == []
    assert error_of(http.patch(f"{at}?predefinedAcl=odd", json={}))[:2] == (400, "invalid")


@pytest.mark.parametrize("kind", ["acl", "default_object_acl"])
def test_the_acls_of_a_bucket(http: httpx.Client, bucket: storage.Bucket, kind: str) -> None:
    acl = getattr(bucket, kind)
    assert list(acl) == []
    acl.all().grant_read()
    acl.user("a@example.com").grant_owner()
    acl.save()
    again = getattr(bucket.client.get_bucket(bucket.name), kind)
    again.reload()
    wanted = {"allUsers": "READER", "user-a@example.com": "OWNER"}
    assert {one["entity"]: one["role"] for one in again} == wanted
    field = "acl" if kind == "acl" else "defaultObjectAcl"
    at = f"/storage/v1{bucket.path}/{field}"
    before = http.get(f"/storage/v1{bucket.path}").json()["metageneration"]
    made = http.post(at, json={"entity": "group-g", "role": "READER"}).json()
    assert (made["entity"], made["role"], made["bucket"]) == ("group-g", "READER", bucket.name)
    for verb in ("PATCH", "PUT"):
        changed = http.request(verb, f"{at}/group-g", json={"role": "OWNER"})
        assert changed.json()["role"] == "OWNER"
    assert http.get(f"{at}/group-g").json()["role"] == "OWNER"
    assert {one["entity"] for one in http.get(at).json()["items"]} == {*wanted, "group-g"}
    assert http.delete(f"{at}/group-g").status_code == 204
    for answer in (http.get(f"{at}/group-g"), http.delete(f"{at}/group-g")):
        assert error_of(answer)[:2] == (404, "notFound")
    after = http.get(f"/storage/v1{bucket.path}").json()["metageneration"]
    assert int(after) == int(before) + 4
    writer = http.post(at, json={"entity": "group-w", "role": "WRITER"})
    assert writer.status_code == (200 if kind == "acl" else 400)
    assert error_of(http.post(at, json={"entity": "x", "role": "KING"}))[:2] == (400, "invalid")
    assert error_of(http.patch(f"{at}/none", json={"role": "OWNER"}))[:2] == (404, "notFound")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    for answer in (http.get(at), http.post(at, json={"entity": "x", "role": "READER"})):
        assert error_of(answer)[:2] == (400, "invalid")


def test_new_objects_have_the_default_acl(
    http: httpx.Client, bucket: storage.Bucket, source: storage.Blob
) -> None:
    bucket.default_object_acl.all().grant_read()
    bucket.default_object_acl.save()

    def entities(name: str) -> list[str]:
        resource = http.get(f"/storage/v1{bucket.path}/o/{name}?projection=full").json()
        return [entry["entity"] for entry in resource["acl"]]

    bucket.blob("a").upload_from_string(b"1")
    bucket.blob("b").upload_from_string(b"1", predefined_acl="private")
    bucket.blob("c").compose([source, source])
    assert [entities(name) for name in "abc"] == [["allUsers"], [], ["allUsers"]]
    wrong = {"defaultObjectAcl": [{"entity": "x"}]}
    assert error_of(http.patch(f"/storage/v1{bucket.path}", json=wrong))[:2] == (400, "invalid")


def test_a_batch(client: storage.Client, bucket: storage.Bucket) -> None:
    for number in range(5):
        bucket.blob(f"{number}ü").upload_from_string(b"1")
    blobs = list(bucket.list_blobs())
    blobs[0].temporary_hold = True
    blobs[0].patch()
    with client.batch(raise_exception=False) as batch:
        for blob in blobs[:3]:
            blob.delete()
        for blob in blobs[3:]:
            blob.metadata = {"k": "v"}
            blob.patch()
        bucket.blob("none").delete()
    assert [reply.status_code for reply in batch._responses] == [403, 204, 204, 200, 200, 404]
    assert blobs[3].metageneration == 2
    left = {blob.name: blob.metadata for blob in bucket.list_blobs()}
    assert left == {"0ü": None, "3ü": {"k": "v"}, "4ü": {"k": "v"}}


def test_a_batch_as_it_is_on_the_wire(http: httpx.Client, bucket: storage.Bucket) -> None:
    bucket.blob("a").upload_from_string(b"1")
    calls = [
        f"GET /storage/v1/b/{bucket.name}/o/a?fields=name HTTP/1.1",
        f"GET /storage/v1/b/{bucket.name}/o/a?alt=media HTTP/1.1",
        "GET /storage/v1/nothing HTTP/1.1",
        f"POST /upload/storage/v1/b/{bucket.name}/o HTTP/1.1",
    ]
    head = "--b\r\nContent-Type: application/http\r\nContent-ID: <x+{}>\r\n\r\n"
    body = "".join(f"{head.format(i)}{call}\r\n\r\n\r\n" for i, call in enumerate(calls))
    answer = http.post(
        "/batch/storage/v1",
        content=body + "--b--",
        headers={"content-type": "multipart/mixed; boundary=b"},
    )
    mark = answer.headers["content-type"].partition("boundary=")[2]
    parts = answer.text.split(f"--{mark}")[1:-1]
    assert [part.split("HTTP/1.1 ")[1][:3] for part in parts] == ["200", "400", "501", "400"]
    for index, part in enumerate(parts):
        assert f"Content-ID: <response-x+{index}>\r\n" in part
    assert '"name": "a"' in parts[0]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", "x"),
        ("multipart/mixed; boundary=b", ""),
        ("multipart/mixed; boundary=b", "--b\n\nGET\n--b--"),
    ],
)
def test_what_is_no_batch(http: httpx.Client, content_type: str, body: str) -> None:
    headers = {"content-type": content_type}
    answer = http.post("/batch/storage/v1", content=body, headers=headers)
    assert error_of(answer)[:2] == (400, "invalid")


def test_a_batch_has_no_more_calls_than_clients_send(http: httpx.Client) -> None:
    call = "--b\nContent-Type: application/http\n\nGET /storage/v1/none HTTP/1.1\n\n"
    headers = {"content-type": "multipart/mixed; boundary=b"}
    answers = [
        http.post("/batch/storage/v1", content=call * count + "--b--", headers=headers)
        for count in (1000, 1001)
    ]
    assert answers[0].text.count("HTTP/1.1 501") == 1000
    assert error_of(answers[1])[:2] == (400, "invalid")
