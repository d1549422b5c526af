"""A job comes back as it was created, presence included: "" clears and absent leaves, {} is not
nothing. All combinations of source, transformation, dry run and logging."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Project
from tests.api.every_job import TRANSFORMATIONS, configured, jobs


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_what_is_created_comes_back_whole(project: Project, transformation: dict[str, Any]) -> None:
    sent = {f"j{n}": body for n, body in enumerate(jobs(project.id, transformation))}
    replies = {job_id: project.create(job_id, body) for job_id, body in sent.items()}
    in_list = {
        job["name"].rpartition("/")[2]: job
        for job in project.ok("GET", "/jobs?pageSize=500")["jobs"]
    }
    assert in_list.keys() == sent.keys()
    operations = {
        operation["name"]: operation
        for operation in project.ok("GET", "/operations?pageSize=500")["operations"]
    }
    for job_id, body in sent.items():
        name = replies[job_id]["name"]
        for job in (
            replies[job_id]["metadata"]["job"],
            in_list[job_id],
            project.ok("GET", f"/jobs/{job_id}"),
            operations[name]["metadata"]["job"],
        ):
            assert configured(job) == body
        if "bucketList" in body and not body.keys() & {"loggingConfig", "dryRun"}:
            assert_parts(project, job_id, body, transformation)


def assert_parts(
    project: Project, job_id: str, body: dict[str, Any], transformation: dict[str, Any]
) -> None:
    parts = project.ok("GET", f"/jobs/{job_id}/bucketOperations")["bucketOperations"]
    buckets = body["bucketList"]["buckets"]
    for part, bucket in zip(parts, buckets, strict=True):
        wanted = {"bucketName": bucket["bucket"], **transformation}
        wanted |= {key: value for key, value in bucket.items() if key != "bucket"}
        assert {key: part[key] for key in wanted} == wanted
        assert len({"prefixList", "manifest", "projectSource"} & part.keys()) == 1


def test_presence_outlives_the_end(project: Project) -> None:
    """The response of a done operation as well."""
    transformation = {"putMetadata": {"contentType": "", "customMetadata": {"drop": ""}}}
    body = next(jobs(project.id, transformation))
    name = project.create("j", body)["name"]
    project.run("j", counters={})
    project.finish("j")
    operation = project.ok("GET", name)
    assert configured(project.ok("GET", "/jobs/j")) == body
    assert configured(operation["metadata"]["job"]) == body
    assert configured(operation["response"]) == {"@type": operation["response"]["@type"], **body}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", ""),
        ("dryRun", False),
        ("loggingConfig", None),
        ("name", "projects/x/locations/global/jobs/y"),
    ],
)
def test_what_is_the_same_as_nothing(project: Project, field: str, value: Any) -> None:
    body = next(jobs(project.id, {"deleteObject": {}}))
    project.create("j", {**body, field: value})
    assert configured(project.ok("GET", "/jobs/j")) == body
