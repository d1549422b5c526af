"""Corners of JSON (reference 8.7), over HTTP: none is a 5xx, and what is legal is taken."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import Descriptor

from longshore.api import wire
from tests.api.conftest import Project, delete_job

INVALID = "Invalid JSON payload received."
BUCKETS = b'"bucketList":{"buckets":[{"bucket":"b","prefixList":{"includedObjectPrefixes":["x"]}}]}'


def post(project: Project, members: bytes) -> Any:
    content = b"{" + BUCKETS + b"," + members + b"}"
    return project.call("POST", "/jobs", params={"jobId": "j"}, content=content)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (b'"deleteObject":{},"x":' + b"[" * 100_000, INVALID),
        (b'"deleteObject":{},"x":' + b"[" * 100_000 + b"]" * 100_000, INVALID),
        (b'"deleteObject":' + b'{"deleteObject":' * 100_000 + b"1" + b"}" * 100_000, INVALID),
        (b'"deleteObject":{},"description":"\\ud800"', INVALID),
        (b'"deleteObject":{},"description":"\\udc00\\ud800"', INVALID),
        (b'"deleteObject":{},"description":"\xff"', INVALID),
        (b'"deleteObject":{},"description":"\xed\xa0\x80"', INVALID),
        (b'"deleteObject":{},"dryRun":NaN', INVALID),
        (b'"deleteObject":{},"dryRun":Infinity', INVALID),
        (b'"deleteObject":{},"dryRun":tru', INVALID),
        (b'"deleteObject":{},}', INVALID),
        (
            b'"deleteObject":{},"counters":{"totalObjectCount":99999999999999999999}',
            "Invalid value",
        ),
        (
            b'"deleteObject":{},"counters":{"totalObjectCount":"9223372036854775808"}',
            "Invalid value",
        ),
        (b'"deleteObject":{},"counters":{"totalObjectCount":1e999}', "Invalid"),
        (b'"deleteObject":{},"counters":{"totalObjectCount":1' + b"0" * 5000 + b"}", "Invalid"),
        (b'"deleteObject":{},"counters":{"totalObjectCount":"1' + b"0" * 5000 + b'"}', "Invalid"),
        (b'"deleteObject":{},"state":2147483648', "Invalid value at 'job.state'"),
        (b'"deleteObject":{},"putMetadata":{}', "Invalid value at 'job' (oneof)"),
        (b'"deleteObject":{},"delete_object":{}', "Invalid value at 'job' (oneof)"),
        (b'"deleteObject":{},"createTime":"2026-01-01T00:00:00+24:00"', "Invalid value at"),
        (b'"deleteObject":{},"createTime":"9999-12-31T23:59:59-00:01"', "Invalid value at"),
        (b'"deleteObject":{},"@type":"type.googleapis.com/no.such.Type"', "Invalid JSON payload"),
    ],
)
def test_json_that_is_refused(project: Project, members: bytes, text: str) -> None:
    response = post(project, members)
    error = response.json()["error"]
    assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"].startswith(text)
    assert len(error["message"]) < 2_000


@pytest.mark.parametrize(
    ("members", "job"),
    [
        (b'"deleteObject":{},"description":"a","description":"b"', {"description": "b"}),
        (b'"deleteObject":{},"deleteObject":{}', {"deleteObject": {}}),
        (b'"deleteObject":{},"putMetadata":null', {"deleteObject": {}}),
        (b'"deleteObject":{},"description":null', {}),
        (b'"deleteObject":{},"description":"\\ud83d\\ude00"', {"description": "\U0001f600"}),
        (b'"deleteObject":{},"state":77', {"state": "QUEUED"}),
        (b'"deleteObject":{},"state":"5"', {"state": "QUEUED"}),
        (b'"deleteObject":{},"createTime":"2026-01-01t00:00:00.5-01:00"', {}),
        (b'"deleteObject":{},"counters":{"totalObjectCount":9223372036854775807}', {}),
        (b'"deleteObject":{},"counters":{"totalObjectCount":1e3}', {}),
        (b'"deleteObject":{},"errorSummaries":[{"errorCode":999}]', {}),
        (
            b'"delete_object":{"permanent_object_deletion_enabled":true},"dry_run":true',
            {"dryRun": True},
        ),
    ],
)
def test_json_that_is_taken(project: Project, members: bytes, job: dict[str, Any]) -> None:
    response = post(project, members)
    assert response.status_code == 200, response.text
    got = project.ok("GET", "/jobs/j")
    assert {name: got[name] for name in job} == job
    assert got["bucketList"] == orjson.loads(b"{" + BUCKETS + b"}")["bucketList"]


TEXTS = {
    "description": {"deleteObject": {}, "description": "a\0"},
    "prefix": {
        "bucketList": {
            "buckets": [{"bucket": "b", "prefixList": {"includedObjectPrefixes": ["a\0"]}}]
        },
        "deleteObject": {},
    },
    "bucket": {
        "bucketList": {"buckets": [{"bucket": "b\0", "prefixList": {}}]},
        "deleteObject": {},
    },
    "manifest": {
        "bucketList": {"buckets": [{"bucket": "b", "manifest": {"manifestLocation": "gs://b/\0"}}]},
        "deleteObject": {},
    },
    "metadata": {"putMetadata": {"customMetadata": {"k": "\0"}}},
    "metadata key": {"putMetadata": {"customMetadata": {"\0": "v"}}},
    "content type": {"putMetadata": {"contentType": "\0"}},
    "key": {"rewriteObject": {"kmsKey": "\0"}},
    "name": {"deleteObject": {}, "name": "\0"},
}


@pytest.mark.parametrize("where", TEXTS)
def test_nul_in_a_body(project: Project, where: str) -> None:
    """Whether it is taken or refused, by SQLite or PostgreSQL: no 5xx, and what is taken stays."""
    body = {**delete_job(), "deleteObject": None, **TEXTS[where]}
    response = project.call("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        got = project.ok("GET", "/jobs/j")
        assert {name: got.get(name) for name in TEXTS[where] if name != "name"} == {
            name: value for name, value in TEXTS[where].items() if name != "name"
        }


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/%00",
        "/jobs/%FF",
        "/jobs/%C3%28",
        "/jobs/%ed%a0%80",
        "/jobs?filter=%00",
        "/jobs?filter=%FF",
        "/jobs?orderBy=%00",
        "/jobs?pageToken=%00",
        "/jobs?%00=1",
        "/jobs/j?x%FF=1",
        "/operations/%00:cancel",
    ],
)
def test_what_is_no_text_in_a_url(project: Project, path: str) -> None:
    error = project.error("POST" if path.endswith(":cancel") else "GET", path)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")


def test_no_request_has_an_any() -> None:
    """So that no client can name a type that the server does not know."""
    left = [method.input_type for method in wire.methods()]
    seen: set[str] = set()
    while left:
        message: Descriptor = left.pop()
        if message.full_name not in seen:
            seen.add(message.full_name)
            left += [field.message_type for field in message.fields if field.message_type]
    assert f"{wire.PACKAGE}.Job" in seen
    assert "google.protobuf.Any" not in seen


def test_a_job_of_8_megabytes_is_made_quickly(project: Project) -> None:
    """gcloud copies the same list to each bucket; half a second of CPU."""
    prefixes = [f"prefix/{number:04}" for number in range(1000)]
    chosen = [
        {"bucket": f"bucket-{number}", "prefixList": {"includedObjectPrefixes": prefixes}}
        for number in range(600)
    ]
    body = orjson.dumps({"bucketList": {"buckets": chosen}, "deleteObject": {}})
    assert len(body) > 8_000_000
    begin = time.process_time()
    response = project.call("POST", "/jobs?jobId=j&fields=name", content=body)
    assert response.status_code == 200
    assert time.process_time() - begin < 10
