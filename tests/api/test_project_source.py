"""Jobs with a projectSource: what is refused, and what is shown before and after it is resolved."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from sqlalchemy import Connection, select

from longshore.database.shards import WHOLE, finish_search, shard_of
from longshore.database.tables import bucket_operations, jobs
from tests.api.conftest import START_US, Project, Server, details

FILTERED = {
    "bucketFilters": {"expression": "name.startsWith('a') || location == 'EU'", "title": "some"},
    "objectFilters": {"expression": "size > 5 && !temporaryHold"},
    "targetLocations": {"locations": ["eu"]},
    "insightsDatasetConfig": "projects/p/locations/l/datasetConfigs/d",
}


def job(creator: Project, **source: Any) -> dict[str, Any]:
    return {"projectSource": {"project": f"projects/{creator.id}", **source}, "deleteObject": {}}


SNAPSHOT = {"locations": ["eu"], "snapshotTime": "2026-01-01T00:00:00Z"}
REFUSED = [
    ({"project": "projects/other"}, "PROJECT_SOURCE_PROJECT_INVALID", ["project"]),
    ({"project": ""}, "PROJECT_SOURCE_PROJECT_INVALID", ["project"]),
    (
        {"targetLocations": SNAPSHOT},
        "SNAPSHOT_TIME_UNSUPPORTED",
        ["target_locations.snapshot_time"],
    ),
    ({"targetLocations": {}}, "PROJECT_SOURCE_INVALID", ["target_locations.locations"]),
    (
        {
            "bucketFilters": {"expression": "size == 1 ||\n nam == 'x'"},
            "objectFilters": {"expression": "name == "},
        },
        "PROJECT_SOURCE_INVALID",
        ["bucket_filters.expression", "bucket_filters.expression", "object_filters.expression"],
    ),
    (
        {"objectFilters": {"expression": "timeCreated > timestamp('yesterday')"}},
        "PROJECT_SOURCE_INVALID",
        ["object_filters.expression"],
    ),
]


@pytest.mark.parametrize(("source", "reason", "fields"), REFUSED)
def test_what_is_wrong_is_refused_with_its_place(
    project: Project, source: dict[str, Any], reason: str, fields: list[str]
) -> None:
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=job(project, **source))
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    found = details(error)
    assert found["ErrorInfo"]["reason"] == reason
    violations = found["BadRequest"]["fieldViolations"]
    assert [one["field"] for one in violations] == [f"job.project_source.{one}" for one in fields]
    assert error["message"] == "\n".join(one["description"] for one in violations)
    if "bucketFilters" in source:
        lines = error["message"].splitlines()
        assert lines[0].startswith(
            "bucket_filters: Line 1, column 1: undeclared reference to 'size"
        )
        assert lines[1].startswith(
            "bucket_filters: Line 2, column 2: undeclared reference to 'nam'"
        )
        assert lines[2].startswith("object_filters: Line 1, column 9: Syntax error")
    assert project.rows() == 0


def test_a_selection_by_a_dry_run_comes_with_plans(project: Project) -> None:
    body = {"projectSource": {"dryRunJobId": "earlier"}, "deleteObject": {}}
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert (error["code"], error["status"]) == (400, "FAILED_PRECONDITION")
    assert details(error)["ErrorInfo"]["reason"] == "DRY_RUN_SELECTION_UNSUPPORTED"
    assert "comes with plans" in error["message"]


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 8_000 + "true" + ")" * 8_000,
        "!(" * 5_000 + "true" + ")" * 5_000,
        "[" * 16_000,
        "-" * 15_001 + "size == 1",
        " || ".join(["contexts.exists(c, c.key == 'a')"] * 480),
        "a." * 8_000 + "a == 1",
        "'" * 16_001,
        "size == " + "9" * 16_000,
        "name == '" + "a" * 100_000 + "'",
        "\0" * 16_000,
        "1 == 1" + " && 1 == 1" * 1_600 + " &&",
        "{" + "'a':1," * 2_700 + "}.a == 1",
        "[1].map(a, [1].map(b, [1].map(c, [1].map(d, [1].map(e, [1].map(f, true))))))",
    ],
    ids=range(13),
)
def test_a_bomb_is_a_mistake_like_any_other(project: Project, expression: str) -> None:
    began = time.process_time()
    body = job(project, objectFilters={"expression": expression})
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert len(error["message"]) < 40_000
    assert time.process_time() - began < 5.0


def test_without_the_library_a_filter_is_refused_and_says_what_to_install(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    body = job(project, objectFilters={"expression": "size > 5"})
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert (error["code"], details(error)["ErrorInfo"]["reason"]) == (400, "SOURCE_UNSUPPORTED")
    assert "install longshore[cel]" in error["message"]
    project.create("unfiltered", job(project))


def test_what_its_creator_set_is_shown_as_it_was_set(project: Project) -> None:
    body = job(project, **FILTERED, snapshotTime="2026-01-01T00:00:00Z")
    created = project.create("j", body)
    source = {"project": f"projects/{project.id}", **FILTERED}
    assert created["metadata"]["job"]["projectSource"] == source
    shown = project.ok("GET", project.job_name("j"))
    assert shown["projectSource"] == source
    assert "bucketList" not in shown
    assert "totalBytesFound" not in shown["counters"]
    assert not shown.get("isMultiBucketJob", False)
    project.create("plain")
    assert "projectSource" not in project.ok("GET", project.job_name("plain"))


def _search(connection: Connection, project: str, buckets: list[str]) -> None:
    """As the engine does, which has leased the shard."""
    [row] = connection.execute(WHOLE.where(jobs.c.project == project)).all()
    finish_search(connection, shard_of(row), buckets, START_US + 2)


def _part(connection: Connection, project: str) -> str:
    mine = select(bucket_operations.c.bucket_operation_id).join(jobs)
    return str(connection.scalars(mine.where(jobs.c.project == project)).one())


def test_bucket_operations_are_there_once_their_buckets_are_found(
    project: Project, server: Server
) -> None:
    project.create("j", job(project, **FILTERED))
    path = f"{project.job_name('j')}/bucketOperations"
    assert project.ok("GET", path) == {}
    unseen = server.write(_part, project.id)
    assert project.error("GET", f"{path}/{unseen}")["status"] == "NOT_FOUND"

    project.run("j", counters={})
    server.write(_search, project.id, ["a", "b"])
    listed = project.ok("GET", path)["bucketOperations"]
    assert [one["bucketName"] for one in listed] == ["a", "b"]
    assert [one["state"] for one in listed] == ["RUNNING", "QUEUED"]
    assert listed[0]["projectSource"] == {"project": f"projects/{project.id}", **FILTERED}
    assert project.ok("GET", f"{path}/{unseen}") == listed[0]
    assert project.ok("GET", project.job_name("j"))["isMultiBucketJob"]

    project.run("j", counters={})
    project.finish("j")
    error = project.error("DELETE", f"{project.job_name('j')}")
    assert details(error)["ErrorInfo"]["reason"] == "FORCE_REQUIRED"
    project.ok("DELETE", project.job_name("j"), params={"force": "true"})
    assert project.error("GET", path)["status"] == "NOT_FOUND"


def test_a_job_is_cancelled_before_its_buckets_are_found(project: Project) -> None:
    project.create("j", job(project))
    project.ok("POST", f"{project.job_name('j')}:cancel", json={})
    assert project.ok("GET", project.job_name("j"))["state"] == "CANCELED"
    assert project.ok("GET", f"{project.job_name('j')}/bucketOperations") == {}
    project.ok("DELETE", project.job_name("j"))
