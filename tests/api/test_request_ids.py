"""requestId: a repeated request gets the first answer and does nothing (reference 1.1)."""

from __future__ import annotations

import pytest

from tests.api.conftest import START_US, Clock, Project, delete_job

ID = "6f1c2c5e-7d2f-4a36-9b0c-0a4f7f0f3c11"
HOUR_US = 3600 * 1_000_000


def test_create_is_answered_as_before(project: Project, clock: Clock) -> None:
    first = project.create("j", requestId=ID)
    clock.time_us = START_US + HOUR_US
    assert project.create("j", requestId=ID.upper()) == first
    assert len(project.ok("GET", "/jobs")["jobs"]) == 1


def test_create_without_a_job_id_makes_one_job(project: Project) -> None:
    names = {project.create("", requestId=ID)["name"] for _ in range(3)}
    assert len(names) == 1
    assert len(project.ok("GET", "/jobs")["jobs"]) == 1


def test_create_is_answered_with_the_operation_of_a_deleted_job(project: Project) -> None:
    first = project.create("j", requestId=ID)["name"]
    project.ok("POST", "/jobs/j:cancel")
    project.ok("DELETE", "/jobs/j")
    assert project.create("j", requestId=ID)["name"] == first
    project.ok("DELETE", first)
    again = {"params": {"jobId": "j", "requestId": ID}, "json": delete_job()}
    assert project.error("POST", "/jobs", **again)["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("job_id", "bucket"), [("j", "bucket-2"), ("k", "bucket-1"), ("", "bucket-1")]
)
def test_other_content_is_refused(project: Project, job_id: str, bucket: str) -> None:
    project.create("j", requestId=ID)
    params = {"jobId": job_id, "requestId": ID}
    error = project.error("POST", "/jobs", params=params, json=delete_job(bucket))
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["reason"] == "REQUEST_ID_REUSED"


def test_a_failed_request_is_not_remembered(project: Project) -> None:
    project.create("j")
    params = {"jobId": "j", "requestId": ID}
    error = project.error("POST", "/jobs", params=params, json=delete_job())
    assert error["status"] == "ALREADY_EXISTS"
    assert project.create("k", requestId=ID)["done"] is False


def test_cancel_and_delete_are_answered_as_before(project: Project) -> None:
    project.create("j", requestId=ID)
    for _ in range(2):  # the same id means something else to each method
        assert project.ok("POST", "/jobs/j:cancel", json={"requestId": ID}) == {}
    project.create("k")
    error = project.error("POST", "/jobs/k:cancel", json={"requestId": ID})
    assert error["status"] == "INVALID_ARGUMENT"
    for _ in range(2):
        assert project.ok("DELETE", "/jobs/j", params={"requestId": ID}) == {}
    assert project.error("DELETE", "/jobs/j")["status"] == "NOT_FOUND"


def test_a_repeated_cancel_of_what_has_ended_since(project: Project) -> None:
    project.create("j")
    project.run("j", counters={})
    assert project.ok("POST", "/jobs/j:cancel", json={"requestId": ID}) == {}
    project.finish("j")
    assert project.ok("POST", "/jobs/j:cancel", json={"requestId": ID}) == {}
    assert project.error("POST", "/jobs/j:cancel")["status"] == "FAILED_PRECONDITION"


def test_ids_are_forgotten_after_days(project: Project, clock: Clock) -> None:
    project.create("j", requestId=ID)
    clock.time_us = START_US + 48 * HOUR_US
    project.create("k", requestId=ID.replace("6", "7"))  # whoever comes by sweeps
    project.create("l", requestId=ID)
    assert len(project.ok("GET", "/jobs")["jobs"]) == 3


@pytest.mark.parametrize(
    "request_id",
    [
        "x",
        "00000000-0000-0000-0000-000000000000",
        ID + "0",
        ID.replace("-", ""),
        f"{{{ID}}}",
        "----" + ID.replace("-", ""),
        ID.replace("-9b0c-", "-9_0c-"),
    ],
)
def test_malformed_ids(project: Project, request_id: str) -> None:
    project.create("j")
    params = {"jobId": "k", "requestId": request_id}
    for error in (
        project.error("POST", "/jobs", params=params, json=delete_job()),
        project.error("DELETE", "/jobs/j", params={"requestId": request_id}),
        project.error("POST", "/jobs/j:cancel", json={"requestId": request_id}),
    ):
        assert error["status"] == "INVALID_ARGUMENT"
        violations = error["details"][1]["fieldViolations"]
        assert [violation["field"] for violation in violations] == ["request_id"]
    assert project.ok("GET", "/jobs/j")["state"] == "QUEUED"
