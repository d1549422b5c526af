"""A job comes back as it was created: presence included, for every transformation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Project

PRESENCE = {
    "putMetadata": {
        "contentType": "",
        "cacheControl": "no-store",
        "customMetadata": {"keep": "x", "drop": ""},
    }
}


@pytest.mark.parametrize(
    "transformation",
    [
        {"putObjectHold": {"temporaryHold": "SET"}},
        {"putObjectHold": {"temporaryHold": "UNSET", "eventBasedHold": "SET"}},
        {"deleteObject": {}},
        {"deleteObject": {"permanentObjectDeletionEnabled": True}},
        PRESENCE,
        {"putMetadata": {"objectRetention": {}}},
        {
            "putMetadata": {
                "objectRetention": {
                    "retainUntilTime": "2030-01-01T00:00:00Z",
                    "retentionMode": "UNLOCKED",
                }
            }
        },
        {"rewriteObject": {"kmsKey": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}},
        {"rewriteObject": {"storageClass": "COLDLINE"}},
        {"updateObjectCustomContext": {"clearAll": True}},
        {
            "updateObjectCustomContext": {
                "customContextUpdates": {
                    "updates": {"team": {"value": "blue"}},
                    "keysToClear": ["old"],
                }
            }
        },
        {
            "setObjectAcls": {
                "accessControlsUpdates": {
                    "grants": [{"entity": "allUsers", "role": "READER"}],
                    "removeEntities": ["allAuthenticatedUsers"],
                }
            }
        },
    ],
)
@pytest.mark.parametrize(
    "source", [{"prefixList": {}}, {"manifest": {"manifestLocation": "gs://lists/m.csv"}}]
)
def test_what_is_created_comes_back_whole(
    project: Project, transformation: dict[str, Any], source: dict[str, Any]
) -> None:
    """Presence included: "" clears and absent leaves, {} is not nothing."""
    bucket_list = {"buckets": [{"bucket": "bucket-1", **source}]}
    operation = project.create("j", {"bucketList": bucket_list, **transformation})["name"]
    in_operation = project.ok("GET", operation)["metadata"]["job"]
    for reply in (project.ok("GET", "/jobs/j"), in_operation):
        assert reply["bucketList"] == bucket_list
        assert {key: reply[key] for key in transformation} == transformation
    part = project.ok("GET", "/jobs/j/bucketOperations")["bucketOperations"][0]
    assert {key: part[key] for key in (*source, *transformation)} == {**source, **transformation}
