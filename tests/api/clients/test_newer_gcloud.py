"""The requests of gcloud 562 to 578 that 528 has no flags for, as they were recorded
(reference 11.1), posted as gcloud posts them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Project, delete_job, details

KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
PREFIXES = {"prefixList": {"includedObjectPrefixes": ["a/", "b/"]}}
MANIFEST = {"manifest": {"manifestLocation": "gs://lists/m*.csv"}}
DELETE = {"deleteObject": {"permanentObjectDeletionEnabled": True}}
DATASET = "projects/p/locations/l/datasetConfigs/d"


def buckets(*names: str, **chosen: Any) -> dict[str, Any]:
    return {"bucketList": {"buckets": [{"bucket": name, **chosen} for name in names]}}


ONE = buckets("bucket-1", **PREFIXES)
CONTEXTS = "updateObjectCustomContext"

BODIES: dict[str, dict[str, Any]] = {
    "--bucket-list=b-1,b-2 --included-object-prefixes=a/,b/ --delete-object"
    " --enable-permanent-object-deletion": {**buckets("b-1", "b-2", **PREFIXES), **DELETE},
    "--bucket-list=b-1,b-2 --manifest-location=gs://lists/m*.csv --delete-object"
    " --enable-permanent-object-deletion": {**buckets("b-1", "b-2", **MANIFEST), **DELETE},
    "--target-project=@": {"projectSource": {"project": "projects/@"}, **DELETE},
    "--target-project=@ --insights-dataset-config=D --bucket-filters=… --object-filters=…"
    " --target-locations=us,eu": {
        "projectSource": {
            "project": "projects/@",
            "insightsDatasetConfig": DATASET,
            "bucketFilters": {"expression": "name.startsWith('logs-')"},
            "objectFilters": {"expression": "size > 1024 && storageClass == 'STANDARD'"},
            "targetLocations": {"locations": ["us", "eu"]},
        },
        **DELETE,
    },
    "--rewrite-object=storage-class=nearline": {
        **ONE,
        "rewriteObject": {"storageClass": "NEARLINE"},
    },
    "--rewrite-object=kms-key=K,storage-class=archive": {
        **ONE,
        "rewriteObject": {"kmsKey": KEY, "storageClass": "ARCHIVE"},
    },
    "--put-metadata=Retain-Until=T,Retention-Mode=locked": {
        **ONE,
        "putMetadata": {
            "objectRetention": {
                "retainUntilTime": "2030-01-02T03:04:05Z",
                "retentionMode": "LOCKED",
            }
        },
    },
    "--put-metadata=Retain-Until=,Retention-Mode=": {**ONE, "putMetadata": {"objectRetention": {}}},
    "--update-object-custom-contexts=team=blue,env=": {
        **ONE,
        CONTEXTS: {"customContextUpdates": {"updates": {"team": {"value": "blue"}, "env": {}}}},
    },
    "--update-object-custom-contexts=team=blue --clear-object-custom-contexts=old": {
        **ONE,
        CONTEXTS: {
            "customContextUpdates": {
                "updates": {"team": {"value": "blue"}},
                "keysToClear": ["old"],
            }
        },
    },
    "--clear-object-custom-contexts=old,older": {
        **ONE,
        CONTEXTS: {"customContextUpdates": {"keysToClear": ["old", "older"]}},
    },
    "--clear-all-object-custom-contexts": {**ONE, CONTEXTS: {"clearAll": True}},
    "--set-object-acls-from-file=F": {
        **ONE,
        "setObjectAcls": {
            "accessControlsUpdates": {
                "grants": [{"entity": "allUsers", "role": "READER"}],
                "removeEntities": ["allAuthenticatedUsers"],
            }
        },
    },
    "--dry-run --delete-object --enable-permanent-object-deletion --description=what if": {
        **ONE,
        **DELETE,
        "dryRun": True,
        "description": "what if",
    },
}
REFUSED: dict[str, tuple[dict[str, Any], str, str, str | None]] = {
    # the body, and the status, the reason and the field of its refusal
    "--target-project=@ --target-locations=us --target-snapshot-time=T": (
        {
            "projectSource": {
                "project": "projects/@",
                "targetLocations": {
                    "locations": ["us"],
                    "snapshotTime": "2026-09-01T00:00:00.000000Z",
                },
            },
            **DELETE,
        },
        "INVALID_ARGUMENT",
        "SNAPSHOT_TIME_UNSUPPORTED",
        "job.project_source.target_locations.snapshot_time",
    ),
    "--dry-run-job-id=J": (
        {"projectSource": {"dryRunJobId": "earlier"}, **DELETE},
        "FAILED_PRECONDITION",
        "DRY_RUN_SELECTION_UNSUPPORTED",
        None,
    ),
    "--target-project=other": (
        {"projectSource": {"project": "projects/other"}, **DELETE},
        "INVALID_ARGUMENT",
        "PROJECT_SOURCE_PROJECT_INVALID",
        "job.project_source.project",
    ),
    "--put-metadata=Retention-Mode=locked": (
        {**ONE, "putMetadata": {"objectRetention": {"retentionMode": "LOCKED"}}},
        "INVALID_ARGUMENT",
        "TRANSFORMATION_INVALID",
        "job.put_metadata.object_retention.retain_until_time",
    ),
    "--set-object-acls-from-file=F, which says nothing": (
        {**ONE, "setObjectAcls": {"accessControlsUpdates": {}}},
        "INVALID_ARGUMENT",
        "TRANSFORMATION_INVALID",
        "job.set_object_acls.access_controls_updates",
    ),
    "--bucket-list=b-1,b-1": (
        {**buckets("b-1", "b-1", **PREFIXES), **DELETE},
        "INVALID_ARGUMENT",
        "BUCKET_NAME_DUPLICATE",
        "job.bucket_list.buckets[1].bucket",
    ),
}
CREATE = {"alt": "json", "jobId": "j"}


def of(project: Project, body: dict[str, Any]) -> dict[str, Any]:
    """``body`` with the project's id for the @."""
    source = body.get("projectSource", {})
    if source.get("project") != "projects/@":
        return body
    return {**body, "projectSource": {**source, "project": f"projects/{project.id}"}}


@pytest.mark.parametrize("flags", BODIES)
def test_what_is_created_is_described(project: Project, flags: str) -> None:
    body = of(project, BODIES[flags])
    reply = project.ok("POST", "/jobs", params=CREATE, json=body)
    described = project.ok("GET", "/jobs/j", params={"alt": "json"})
    assert {name: described[name] for name in body} == body
    assert {name: reply["metadata"]["job"][name] for name in body} == body
    assert described["state"] == "QUEUED"
    several = len(body.get("bucketList", {}).get("buckets", [])) > 1
    assert described.get("isMultiBucketJob", False) is several


@pytest.mark.parametrize("flags", REFUSED)
def test_what_is_refused(project: Project, flags: str) -> None:
    body, status, reason, field = REFUSED[flags]
    error = project.error("POST", "/jobs", params=CREATE, json=of(project, body))
    found = details(error)
    assert (error["code"], error["status"]) == (400, status)
    assert found["ErrorInfo"]["reason"] == reason
    if field is not None:
        assert [one["field"] for one in found["BadRequest"]["fieldViolations"]] == [field]
    assert project.rows() == 0


def test_bucket_operations_list_and_describe(project: Project) -> None:
    """``bucket-operations list`` names the buckets in the filter; ``describe`` gets one."""
    project.create("j", delete_job("b-1", "b-2", "b-3"))
    params = {
        "alt": "json",
        "pageSize": "500",
        "filter": 'bucket_name="b-1" OR bucket_name="b-3"',
    }
    listed = project.ok("GET", "/jobs/j/bucketOperations", params=params)["bucketOperations"]
    assert [one["bucketName"] for one in listed] == ["b-1", "b-3"]
    assert project.ok("GET", listed[0]["name"], params={"alt": "json"}) == listed[0]


def test_jobs_of_every_location(project: Project) -> None:
    """What gcloud asks for where its user names no location."""
    project.create("j")
    everywhere = f"projects/{project.id}/locations/-/jobs"
    listed = project.ok("GET", everywhere, params={"alt": "json", "pageSize": "500"})
    assert [one["name"] for one in listed["jobs"]] == [project.job_name("j")]


def test_delete_with_force(project: Project) -> None:
    project.create("j", delete_job("b-1", "b-2"))
    project.ok("POST", "/jobs/j:cancel", params={"alt": "json"}, json={})
    error = project.error("DELETE", "/jobs/j", params={"alt": "json"})
    assert details(error)["ErrorInfo"]["reason"] == "FORCE_REQUIRED"
    assert project.ok("DELETE", "/jobs/j", params={"alt": "json", "force": "true"}) == {}
