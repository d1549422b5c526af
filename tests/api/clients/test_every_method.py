"""Every method through every client that has it: one scenario each, the same for all.

``docs/compatibility.md`` has this as a table, which is compared with what runs here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storagebatchoperations_v1 as sbo
from google.longrunning import operations_pb2
from google.protobuf import json_format

from longshore.errors import Code
from longshore.model import ErrorSummary
from tests.api.clients.conftest import CLIENTS, clients_of
from tests.api.clients.drivers import METHODS, RESOURCES, Client, Refused, snake
from tests.api.conftest import Project, delete_job

DOCUMENT = Path(__file__).parents[3] / "docs" / "compatibility.md"
REQUEST_ID = "3f2b0c1e-6d0a-4c9b-9d7e-0f4a5b6c7d8e"
JOB = {
    **delete_job(),
    "loggingConfig": {"logActions": ["TRANSFORM"], "logActionStates": ["SUCCEEDED", "FAILED"]},
}
COUNTED = {"total": 3, "succeeded": 2, "failed": 1, "bytes_found": 9, "bytes_transformed": 6}
MISSING = {
    Code.NOT_FOUND: ErrorSummary(
        code=Code.NOT_FOUND, count=1, samples=(("gs://bucket-1/tmp/x", "No such object"),)
    )
}


def same(message: Any, one: Any, other: Any) -> None:
    """Both are JSON of the same message, but for what the published one lacks."""
    parsed = [
        json_format.ParseDict(value, message(), ignore_unknown_fields=True)
        for value in (one, other)
    ]
    assert parsed[0] == parsed[1]


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.code, caught.value.reason


def state(project: Project, job_id: str = "j") -> str:
    return str(project.ok("GET", f"/jobs/{job_id}")["state"])


@clients_of("CreateJob")
def test_create_job(caller: Client, project: Project) -> None:
    request = {"parent": project.parent, "jobId": "j", "job": JOB}
    reply = caller.call("CreateJob", request)
    assert reply["metadata"]["job"]["name"] == project.job_name("j")
    made = project.ok("GET", "/jobs/j")
    assert {name: made[name] for name in JOB} == JOB
    assert refused(lambda: caller.call("CreateJob", request)) == (
        "ALREADY_EXISTS",
        "RESOURCE_ALREADY_EXISTS",
    )
    bad = {**request, "jobId": "Bad_Id"}
    assert refused(lambda: caller.call("CreateJob", bad)) == ("INVALID_ARGUMENT", "JOB_ID_INVALID")
    assert project.rows() == 1


@clients_of("CreateJob", without="gcloud")
def test_create_job_again_with_its_request_id(caller: Client, project: Project) -> None:
    request = {"parent": project.parent, "job": JOB, "requestId": REQUEST_ID}
    assert len({caller.call("CreateJob", request)["name"] for _ in range(2)}) == 1
    assert project.rows() == 1


@clients_of("GetJob")
def test_get_job(caller: Client, project: Project) -> None:
    project.create("j", JOB)
    request = {"name": project.job_name("j")}

    def check(expected: str) -> None:
        assert state(project) == expected
        same(sbo.Job.pb(), caller.call("GetJob", request), project.ok("GET", "/jobs/j"))

    check("QUEUED")
    project.run("j", counters=COUNTED, errors=MISSING)
    check("RUNNING")
    project.finish("j")
    check("SUCCEEDED")
    request = {"name": project.job_name("none")}
    assert refused(lambda: caller.call("GetJob", request)) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@clients_of("ListJobs")
def test_list_jobs(caller: Client, project: Project) -> None:
    for job_id in "abcde":
        project.create(job_id)
    request = {"parent": project.parent, "pageSize": 2, "orderBy": "name desc"}
    pages = caller.pages("ListJobs", request)
    assert [len(page) for page in pages] in ([2, 2, 1], [5])
    assert [name for page in pages for name in page] == [
        project.job_name(job_id) for job_id in "edcba"
    ]


@clients_of("ListJobs", without="gcloud")
def test_list_jobs_with_a_filter(caller: Client, project: Project) -> None:
    for job_id in "ab":
        project.create(job_id)
    project.ok("POST", "/jobs/b:cancel")
    request = {"parent": project.parent, "filter": "state:canceled"}
    assert caller.pages("ListJobs", request) == [[project.job_name("b")]]
    bad = {"parent": project.parent, "filter": "state ="}
    assert refused(lambda: caller.call("ListJobs", bad))[0] == "INVALID_ARGUMENT"


@clients_of("CancelJob")
def test_cancel_job(caller: Client, project: Project) -> None:
    project.create("j")
    project.create("ended")
    project.run("ended", counters={})
    project.finish("ended")
    for _ in range(2):
        assert caller.call("CancelJob", {"name": project.job_name("j")}) == {}
    assert state(project) == "CANCELED"
    for job_id, error in [
        ("ended", ("FAILED_PRECONDITION", "JOB_FINISHED")),
        ("none", ("NOT_FOUND", "RESOURCE_NOT_FOUND")),
    ]:
        request = {"name": project.job_name(job_id)}
        assert refused(lambda request=request: caller.call("CancelJob", request)) == error


@clients_of("CancelJob", without="gcloud")
def test_cancel_job_with_a_request_id(caller: Client, project: Project) -> None:
    project.create("j")
    request = {"name": project.job_name("j"), "requestId": REQUEST_ID}
    assert caller.call("CancelJob", request) == {}
    bad = {**request, "requestId": "x"}
    assert refused(lambda: caller.call("CancelJob", bad)) == (
        "INVALID_ARGUMENT",
        "REQUEST_ID_INVALID",
    )


@clients_of("DeleteJob")
def test_delete_job(caller: Client, project: Project) -> None:
    project.create("j")
    request = {"name": project.job_name("j")}
    assert refused(lambda: caller.call("DeleteJob", request)) == (
        "FAILED_PRECONDITION",
        "JOB_NOT_FINISHED",
    )
    project.ok("POST", "/jobs/j:cancel")
    assert caller.call("DeleteJob", request) == {}
    assert refused(lambda: caller.call("DeleteJob", request)) == (
        "NOT_FOUND",
        "RESOURCE_NOT_FOUND",
    )


@clients_of("DeleteJob", without="gcloud")
def test_delete_job_of_several_buckets(caller: Client, project: Project) -> None:
    project.create("j", delete_job("bucket-1", "bucket-2"))
    project.ok("POST", "/jobs/j:cancel")
    request = {"name": project.job_name("j"), "requestId": REQUEST_ID}
    assert refused(lambda: caller.call("DeleteJob", request)) == (
        "FAILED_PRECONDITION",
        "FORCE_REQUIRED",
    )
    for _ in range(2):
        assert caller.call("DeleteJob", {**request, "force": True}) == {}


@clients_of("ListBucketOperations")
def test_list_bucket_operations(caller: Client, project: Project) -> None:
    project.create("j", delete_job("b-1", "b-2", "b-3"))
    parts = project.ok("GET", "/jobs/j/bucketOperations?orderBy=name")["bucketOperations"]
    request = {"parent": project.job_name("j"), "pageSize": 2, "orderBy": "name"}
    pages = caller.pages("ListBucketOperations", request)
    assert [len(page) for page in pages] == [2, 1]
    assert [name for page in pages for name in page] == [part["name"] for part in parts]
    request = {"parent": project.job_name("none")}
    error = refused(lambda: caller.call("ListBucketOperations", request))
    assert error == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@clients_of("GetBucketOperation")
def test_get_bucket_operation(caller: Client, project: Project) -> None:
    """Its states have other numbers than a job's."""
    project.create("j")
    project.run("j", counters=COUNTED, errors=MISSING)
    (part,) = project.ok("GET", "/jobs/j/bucketOperations")["bucketOperations"]
    assert part["state"] == "RUNNING"
    got = caller.call("GetBucketOperation", {"name": part["name"]})
    same(sbo.BucketOperation.pb(), got, part)
    request = {"name": f"{project.job_name('j')}/bucketOperations/none"}
    error = refused(lambda: caller.call("GetBucketOperation", request))
    assert error == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@clients_of("ListOperations")
def test_list_operations(caller: Client, project: Project) -> None:
    made = sorted(project.create(job_id)["name"] for job_id in "abc")
    pages = caller.pages("ListOperations", {"name": project.parent, "pageSize": 2})
    assert [len(page) for page in pages] == [2, 1]
    assert sorted([name for page in pages for name in page]) == made
    project.ok("POST", "/jobs/b:cancel")
    request = {"name": project.parent, "filter": "done = true"}
    (one,) = caller.call("ListOperations", request)["operations"]
    assert one["metadata"]["job"]["name"] == project.job_name("b")


@clients_of("GetOperation")
def test_get_operation_to_its_end(caller: Client, project: Project) -> None:
    name = project.create("j")["name"]

    def check() -> Any:
        got = caller.call("GetOperation", {"name": name})
        same(operations_pb2.Operation, got, project.ok("GET", name))
        return got

    assert not check().get("done")
    project.run("j", counters=COUNTED, errors=MISSING)
    assert check()["metadata"]["job"]["counters"]["totalObjectCount"] == "3"
    project.finish("j")
    ended = check()
    assert ended["done"] is True
    assert ended["response"] == {**ended["metadata"]["job"], "@type": ended["response"]["@type"]}
    request = {"name": f"{project.parent}/operations/none"}
    error = refused(lambda: caller.call("GetOperation", request))
    assert error == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@clients_of("GetOperation")
def test_get_operation_of_a_failed_job(caller: Client, project: Project) -> None:
    name = project.create("j")["name"]
    project.run("j", counters={})
    project.finish("j", "FAILED", "NOT_FOUND", "Bucket 'bucket-1' does not exist.")
    got = caller.call("GetOperation", {"name": name})
    assert got["error"] == {"code": 5, "message": "Bucket 'bucket-1' does not exist."}
    assert "response" not in got


@clients_of("CancelOperation")
def test_cancel_operation(caller: Client, project: Project) -> None:
    name = project.create("j")["name"]
    for _ in range(2):
        assert caller.call("CancelOperation", {"name": name}) == {}
    got = caller.call("GetOperation", {"name": name})
    assert (got["done"], got["error"]["code"]) == (True, 1)
    assert got["metadata"]["requestedCancellation"] is True
    assert state(project) == "CANCELED"
    request = {"name": f"{project.parent}/operations/none"}
    error = refused(lambda: caller.call("CancelOperation", request))
    assert error == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@clients_of("DeleteOperation")
def test_delete_operation(caller: Client, project: Project) -> None:
    name = project.create("j")["name"]
    assert caller.call("DeleteOperation", {"name": name}) == {}
    for method in ("GetOperation", "DeleteOperation"):
        error = refused(lambda method=method: caller.call(method, {"name": name}))
        assert error == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert state(project) == "QUEUED"


@clients_of("WaitOperation")
def test_wait_operation(caller: Client, project: Project) -> None:
    name = project.create("j")["name"]
    request = {"name": name, "timeout": "0.001s"}
    assert not caller.call("WaitOperation", request).get("done")
    project.run("j", counters={})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(caller.call, "WaitOperation", {"name": name, "timeout": "60s"})
        project.finish("j")
        assert waiting.result(60)["response"]["state"] == "SUCCEEDED"


@clients_of("ListLocations")
def test_list_locations(caller: Client, project: Project) -> None:
    assert caller.pages("ListLocations", {"name": f"projects/{project.id}"}) == [[project.parent]]


@clients_of("GetLocation")
def test_get_location(caller: Client, project: Project) -> None:
    got = caller.call("GetLocation", {"name": project.parent})
    assert got == {"name": project.parent, "locationId": "global"}
    request = {"name": f"projects/{project.id}/locations/moon"}
    error = refused(lambda: caller.call("GetLocation", request))
    assert error == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


def test_every_method_has_a_scenario() -> None:
    assert all(scenarios(method) for method in METHODS)


def scenarios(method: str) -> list[str]:
    start = f"test_{snake(method)}"
    functions = vars(sys.modules[__name__])
    return [name for name in functions if name == start or name.startswith(f"{start}_")]


def test_the_document_has_this_as_a_table() -> None:
    def row(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [row("method", *CLIENTS, "scenarios"), "|---" * (len(CLIENTS) + 2) + "|"]
    for method in [*RESOURCES, "WaitOperation"]:
        having = ["✓" if method in methods else "–" for methods in CLIENTS.values()]
        lines.append(row(method, *having, " ".join(f"`{one}`" for one in scenarios(method))))
    assert "\n".join(lines) in DOCUMENT.read_text(encoding="utf-8")


def test_the_document_names_tests_that_are_there() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    files = {name: DOCUMENT.parents[1] / name for name in re.findall(r"`(tests/[\w/.]+)`", text)}
    assert all(path.exists() for path in files.values()), files
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (DOCUMENT.parents[1] / "tests").rglob("*.py")
    )
    wanted = set(re.findall(r"`(test_\w+)`", text))
    assert wanted <= set(re.findall(r"def (test_\w+)", sources))
