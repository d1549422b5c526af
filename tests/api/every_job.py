"""Jobs of every kind: what can be chosen, done and asked for, each with its presence.

Every value is spelt as the API spells it, and nothing is a default that it would leave out: so what
comes back is what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

Fields = Mapping[str, Any]

OUTPUT = {
    "name",
    "createTime",
    "scheduleTime",
    "completeTime",
    "state",
    "counters",
    "errorSummaries",
    "isMultiBucketJob",
}
"""Fields of a Job that are not its creator's."""
TEXTS = ["", " ", "a b/%2F", "\u00fcber/\u8239/", "\U0001f6a2", "\u0000\u007f\n"]
ANNOUNCED = ("projectSource", "setObjectAcls", "storageClass")
"""Fields that the published messages lack."""
_MANIFEST = {"manifest": {"manifestLocation": "gs://lists/path/m-*.csv"}}


def _buckets(*configurations: Fields) -> Fields:
    chosen = [{"bucket": f"bucket-{n}", **one} for n, one in enumerate(configurations)]
    return {"bucketList": {"buckets": chosen}}


def sources(project: str) -> list[Fields]:
    """Every kind of source, of one and of many buckets; ``project`` is that of the job."""
    return [
        _buckets({"prefixList": {}}),
        _buckets({"prefixList": {"includedObjectPrefixes": TEXTS}}),
        _buckets(_MANIFEST),
        _buckets(_MANIFEST, {"prefixList": {}}, {"prefixList": {"includedObjectPrefixes": [""]}}),
        {"projectSource": {"project": f"projects/{project}"}},
        {
            "projectSource": {
                "project": f"projects/{project}",
                "insightsDatasetConfig": "projects/x/locations/l/datasetConfigs/d",
                "bucketFilters": {"expression": "name.startsWith('a')", "title": "t"},
                "objectFilters": {
                    "expression": "size > 5 || name == '\u8239'",
                    "description": "d",
                    "location": "file:1",
                },
                "targetLocations": {"locations": ["eu", "us"]},
            }
        },
    ]


TRANSFORMATIONS: list[Fields] = [
    {"putObjectHold": {"temporaryHold": "SET"}},
    {"putObjectHold": {"temporaryHold": "UNSET", "eventBasedHold": "SET"}},
    {"deleteObject": {}},
    {"deleteObject": {"permanentObjectDeletionEnabled": True}},
    {
        "putMetadata": {
            "contentDisposition": "",
            "contentEncoding": "",
            "contentLanguage": "",
            "contentType": "",
            "cacheControl": "",
            "customTime": "",
        }
    },
    {
        "putMetadata": {
            "contentType": "text/plain; charset=\u00fc",
            "customTime": "2026-09-01T02:00:00.1234567+02:00",
            "customMetadata": {"keep": "x", "drop": "", "\u8239": "\U0001f6a2"},
        }
    },
    {"putMetadata": {"objectRetention": {}}},
    {"putMetadata": {"objectRetention": {"retentionMode": "RETENTION_MODE_UNSPECIFIED"}}},
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
    {
        "rewriteObject": {
            "kmsKey": "projects/p/locations/l/keyRings/r/cryptoKeys/k",
            "storageClass": "STANDARD",
        }
    },
    {"updateObjectCustomContext": {"clearAll": True}},
    {
        "updateObjectCustomContext": {
            "customContextUpdates": {
                "updates": {"team": {"value": "blue"}, "kept": {}},
                "keysToClear": ["old", "9"],
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
]
_LOGGING: list[Fields] = [
    {},
    {"loggingConfig": {}},
    {"loggingConfig": {"logActions": ["TRANSFORM"]}},
    {"loggingConfig": {"logActions": ["TRANSFORM"], "logActionStates": ["FAILED", "SUCCEEDED"]}},
]
_MORE: list[Fields] = [{}, {"dryRun": True}]


def jobs(project: str, transformation: Fields) -> Iterator[dict[str, Any]]:
    """The bodies of all jobs that do the same: each source, logging and dry run; some say what they
    are for."""
    every = product(sources(project), _LOGGING, _MORE)
    for number, (source, logging, more) in enumerate(every):
        text = TEXTS[number % len(TEXTS)]
        yield {
            **source,
            **transformation,
            **logging,
            **more,
            **({"description": text} if text else {}),
        }


def configured(job: Fields) -> dict[str, Any]:
    """What of a job its creator has said."""
    return {name: value for name, value in job.items() if name not in OUTPUT}
