"""Partial responses: field masks, as JSON and as serialized messages."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from longshore.api import partial, wire
from longshore.api.json_messages import to_json
from longshore.errors import InvalidArgument
from tests.api.conftest import Project, delete_job

JOB = f"{wire.PACKAGE}.Job"


def operation() -> Any:
    job = wire.Job(name="j", state="RUNNING", description="d")
    job.create_time.seconds = 5
    for bucket in ("b1", "b2"):
        part = job.bucket_list.buckets.add(bucket=bucket)
        part.prefix_list.included_object_prefixes.append(f"{bucket}/")
    job.put_metadata.content_type = "t"
    job.put_metadata.custom_metadata.update({"k": "1", "a.b": "2", "other": "3"})
    metadata = wire.OperationMetadata(operation="o", api_version="v1", job=job)
    done = wire.Operation(name="o")
    done.metadata.CopyFrom(wire.pack(metadata))
    return done


def job() -> Any:
    return wire.unpack(operation().metadata).job


BUCKETS = [{"bucket": "b1"}, {"bucket": "b2"}]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("name", {"name": "j"}),
        ("name,state", {"name": "j", "state": "RUNNING"}),
        (" name , state ", {"name": "j", "state": "RUNNING"}),
        ("complete_time", {}),
        ("create_time", {"createTime": "1970-01-01T00:00:05Z"}),
        ("createTime", {"createTime": "1970-01-01T00:00:05Z"}),
        ("bucketList/buckets/bucket", {"bucketList": {"buckets": BUCKETS}}),
        ("bucketList.buckets.bucket", {"bucketList": {"buckets": BUCKETS}}),
        ("bucket_list(buckets(bucket))", {"bucketList": {"buckets": BUCKETS}}),
        ("bucketList/buckets(bucket),name", {"bucketList": {"buckets": BUCKETS}, "name": "j"}),
        ("bucketList/buckets/manifest", {"bucketList": {"buckets": [{}, {}]}}),
        (
            "bucketList/buckets(bucket,prefixList/includedObjectPrefixes)",
            {"bucketList": to_json(job().bucket_list)},
        ),
        ("bucketList,bucketList/buckets/bucket", {"bucketList": to_json(job().bucket_list)}),
        ("bucketList/buckets/bucket,bucketList", {"bucketList": to_json(job().bucket_list)}),
        (
            "bucketList/buckets/bucket,bucket_list/buckets/prefixList",
            {"bucketList": to_json(job().bucket_list)},
        ),
        ("bucketList/*/bucket", {"bucketList": {"buckets": BUCKETS}}),
        ("*/buckets/bucket", {"bucketList": {"buckets": BUCKETS}, "putMetadata": {}}),
        ("bucketList/*", {"bucketList": to_json(job().bucket_list)}),
        ("*", to_json(job())),
        ("*,name", to_json(job())),
        ("", to_json(job())),
        (" ", to_json(job())),
        ("putMetadata/customMetadata/k", {"putMetadata": {"customMetadata": {"k": "1"}}}),
        ("putMetadata.customMetadata.`a.b`", {"putMetadata": {"customMetadata": {"a.b": "2"}}}),
        ("putMetadata/customMetadata(k,none)", {"putMetadata": {"customMetadata": {"k": "1"}}}),
        (
            "putMetadata/customMetadata/*",
            {"putMetadata": {"customMetadata": {"k": "1", "a.b": "2", "other": "3"}}},
        ),
        ("putMetadata/contentType", {"putMetadata": {"contentType": "t"}}),
    ],
)
def test_what_a_mask_leaves(mask: str, expected: Any) -> None:
    message = job()
    parsed = partial.parse(mask, message.DESCRIPTOR)
    assert partial.of_json(to_json(message), parsed) == expected
    partial.of_message(message, parsed)
    assert to_json(message) == expected


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("name", {"name": "o"}),
        ("name,done", {"name": "o", "done": False}),
        ("metadata/operation", {"metadata": {"operation": "o"}}),
        ("metadata(api_version)", {"metadata": {"apiVersion": "v1"}}),
        ("metadata(job/name,nothing)", {"metadata": {"job": {"name": "j"}}}),
        (
            "metadata/job/createTime/x",
            {"metadata": {"job": {"createTime": "1970-01-01T00:00:05Z"}}},
        ),
        (
            "metadata/job/bucketList/buckets/bucket",
            {"metadata": {"job": {"bucketList": {"buckets": BUCKETS}}}},
        ),
        ("metadata/*", {"metadata": None}),
        ("metadata", {"metadata": None}),
        ("response,error/message", {}),
    ],
)
def test_a_mask_reaches_into_an_any(mask: str, expected: Any) -> None:
    message = operation()
    whole = to_json(message)
    kind = {"@type": wire.TYPE_URL_PREFIX + f"{wire.PACKAGE}.OperationMetadata"}
    if "metadata" in expected:
        expected = {"metadata": {**kind, **(expected["metadata"] or whole["metadata"])}}
    parsed = partial.parse(mask, message.DESCRIPTOR)
    assert partial.of_json(whole, parsed) == expected
    partial.of_message(message, parsed)
    assert message.HasField("metadata") is ("metadata" in expected)
    if "metadata" in expected:
        content = to_json(wire.unpack(message.metadata))
        content.pop("requestedCancellation", None)  # printed even where it is false
        expected["metadata"].pop("requestedCancellation", None)
        assert {**kind, **content} == expected["metadata"]


@pytest.mark.parametrize(
    ("mask", "path"),
    [
        ("x", "x"),
        ("name,x", "x"),
        ("bucketList/x", "bucketList.x"),
        ("bucket_list(buckets(bucket,x))", "bucket_list.buckets.x"),
        ("name/x", "name.x"),
        ("createTime/seconds", "createTime.seconds"),
        ("putMetadata/customMetadata/k/x", "putMetadata.customMetadata.k.x"),
        ("@type", "@type"),
    ],
)
def test_a_field_that_is_not_there(mask: str, path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        partial.parse(mask, wire.descriptor(JOB))
    text = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'."
    assert refused.value.message == "Request contains an invalid argument."
    assert refused.value.violations == ((mask, text),)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (",", "a field's name is missing"),
        ("name,", "a field's name is missing"),
        ("/name", "a field's name is missing"),
        ("name//x", "a field's name is missing"),
        ("bucketList(", "a field's name is missing"),
        ("bucketList()", "a field's name is missing"),
        ("bucketList(buckets", "a ')' is missing"),
        ("bucketList(buckets))", "unexpected ')'"),
        ("bucketList(buckets)/bucket", "unexpected '/'"),
        ("name state", "unexpected 'state'"),
        ("name,`x", "unexpected '`' at 5"),
        ("``", "unexpected '`' at 0"),
        ("a/" * 20 + "a", "it goes deeper than 20 fields"),
        ("a(" * 3000, "it has more than 4096 characters"),
        ("a(" * 2000, "it goes deeper than 20 fields"),
    ],
)
def test_what_is_no_mask(mask: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        partial.parse(mask, wire.descriptor(JOB))
    assert refused.value.message == "Request contains an invalid argument."
    ((field, text),) = refused.value.violations
    assert mask.startswith(field)
    assert text == f"Error expanding 'fields' parameter. {why[0].upper()}{why[1:]}."


@pytest.mark.parametrize(
    "mask",
    [
        "(" * 4096,
        "*/" * 20 + "x",
        ",".join(["*/*/*/*/*"] * 400),
        "*(" * 19 + ",".join("abcdefgh") + ")" * 19,
        ",".join(f"metadata/x{number}" for number in range(250)),
        "bucketList/buckets/" + ",".join(["bucket"] * 500),
    ],
)
def test_no_mask_costs_much(mask: str) -> None:
    for name in (JOB, f"{wire.PACKAGE}.ListJobsResponse", "google.longrunning.Operation"):
        begin = time.thread_time()
        with contextlib.suppress(InvalidArgument):
            partial.parse(mask, wire.descriptor(name))
        assert time.thread_time() - begin < 1


def test_partial_replies(project: Project) -> None:
    made = project.create("j", fields="name")
    assert list(made) == ["name"]
    listed = project.ok("GET", "/jobs?fields=jobs(name,bucketList.buckets.bucket),nextPageToken")
    buckets = [{"bucket": "bucket-1"}]
    assert listed == {"jobs": [{"name": project.job_name("j"), "bucketList": {"buckets": buckets}}]}
    got = project.ok("GET", made["name"], headers={"x-goog-fieldmask": "metadata.job.name"})
    assert got["metadata"]["job"] == {"name": project.job_name("j")}
    content = project.call("GET", "/jobs?fields=jobs/name&alt=proto").content
    assert (
        content
        == wire.ListJobsResponse(jobs=[wire.Job(name=project.job_name("j"))]).SerializeToString()
    )


def test_a_bad_mask_has_no_effect(project: Project) -> None:
    for mask in ("nothing", "name("):
        error = project.error("POST", f"/jobs?jobId=j&fields={mask}", json=delete_job())
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert project.rows() == 0
