"""Golden exchanges: each of the 13 methods in its normal way, whole bodies compared."""

from __future__ import annotations

import re
from typing import Any

import pytest

from longshore.errors import Code
from longshore.model import ErrorSummary
from tests.api.conftest import Clock, Project, delete_job

CREATED = "2026-09-01T00:00:00.123456Z"
STARTED = "2026-09-01T00:00:00.123457Z"
ENDED = "2026-09-01T00:00:02.123456Z"
JOB_TYPE = "type.googleapis.com/google.cloud.storagebatchoperations.v1.Job"
METADATA_TYPE = "type.googleapis.com/google.cloud.storagebatchoperations.v1.OperationMetadata"
COUNTED = {
    "total": 12,
    "succeeded": 11,
    "failed": 1,
    "bytes_found": 4096,
    "bytes_transformed": 4000,
}
MISSING = {
    Code.NOT_FOUND: ErrorSummary(
        code=Code.NOT_FOUND, count=1, samples=(("gs://bucket-1/tmp/x", "No such object"),)
    )
}
ERROR_SUMMARIES = [
    {
        "errorCode": "NOT_FOUND",
        "errorCount": "1",
        "errorLogEntries": [
            {"objectUri": "gs://bucket-1/tmp/x", "errorDetails": ["No such object"]}
        ],
    }
]
COUNTERS = {
    "totalObjectCount": "12",
    "succeededObjectCount": "11",
    "failedObjectCount": "1",
    "totalBytesFound": "4096",
}


def job(project: Project, state: str, **more: Any) -> dict[str, Any]:
    return {
        "name": project.job_name("purge-1"),
        **delete_job(),
        "createTime": CREATED,
        "state": state,
        "counters": {"totalBytesFound": "0"},
        **more,
    }


def metadata(operation: str, job: Any, **more: Any) -> dict[str, Any]:
    return {
        "@type": METADATA_TYPE,
        "operation": operation,
        "createTime": CREATED,
        "requestedCancellation": False,
        "apiVersion": "v1",
        "job": job,
        **more,
    }


def test_create_job(project: Project) -> None:
    reply = project.create("purge-1")
    name = reply["name"]
    pattern = r"operation-\d{13}-[0-9a-f]{13}-[0-9a-f]{8}-[0-9a-f]{8}"
    assert re.fullmatch(f"{project.parent}/operations/{pattern}", name)
    queued = job(project, "QUEUED")
    assert reply == {"name": name, "metadata": metadata(name, queued), "done": False}


def test_create_job_with_enum_numbers(project: Project) -> None:
    body = {
        **delete_job(),
        "loggingConfig": {"logActions": [6], "logActionStates": ["SUCCEEDED", 2]},
        "description": "nightly",
        "dryRun": True,
    }
    numbers = {"jobId": "purge-1", "$alt": "json;enum-encoding=int"}
    reply = project.ok("POST", "/jobs", params=numbers, json=body)
    logging = {"logActions": [6], "logActionStates": [1, 2]}
    extra = {"loggingConfig": logging, "description": "nightly", "dryRun": True}
    assert reply["metadata"]["job"] == {**job(project, "QUEUED", **extra), "state": 5}
    assert project.ok("GET", "/jobs/purge-1")["loggingConfig"] == {
        "logActions": ["TRANSFORM"],
        "logActionStates": ["SUCCEEDED", "FAILED"],
    }


@pytest.mark.parametrize("params", [{}, {"jobId": ""}])
def test_create_job_without_an_id(project: Project, params: dict[str, str]) -> None:
    reply = project.ok("POST", "/jobs", params=params, json=delete_job())
    name = reply["metadata"]["job"]["name"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name.rpartition("/")[2])
    assert project.ok("GET", name)["name"] == name


def test_output_fields_of_a_request_are_ignored(project: Project) -> None:
    body = {
        **delete_job(),
        "name": "projects/x/locations/global/jobs/y",
        "state": "SUCCEEDED",
        "createTime": "2020-01-01T00:00:00Z",
        "counters": {"totalObjectCount": "5"},
        "errorSummaries": [{"errorCount": "1"}],
        "isMultiBucketJob": True,
    }
    project.create("purge-1", body)
    assert project.ok("GET", "/jobs/purge-1") == job(project, "QUEUED")


def test_get_job_as_it_runs_and_when_it_has_ended(project: Project) -> None:
    project.create("purge-1")
    assert project.ok("GET", "/jobs/purge-1") == job(project, "QUEUED")
    project.run("purge-1", counters=COUNTED, errors=MISSING)
    progress = {
        "scheduleTime": STARTED,
        "counters": {**COUNTERS, "totalBytesTransformed": "4000"},
        "errorSummaries": ERROR_SUMMARIES,
    }
    assert project.ok("GET", "/jobs/purge-1") == job(project, "RUNNING", **progress)
    project.finish("purge-1")
    ended = job(project, "SUCCEEDED", **progress, completeTime=ENDED)
    assert project.ok("GET", "/jobs/purge-1") == ended


def test_error_summaries_are_in_the_order_of_their_codes(project: Project) -> None:
    project.create("purge-1")
    codes = [Code.UNAVAILABLE, Code.NOT_FOUND, Code.PERMISSION_DENIED]
    errors = {code: ErrorSummary(code=code, count=2) for code in codes}
    project.run("purge-1", counters={"failed": 6}, errors=errors)
    summaries = project.ok("GET", "/jobs/purge-1")["errorSummaries"]
    names = ["NOT_FOUND", "PERMISSION_DENIED", "UNAVAILABLE"]
    assert [summary["errorCode"] for summary in summaries] == names


def test_counters_that_only_some_jobs_have(project: Project) -> None:
    manifest = {"bucket": "bucket-1", "manifest": {"manifestLocation": "gs://lists/m.csv"}}
    context = {"updateObjectCustomContext": {"clearAll": True}}
    project.create("j", {"bucketList": {"buckets": [manifest]}, **context})
    zeros = dict.fromkeys(
        [f"objectCustomContexts{what}" for what in ("Created", "Deleted", "Updated")], "0"
    )
    assert project.ok("GET", "/jobs/j")["counters"] == zeros


def test_list_jobs(project: Project) -> None:
    assert project.ok("GET", "/jobs") == {}
    project.create("purge-1")
    assert project.ok("GET", "/jobs") == {"jobs": [job(project, "QUEUED")]}


def test_list_jobs_of_all_locations(project: Project) -> None:
    project.create("purge-1")
    wildcard = f"projects/{project.id}/locations/-/jobs"
    assert project.ok("GET", wildcard) == {"jobs": [job(project, "QUEUED")]}


@pytest.mark.parametrize(
    ("content", "headers"),
    [(b"", {}), (b"{}", {}), (b"{}", {"content-type": "application/json"}), (b" \n", {})],
)
def test_cancel_job(project: Project, content: bytes, headers: dict[str, str]) -> None:
    operation = project.create("purge-1")["name"]
    cancel = {"content": content, "headers": headers}
    assert project.ok("POST", "/jobs/purge-1:cancel", **cancel) == {}
    canceled = job(project, "CANCELED", completeTime=CREATED)
    assert project.ok("GET", "/jobs/purge-1") == canceled
    done = metadata(operation, canceled, requestedCancellation=True, endTime=CREATED)
    error = {"code": 1, "message": "The operation was cancelled."}
    assert project.ok("GET", operation) == {
        "name": operation,
        "metadata": done,
        "done": True,
        "error": error,
    }
    assert project.ok("POST", "/jobs/purge-1:cancel") == {}
    assert project.ok("GET", "/jobs/purge-1") == canceled


def test_cancel_of_a_running_job_is_left_to_the_engine(project: Project) -> None:
    operation = project.create("purge-1")["name"]
    project.run("purge-1", counters=COUNTED)
    assert project.ok("POST", "/jobs/purge-1:cancel", json={}) == {}
    assert project.ok("POST", "/jobs/purge-1:cancel", json={}) == {}
    running = project.ok("GET", operation)
    assert running["done"] is False
    assert running["metadata"]["requestedCancellation"] is True
    assert running["metadata"]["job"]["state"] == "RUNNING"
    project.finish("purge-1", "CANCELED")
    ended = project.ok("GET", operation)
    assert ended["done"] is True
    assert ended["error"]["code"] == 1
    assert ended["metadata"]["job"]["counters"] == COUNTERS


def test_delete_job_keeps_its_operation(project: Project) -> None:
    operation = project.create("purge-1")["name"]
    project.run("purge-1", counters=COUNTED)
    project.finish("purge-1")
    before = project.ok("GET", operation)
    assert project.ok("DELETE", "/jobs/purge-1") == {}
    assert project.error("GET", "/jobs/purge-1")["status"] == "NOT_FOUND"
    assert project.error("DELETE", "/jobs/purge-1")["status"] == "NOT_FOUND"
    assert project.error("GET", "/jobs/purge-1/bucketOperations")["status"] == "NOT_FOUND"
    assert project.ok("GET", operation) == before
    again = project.create("purge-1")["name"]
    assert again != operation
    assert project.ok("GET", operation) == before


def test_delete_waits_for_a_job_that_is_being_cancelled(project: Project, clock: Clock) -> None:
    project.create("purge-1")
    project.run("purge-1", counters={})
    project.ok("POST", "/jobs/purge-1:cancel")
    error = project.error("DELETE", "/jobs/purge-1")
    assert (error["status"], error["details"][0]["reason"]) == (
        "FAILED_PRECONDITION",
        "JOB_NOT_FINISHED",
    )

    clock.while_waiting = project.finisher("purge-1", "CANCELED")
    assert project.ok("DELETE", "/jobs/purge-1") == {}


def test_delete_of_a_multi_bucket_job_wants_force(project: Project) -> None:
    project.create("purge-1", delete_job("bucket-1", "bucket-2"))
    project.ok("POST", "/jobs/purge-1:cancel")
    error = project.error("DELETE", "/jobs/purge-1")
    assert (error["status"], error["details"][0]["reason"]) == (
        "FAILED_PRECONDITION",
        "FORCE_REQUIRED",
    )
    assert project.ok("DELETE", "/jobs/purge-1", params={"force": "true"}) == {}


def test_bucket_operations(project: Project) -> None:
    body = delete_job("bucket-1", "bucket-2")
    body["bucketList"]["buckets"][1] = {
        "bucket": "bucket-2",
        "manifest": {"manifestLocation": "gs://lists/m-*.csv"},
    }
    project.create("purge-1", body)
    project.run("purge-1", counters=COUNTED, errors=MISSING)
    whole = project.ok("GET", "/jobs/purge-1")
    assert whole["isMultiBucketJob"] is True
    assert whole["counters"]["totalObjectCount"] == "24"
    assert whole["errorSummaries"][0]["errorCount"] == "2"
    first, second = project.ok("GET", "/jobs/purge-1/bucketOperations")["bucketOperations"]
    assert re.fullmatch(rf"{project.parent}/jobs/purge-1/bucketOperations/[^/]+", first["name"])
    assert first == {
        "name": first["name"],
        "bucketName": "bucket-1",
        "prefixList": {"includedObjectPrefixes": ["tmp/"]},
        "deleteObject": {},
        "createTime": CREATED,
        "startTime": STARTED,
        "counters": {**COUNTERS, "totalBytesTransformed": "4000"},
        "errorSummaries": ERROR_SUMMARIES,
        "state": "RUNNING",
    }
    assert second["manifest"] == {"manifestLocation": "gs://lists/m-*.csv"}
    assert "totalBytesFound" not in second["counters"]
    assert project.ok("GET", first["name"]) == first
    numbers = {"$alt": "json;enum-encoding=int"}
    assert project.ok("GET", first["name"], params=numbers)["state"] == 2
    project.finish("purge-1")
    ended = {**first, "state": "SUCCEEDED", "completeTime": ENDED}
    assert project.ok("GET", first["name"]) == ended


def test_operations_of_jobs_that_ended(project: Project) -> None:
    operation = project.create("purge-1")["name"]
    project.run("purge-1", counters=COUNTED, errors=MISSING)
    project.finish("purge-1")
    ended = job(
        project,
        "SUCCEEDED",
        scheduleTime=STARTED,
        completeTime=ENDED,
        counters=COUNTERS,
        errorSummaries=ERROR_SUMMARIES,
    )
    assert project.ok("GET", operation) == {
        "name": operation,
        "metadata": metadata(operation, ended, endTime=ENDED),
        "done": True,
        "response": {"@type": JOB_TYPE, **ended},
    }
    assert project.ok("GET", "/operations") == {"operations": [project.ok("GET", operation)]}
    assert project.ok("POST", f"{operation}:cancel") == {}
    assert project.ok("GET", operation)["response"]["state"] == "SUCCEEDED"
    assert project.ok("GET", operation)["metadata"]["requestedCancellation"] is False


def test_the_operation_of_a_failed_job_has_its_error(project: Project) -> None:
    operation = project.create("purge-1")["name"]
    project.run("purge-1", counters={})
    project.finish("purge-1", "FAILED", "NOT_FOUND", "Bucket 'bucket-1' does not exist.")
    reply = project.ok("GET", operation)
    assert reply["done"] is True
    assert reply["error"] == {"code": 5, "message": "Bucket 'bucket-1' does not exist."}
    assert "response" not in reply
    assert project.ok("GET", "/jobs/purge-1")["state"] == "FAILED"


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_cancel_operation(project: Project, content: bytes) -> None:
    operation = project.create("purge-1")["name"]
    assert project.ok("POST", f"{operation}:cancel", content=content) == {}
    reply = project.ok("GET", operation)
    assert reply["done"] is True
    assert reply["error"]["code"] == 1
    assert reply["metadata"]["requestedCancellation"] is True
    assert project.ok("GET", "/jobs/purge-1")["state"] == "CANCELED"
    assert project.ok("POST", f"{operation}:cancel", content=content) == {}
    assert project.ok("GET", operation) == reply


def test_delete_operation_leaves_the_job(project: Project) -> None:
    operation = project.create("purge-1")["name"]
    assert project.ok("DELETE", operation) == {}
    for verb, path in [("GET", operation), ("DELETE", operation), ("POST", f"{operation}:cancel")]:
        error = project.error(verb, path)
        assert error["status"] == "NOT_FOUND"
        assert operation in error["message"]
    assert project.ok("GET", "/operations") == {}
    assert project.ok("GET", "/jobs/purge-1")["state"] == "QUEUED"
    project.ok("POST", "/jobs/purge-1:cancel")
    assert project.ok("DELETE", "/jobs/purge-1") == {}
    assert project.rows() == 0


def test_a_job_and_its_operation_may_go_in_either_order(project: Project) -> None:
    operation = project.create("purge-1")["name"]
    project.ok("POST", "/jobs/purge-1:cancel")
    project.ok("DELETE", "/jobs/purge-1")
    assert project.rows() == 1
    assert project.ok("DELETE", operation) == {}
    assert project.rows() == 0


def test_locations(project: Project) -> None:
    location = {"name": project.parent, "locationId": "global"}
    assert project.ok("GET", project.parent) == location
    listed = project.ok("GET", f"projects/{project.id}/locations")
    assert listed == {"locations": [location]}


def test_a_project_with_a_domain(project: Project) -> None:
    name = "projects/example.com:mine/locations/global"
    assert project.ok("GET", name)["name"] == name
