"""What is wrong with a new job: the reasons of the error catalogue, and its field paths."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from longshore import extensions, transformations
from longshore.api import validation, wire
from longshore.errors import VIOLATIONS_MAX
from tests.api.conftest import Project, delete_job, details

DOMAIN = "storagebatchoperations.googleapis.com"


def buckets(*entries: Any) -> dict[str, Any]:
    return {"bucketList": {"buckets": list(entries)}, "deleteObject": {}}


ALL = {"prefixList": {}}
MANY_PREFIXES = {"includedObjectPrefixes": [f"{n}/" for n in range(1001)]}

CATALOGUE = [
    ("Bad_Id", delete_job(), "JOB_ID_INVALID", "job_id", {}),
    ("-x", delete_job(), "JOB_ID_INVALID", "job_id", {}),
    ("x" * 129, delete_job(), "JOB_ID_INVALID", "job_id", {}),
    (
        "j",
        {**delete_job(), "description": "é" * 513},
        "DESCRIPTION_TOO_LONG",
        "job.description",
        {"max_length": "1024"},
    ),
    ("j", {"deleteObject": {}}, "SOURCE_NOT_SPECIFIED", "job", {}),
    (
        "j",
        {"bucketList": delete_job()["bucketList"]},
        "TRANSFORMATION_NOT_SPECIFIED",
        "job",
        {},
    ),
    ("j", buckets(), "BUCKET_LIST_EMPTY", "job.bucket_list.buckets", {}),
    (
        "j",
        buckets(*({"bucket": f"b-{n:04}", **ALL} for n in range(1001))),
        "TOO_MANY_BUCKETS",
        "job.bucket_list.buckets",
        {"max_buckets": "1000"},
    ),
    ("j", buckets(ALL), "BUCKET_NAME_REQUIRED", "job.bucket_list.buckets[0].bucket", {}),
    (
        "j",
        buckets({"bucket": "gs://bucket", **ALL}),
        "BUCKET_NAME_INVALID",
        "job.bucket_list.buckets[0].bucket",
        {},
    ),
    (
        "j",
        buckets({"bucket": "bucket-1", **ALL}, {"bucket": "bucket-1", **ALL}),
        "BUCKET_NAME_DUPLICATE",
        "job.bucket_list.buckets[1].bucket",
        {},
    ),
    (
        "j",
        buckets({"bucket": "bucket-1", **ALL}, {"bucket": "bucket-2"}),
        "OBJECT_CONFIGURATION_REQUIRED",
        "job.bucket_list.buckets[1]",
        {},
    ),
    (
        "j",
        buckets({"bucket": "bucket-1", "manifest": {}}),
        "MANIFEST_LOCATION_REQUIRED",
        "job.bucket_list.buckets[0].manifest.manifest_location",
        {},
    ),
    (
        "j",
        buckets({"bucket": "bucket-1", "manifest": {"manifestLocation": "gs://b*/x.csv"}}),
        "MANIFEST_LOCATION_INVALID",
        "job.bucket_list.buckets[0].manifest.manifest_location",
        {"manifest_location": "gs://b*/x.csv"},
    ),
    (
        "j",
        buckets({"bucket": "bucket-1", "prefixList": MANY_PREFIXES}),
        "TOO_MANY_PREFIXES",
        "job.bucket_list.buckets",
        {"max_prefixes": "1000"},
    ),
    (
        "j",
        {"projectSource": {"project": "projects/p"}, "deleteObject": {}},
        "PROJECT_SOURCE_PROJECT_INVALID",
        "job.project_source.project",
        {},
    ),
    (
        "j",
        {**delete_job(), "loggingConfig": {"logActions": ["LOGGABLE_ACTION_UNSPECIFIED"]}},
        "LOGGING_CONFIG_INVALID",
        "job.logging_config.log_actions[0]",
        {},
    ),
    (
        "j",
        {**delete_job(), "loggingConfig": {"logActionStates": [1, 7]}},
        "LOGGING_CONFIG_INVALID",
        "job.logging_config.log_action_states[1]",
        {},
    ),
]


@pytest.mark.parametrize(("job_id", "body", "reason", "field", "metadata"), CATALOGUE)
def test_catalogue(
    project: Project,
    job_id: str,
    body: dict[str, Any],
    reason: str,
    field: str,
    metadata: dict[str, str],
) -> None:
    error = project.error("POST", "/jobs", params={"jobId": job_id}, json=body)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    info = details(error)["ErrorInfo"]
    assert (info["reason"], info["domain"]) == (reason, DOMAIN)
    assert info.get("metadata", {}) == metadata
    violations = details(error)["BadRequest"]["fieldViolations"]
    assert [violation["field"] for violation in violations] == [field]
    assert error["message"] == violations[0]["description"]
    assert project.ok("GET", "/jobs") == {}


def test_the_live_text_for_a_bad_id(project: Project) -> None:
    error = project.error("POST", "/jobs", params={"jobId": "A"}, json=delete_job())
    assert "Job ID must match the pattern [a-z0-9]([-a-z0-9]*[a-z0-9])?" in error["message"]


def test_a_name_that_is_too_long(rest: httpx.Client) -> None:
    parent = f"projects/{'船' * 128}/locations/global"
    params = {"jobId": "j" * 128}
    error = rest.post(f"/v1/{parent}/jobs", params=params, json=delete_job()).json()["error"]
    info = details(error)["ErrorInfo"]
    assert info["reason"] == "RESOURCE_NAME_TOO_LONG"
    assert info["metadata"] == {"max_length": str(validation.NAME_MAX_BYTES)}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"putObjectHold": {}}, "job.put_object_hold"),
    ({"putMetadata": {}}, "job.put_metadata"),
    ({"putMetadata": {"customTime": "soon"}}, "job.put_metadata.custom_time"),
    ({"rewriteObject": {}}, "job.rewrite_object"),
    ({"updateObjectCustomContext": {}}, "job.update_object_custom_context"),
    (
        {"updateObjectCustomContext": {"clearAll": False}},
        "job.update_object_custom_context.clear_all",
    ),
    ({"setObjectAcls": {}}, "job.set_object_acls.access_controls_updates"),
]


@pytest.mark.parametrize(("transformation", "field"), REFUSED)
def test_what_a_transformation_refuses(
    project: Project, transformation: dict[str, Any], field: str
) -> None:
    body = {"bucketList": delete_job()["bucketList"], **transformation}
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert error["status"] == "INVALID_ARGUMENT"
    assert details(error)["ErrorInfo"]["reason"] == "TRANSFORMATION_INVALID"
    assert details(error)["BadRequest"]["fieldViolations"][0]["field"] == field


@pytest.mark.parametrize("name", extensions.known("transformations"))
def test_a_transformation_without_its_file_is_refused_by_name(
    project: Project, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(transformations.__path__[0])
    for file in folder.glob("*.py"):
        if file.stem != name:
            shutil.copy(file, tmp_path)
    field = wire.Job.DESCRIPTOR.fields_by_name[name].json_name
    body = {"bucketList": delete_job()["bucketList"], field: {}}
    with monkeypatch.context() as patched:
        patched.setattr(transformations, "__path__", [str(tmp_path)])
        extensions.load.cache_clear()  # it remembers what was there
        error = project.error("POST", "/jobs", params={"jobId": "j"}, json=body)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert details(error)["ErrorInfo"]["reason"] == "TRANSFORMATION_UNSUPPORTED"
    assert f"'{name}'" in error["message"]
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json={field: {}})
    assert "UNSUPPORTED" not in str(error)


@pytest.mark.parametrize(
    ("job_id", "body"),
    [
        ("x" * 128, {}),
        ("0", {}),
        ("a--b", {}),
        ("j", {"description": "\u00e9" * 512}),
        ("j", {"description": "x" * 1024}),
        ("j", buckets(*({"bucket": f"b-{n:04}", **ALL} for n in range(1000)))),
        (
            "j",
            buckets(
                *(
                    {
                        "bucket": f"b-{n}",
                        "prefixList": {"includedObjectPrefixes": [f"{m}/" for m in range(1000)]},
                    }
                    for n in range(3)
                )
            ),
        ),
    ],
    ids=["id", "digit", "hyphens", "bytes", "characters", "buckets", "distinct prefixes"],
)
def test_what_is_just_within_the_limits(
    project: Project, job_id: str, body: dict[str, Any]
) -> None:
    name = project.create(job_id, {**delete_job(), **body})["metadata"]["job"]["name"]
    assert name == project.job_name(job_id)


def test_everything_wrong_is_said_at_once(project: Project) -> None:
    body = {"description": "x" * 1025, "bucketList": {"buckets": [{}]}, "rewriteObject": {}}
    error = project.error("POST", "/jobs", params={"jobId": "A"}, json=body)
    violations = details(error)["BadRequest"]["fieldViolations"]
    assert [violation["field"] for violation in violations] == [
        "job_id",
        "job.description",
        "job.bucket_list.buckets[0].bucket",
        "job.bucket_list.buckets[0]",
        "job.rewrite_object",
    ]
    assert error["message"] == "\n".join(violation["description"] for violation in violations)
    assert details(error)["ErrorInfo"]["reason"] == "JOB_ID_INVALID"


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucketList": {"buckets": [{}] * 1000}},
        {"loggingConfig": {"logActions": list(range(100, 1100))}},
        {
            "deleteObject": None,
            "updateObjectCustomContext": {
                "customContextUpdates": {"keysToClear": [f"-{n}" for n in range(1000)]}
            },
        },
    ],
)
def test_one_mistake_made_often_is_not_said_as_often(
    project: Project, wrong: dict[str, Any]
) -> None:
    error = project.error("POST", "/jobs", params={"jobId": "j"}, json=delete_job() | wrong)
    violations = details(error)["BadRequest"]["fieldViolations"]
    assert len(violations) == VIOLATIONS_MAX
    assert len(error["message"].splitlines()) == VIOLATIONS_MAX
