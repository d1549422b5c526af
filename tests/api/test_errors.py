"""Bad input → code, reason and field path (reference 8.3 to 8.5), all in Google's envelope."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.conftest import Project, delete_job, details

JOB = "Invalid JSON payload received. "


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"x": 1}, "job", JOB + "Unknown name \"x\" at 'job': Cannot find field."),
        (
            {"dropObjectGoogleContext": {}},
            "job",
            JOB + "Unknown name \"dropObjectGoogleContext\" at 'job': Cannot find field.",
        ),
        (
            {"deleteObject": {}, "putMetadata": {}},
            "job",
            "Invalid value at 'job' (oneof), oneof field 'transformation' is already set."
            " Cannot set 'putMetadata'",
        ),
        (
            {"description": 5},
            "job.description",
            "Invalid value at 'job.description' (TYPE_STRING), 5",
        ),
        (
            {"dryRun": "maybe"},
            "job.dry_run",
            "Invalid value at 'job.dry_run' (TYPE_BOOL), \"maybe\"",
        ),
        (
            {"bucketList": []},
            "job",
            JOB + "Unknown name \"bucket_list\" at 'job': Proto field is not repeating, cannot"
            " start list.",
        ),
        (
            {"bucketList": "b"},
            "job.bucket_list",
            "Invalid value at 'job.bucket_list' (type.googleapis.com/google.cloud"
            '.storagebatchoperations.v1.BucketList), "b"',
        ),
        (
            {"completeTime": "2026-01-01 00:00:00Z"},
            "job.complete_time",
            "Invalid value at 'job.complete_time' (type.googleapis.com/google.protobuf.Timestamp),"
            " Field 'complete_time', Illegal timestamp format; timestamps must end with 'Z' or"
            " have a valid timezone offset.",
        ),
    ],
)
def test_texts_of_the_body_s_problems(
    project: Project, body: dict[str, Any], field: str, message: str
) -> None:
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert (error["code"], error["status"], error["message"]) == (400, "INVALID_ARGUMENT", message)
    assert error["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": message}],
        }
    ]


@pytest.mark.parametrize(
    ("query", "violations"),
    [
        (
            "x=1",
            [
                {
                    "description": JOB + 'Unknown name "x": Cannot bind query parameter. Field'
                    " 'x' could not be found in request message."
                }
            ],
        ),
        (
            "pageSize=abc&page_size=2x",
            [
                {
                    "field": "page_size",
                    "description": f"Invalid value at 'page_size' (TYPE_INT32), \"{text}\"",
                }
                for text in ("abc", "2x")
            ],
        ),
    ],
)
def test_texts_of_the_query_s_problems(
    project: Project, query: str, violations: list[dict[str, str]]
) -> None:
    error = project.error("GET", f"/jobs?{query}")
    assert error["message"] == "\n".join(one["description"] for one in violations)
    assert details(error)["BadRequest"]["fieldViolations"] == violations


@pytest.mark.parametrize("content", [b"{", b"nonsense", b"[]", b'"text"', b"null", b'{"a":NaN}'])
def test_malformed_json(project: Project, content: bytes) -> None:
    for path in ("/jobs", "/jobs/j:cancel"):
        error = project.error("POST", path, content=content)
        assert error["status"] == "INVALID_ARGUMENT"
        assert error["message"].startswith(("Invalid JSON payload received.", "Invalid value at"))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("pageSize=-1", "page_size"),
        ("pageToken=nonsense", "page_token"),
        ("pageToken=%C3%A9", "page_token"),
        ("filter=state=", "filter"),
        ("filter=unknown%3D1", "filter"),
        ("filter=" + "x" * 10_001, "filter"),
        ("orderBy=state", "order_by"),
        ("orderBy=name%20sideways", "order_by"),
    ],
)
def test_bad_arguments_of_a_list(project: Project, query: str, field: str) -> None:
    error = project.error("GET", f"/jobs?{query}")
    assert error["status"] == "INVALID_ARGUMENT"
    [violation] = details(error)["BadRequest"]["fieldViolations"]
    assert violation == {"field": field, "description": error["message"]}


@pytest.mark.parametrize(
    "query",
    [
        "filter=%00",
        "filter=%FF",
        "$alt=media",
        "callback=f",
    ],
)
def test_queries_that_no_method_takes(project: Project, query: str) -> None:
    assert project.error("GET", f"/jobs?{query}")["status"] == "INVALID_ARGUMENT"


def test_bad_names(project: Project) -> None:
    for path in ("/jobs/%00", "/jobs/%FF"):
        assert project.error("GET", path)["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/jobs/none"),
        ("DELETE", "/jobs/none"),
        ("POST", "/jobs/none:cancel"),
        ("GET", "/jobs/none/bucketOperations"),
        ("GET", "/jobs/none/bucketOperations/some"),
        ("GET", "/operations/none"),
        ("DELETE", "/operations/none"),
        ("POST", "/operations/none:cancel"),
        ("POST", "/operations/x:y:cancel"),
        ("GET", "/jobs/a:b"),
        ("DELETE", "/operations/o:p"),
    ],
)
def test_not_found_says_the_whole_name(project: Project, verb: str, path: str) -> None:
    error = project.error(verb, path)
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    resource = path.removesuffix(":cancel").removesuffix("/bucketOperations")
    assert f"'{project.parent}{resource}'" in error["message"]


def test_a_bucket_operation_that_is_not_there(project: Project) -> None:
    project.create("j")
    name = f"{project.parent}/jobs/j/bucketOperations/none"
    error = project.error("GET", name)
    assert error["status"] == "NOT_FOUND"
    assert name in error["message"]


def test_foreign_locations_are_not_found(project: Project) -> None:
    mars = f"projects/{project.id}/locations/mars"
    for path in ("", "/jobs", "/jobs/j", "/operations", "/operations/o"):
        error = project.error("GET", mars + path)
        assert error["status"] == "NOT_FOUND"
        assert details(error)["ErrorInfo"]["reason"] == "RESOURCE_NOT_FOUND"
        resource = mars + path.removesuffix("/jobs").removesuffix("/operations")
        assert f"'{resource}'" in error["message"]


def test_another_project_s_resources_are_not_found(project: Project, rest: httpx.Client) -> None:
    operation = project.create("j")["name"]
    for name in (operation, project.job_name("j")):
        other = name.replace(project.id, f"{project.id}-not")
        assert rest.get(f"/v1/{other}").status_code == 404


def test_a_job_that_exists(project: Project) -> None:
    project.create("j")
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=delete_job())
    assert (error["code"], error["status"]) == (409, "ALREADY_EXISTS")
    assert project.job_name("j") in error["message"]


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_cancel_of_a_finished_job(project: Project, state: str) -> None:
    project.create("j")
    project.run("j", counters={})
    project.finish("j", state, "NOT_FOUND", "gone")
    error = project.error("POST", "/jobs/j:cancel")
    assert (error["code"], error["status"]) == (400, "FAILED_PRECONDITION")
    assert project.ok("GET", "/jobs/j")["state"] == state


def test_delete_of_an_open_job(project: Project) -> None:
    project.create("j")
    for _ in range(2):
        error = project.error("DELETE", "/jobs/j")
        assert (error["code"], error["status"]) == (400, "FAILED_PRECONDITION")
        project.run("j", counters={})
    assert project.ok("GET", "/jobs/j")["state"] == "RUNNING"


def test_partial_success_is_unimplemented(project: Project) -> None:
    error = project.error("GET", "/operations?returnPartialSuccess=true")
    assert (error["code"], error["status"]) == (501, "UNIMPLEMENTED")
    assert project.ok("GET", "/operations?returnPartialSuccess=false") == {}


def test_cancel_of_an_operation_takes_no_other_body(project: Project) -> None:
    operation = project.create("j")["name"]
    error = project.error("POST", f"{operation}:cancel", json={"force": True})
    assert error["message"] == JOB + 'Unknown name "force": Cannot find field.'
    assert project.ok("GET", operation)["done"] is False


def test_a_path_that_no_rule_has(rest: httpx.Client, project: Project) -> None:
    for path in ("/", "/v1", "/v2/projects/p/locations", f"/v1/{project.parent}/jobs:run"):
        response = rest.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "text/html; charset=UTF-8"


def test_a_method_that_the_path_does_not_have(project: Project) -> None:
    response = project.call("PATCH", "/jobs/j", json={})
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, GET"
    assert response.json()["error"]["code"] == 405


def test_containers_where_scalars_belong(project: Project) -> None:
    """However deep: no way to a 500."""
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    for body in (
        {"description": deep},
        {"description": {}},
        {"bucketList": {"buckets": deep}},
        {"bucketList": {"buckets": {"deep": deep}}},
        {"bucketList": {"buckets": [{"prefixList": {"includedObjectPrefixes": deep}}]}},
        {"putMetadata": {"customMetadata": {"k": deep}}},
        {"putMetadata": {"customMetadata": deep}},
        {"putMetadata": {"customMetadata": {"k": {}}}},
        {"state": {}},
        {"createTime": {}},
    ):
        error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
        assert error["status"] == "INVALID_ARGUMENT"
        assert "BadRequest" in details(error)
