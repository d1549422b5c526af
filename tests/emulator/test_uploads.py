"""Uploads: multipart in the forms that clients send, and in several requests."""

from __future__ import annotations

import gzip
import io
import json

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.emulator.conftest import error_of

pytestmark = pytest.mark.parametrize("emulated", ["memory"], indirect=True, scope="session")

CHUNK = 256 << 10


def upload(bucket: storage.Bucket, prefix: str = "") -> str:
    return f"{prefix}/upload/storage/v1/b/{bucket.name}/o"


def related(newline: bytes, mark: bytes, resource: object, content: bytes, end: bytes) -> bytes:
    lines = [
        b"--" + mark,
        b"Content-Type: application/json",
        b"MIME-Version: 1.0",
        b"",
        json.dumps(resource).encode(),
        b"--" + mark,
        b"Content-Type: text/x-test",
        b"Content-Transfer-Encoding: binary",
        b"",
        content,
        b"--" + mark + b"--",
    ]
    return newline.join(lines) + end


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    ("quoted", "mark"),
    [
        ('"==a=="', b"==a=="),
        ("'===============123=='", b"===============123=="),  # gcloud
        ("abc", b"abc"),
        ("a'b", b"a'b"),
    ],
)
def test_multipart_as_clients_send_it(
    http: httpx.Client, bucket: storage.Bucket, quoted: str, mark: bytes, newline: bytes
) -> None:
    content = b"\r\n--" + mark[:-1] + b"\r\nx\n" * 3 + b"\r"
    body = related(newline, mark, {"name": "a", "metadata": {"k": "v"}}, content, newline)
    answer = http.post(
        upload(bucket),
        params={"uploadType": "multipart"},
        headers={"content-type": f"multipart/related; boundary={quoted}"},
        content=body,
    )
    made = answer.json()
    assert (made["name"], made["metadata"], made["contentType"]) == ("a", {"k": "v"}, "text/x-test")
    assert bucket.blob("a").download_as_bytes() == content


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_multipart_in_pieces_of_any_size(
    http: httpx.Client, bucket: storage.Bucket, size: int
) -> None:
    content = bytes(range(256)) * 10
    body = related(b"\r\n", b"==", {"name": "a"}, content, b"")
    http.post(
        upload(bucket),
        params={"uploadType": "multipart"},
        headers={"content-type": 'multipart/related; boundary="=="'},
        content=iter([body[i : i + size] for i in range(0, len(body), size)]),
    ).raise_for_status()
    assert bucket.blob("a").download_as_bytes() == content


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/related", b""),
        ("multipart/form-data; boundary=a", b"--a--"),
        ("multipart/related; boundary=a", b""),
        ("multipart/related; boundary=a", b"--a--"),
        ("multipart/related; boundary=a", b"--a\n\n{}\n--a--"),
        ("multipart/related; boundary=a", b'--a\n\n{"name": "x"}\n--a\n\ncontent'),
        ("multipart/related; boundary=a", b"--a\n\n{\n--a\n\ncontent\n--a--"),
        ("multipart/related; boundary=a", b"--a\nContent-Type: text/x\n\n{}\n--a\n\nc\n--a--"),
    ],
)
def test_what_is_no_multipart(
    http: httpx.Client, bucket: storage.Bucket, content_type: str, body: bytes
) -> None:
    answer = http.post(
        upload(bucket),
        params={"uploadType": "multipart"},
        headers={"content-type": content_type},
        content=body,
    )
    assert error_of(answer)[:2] == (400, "invalid")
    assert list(bucket.list_blobs()) == []


def test_a_multipart_body_that_is_packed_on_its_way(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    content = bytes(1 << 20) + b"end"
    packed = gzip.compress(related(b"\r\n", b"==", {"name": "a"}, content, b""))
    headers = {"content-type": "multipart/related; boundary===", "content-encoding": "gzip"}
    for body in (packed[:-20], b"plain", b""):
        answer = http.post(
            upload(bucket), params={"uploadType": "multipart"}, headers=headers, content=body
        )
        assert error_of(answer)[:2] == (400, "invalid")
    assert list(bucket.list_blobs()) == []
    http.post(upload(bucket), params={"uploadType": "multipart"}, headers=headers, content=packed)
    assert bucket.blob("a").download_as_bytes() == content
    assert bucket.get_blob("a").content_encoding is None


def test_other_uploads_that_are_packed_are_refused(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    headers = {"content-encoding": "gzip"}
    begun = http.post(upload(bucket), params={"uploadType": "resumable", "name": "a"})
    at = begun.headers["location"]
    answers = [
        http.put(at, headers=headers, content=gzip.compress(b"1")),
        http.post(upload(bucket), params={"name": "a"}, headers=headers, content=b"1"),
    ]
    assert [answer.status_code for answer in answers] == [501, 501]
    assert http.put(at, content=b"1").json()["size"] == "1"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
@pytest.mark.parametrize("known", [True, False])
def test_resumable_uploads_by_the_library(
    monkeypatch: pytest.MonkeyPatch, bucket: storage.Bucket, size: int, known: bool
) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    blob = bucket.blob("a", chunk_size=CHUNK)
    blob.metadata = {"k": "v"}
    monkeypatch.setattr("google.cloud.storage.blob._MAX_MULTIPART_SIZE", -1)
    blob.upload_from_file(
        io.BytesIO(content), size=size if known else None, content_type="text/x-test"
    )
    read = bucket.get_blob("a")
    assert (read.size, read.metadata, read.content_type) == (size, {"k": "v"}, "text/x-test")
    assert read.download_as_bytes() == content


def begin(
    http: httpx.Client, bucket: storage.Bucket, prefix: str = "", **parameters: object
) -> str:
    answer = http.post(
        upload(bucket, prefix),
        params={"uploadType": "resumable", "name": "a", **parameters},
        headers={"x-upload-content-type": "text/x-test"},
    )
    assert (answer.status_code, answer.content) == (200, b"")
    at: str = answer.headers["location"]
    assert upload(bucket, prefix) in at
    return at


def put(http: httpx.Client, at: str, content: bytes, range_: str) -> httpx.Response:
    return http.put(at, content=content, headers={"content-range": range_})


def test_a_resumable_upload_step_by_step(http: httpx.Client, bucket: storage.Bucket) -> None:
    content = b"a" * CHUNK + b"b" * CHUNK + b"c" * 10
    at = begin(http, bucket)
    nothing = put(http, at, b"", "bytes */*")
    assert (nothing.status_code, nothing.headers.get("range")) == (308, None)
    first = put(http, at, content[:CHUNK], f"bytes 0-{CHUNK - 1}/*")
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{CHUNK - 1}")
    # What is no multiple of 256 KiB is not kept; what is known already is not added twice.
    more = put(http, at, content[:-1], f"bytes 0-{len(content) - 2}/*")
    assert more.headers["range"] == f"bytes=0-{2 * CHUNK - 1}"
    gap = put(http, at, b"x", f"bytes {len(content) - 1}-{len(content) - 1}/{len(content)}")
    assert (gap.status_code, gap.headers["range"]) == (308, f"bytes=0-{2 * CHUNK - 1}")
    assert not bucket.blob("a").exists()
    asked = put(http, at, b"", f"bytes */{len(content)}")
    assert (asked.status_code, asked.headers["range"]) == (308, f"bytes=0-{2 * CHUNK - 1}")
    last = put(http, at, content[2 * CHUNK :], f"bytes {2 * CHUNK}-{len(content) - 1}/*")
    made = last.json()
    assert (made["size"], made["contentType"]) == (str(len(content)), "text/x-test")
    assert put(http, at, b"", "bytes */*").json() == made
    assert bucket.blob("a").download_as_bytes() == content


def test_a_resumable_upload_in_one_request(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = begin(http, bucket, "/resumable")  # the path of gcloud
    assert http.put(at, content=b"content").json()["size"] == "7"
    assert bucket.blob("a").download_as_bytes() == b"content"


def test_resumable_uploads_as_other_clients_send_them(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    at = begin(http, bucket)  # Node: one stream, whose end nobody knows
    assert put(http, at, b"a" * (CHUNK + 1), "bytes 0-*/*").json()["size"] == str(CHUNK + 1)
    at = begin(http, bucket)  # gcsfs: parts by POST
    first = http.post(at, content=b"b" * CHUNK, headers={"content-range": f"bytes 0-{CHUNK - 1}/*"})
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{CHUNK - 1}")
    last = {"content-range": f"bytes {CHUNK}-{CHUNK}/{CHUNK + 1}"}
    assert http.post(at, content=b"b", headers=last).json()["size"] == str(CHUNK + 1)
    assert bucket.blob("a").download_as_bytes() == b"b" * (CHUNK + 1)


def test_a_resumable_upload_is_cancelled(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = begin(http, bucket)
    put(http, at, b"a" * CHUNK, f"bytes 0-{CHUNK - 1}/*")
    assert http.delete(at).status_code == 499
    assert error_of(put(http, at, b"", "bytes */*"))[:2] == (404, "notFound")
    assert not bucket.blob("a").exists()


def test_preconditions_of_a_resumable_upload(http: httpx.Client, bucket: storage.Bucket) -> None:
    at = begin(http, bucket, ifGenerationMatch=0)
    bucket.blob("a").upload_from_string(b"1")
    late = put(http, at, b"2", "bytes 0-0/1")
    assert error_of(late)[:2] == (412, "conditionNotMet")
    early = http.post(
        upload(bucket), params={"uploadType": "resumable", "name": "a", "ifGenerationMatch": 0}
    )
    assert error_of(early)[:2] == (412, "conditionNotMet")
    assert bucket.blob("a").download_as_bytes() == b"1"


def test_a_hold_that_comes_while_an_upload_is_under_way(
    http: httpx.Client, bucket: storage.Bucket
) -> None:
    at = begin(http, bucket)
    blob = bucket.blob("a")
    blob.upload_from_string(b"held")
    blob.temporary_hold = True
    blob.patch()
    for _ in range(2):  # the upload has ended, and says so again
        assert error_of(put(http, at, b"1", "bytes 0-0/1"))[:2] == (403, "forbidden")
    assert blob.download_as_bytes() == b"held"


@pytest.mark.parametrize("range_", ["bytes 0-0/2", "bytes x-y/z", "lines 0-0/1"])
def test_ranges_that_are_none(http: httpx.Client, bucket: storage.Bucket, range_: str) -> None:
    answer = http.post(
        upload(bucket),
        params={"uploadType": "resumable", "name": "a"},
        headers={"x-upload-content-length": "1"},
    )
    wrong = put(http, answer.headers["location"], b"1", range_)
    assert error_of(wrong)[:2] == (400, "invalid")


def test_a_content_that_is_not_what_was_promised(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string(b"1", checksum=None)
