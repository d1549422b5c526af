"""All that Google's discovery document of the JSON API has is done, or a 501: a success never means
that something was not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import googleapiclient
import httpx
import orjson
import pytest

from longshore.testing import Emulator

DOCUMENT = "discovery_cache/documents/storage.v1.json"
AT = "/storage/v1/b/hold"
PLACES = {
    **dict.fromkeys(("bucket", "sourceBucket", "destinationBucket"), "hold"),
    **dict.fromkeys(("object", "sourceObject"), "a"),
}
DONE = {
    "bucketAccessControls": ("delete", "get", "insert", "list", "patch", "update"),
    "buckets": (
        *("delete", "get", "getStorageLayout", "insert", "list", "lockRetentionPolicy"),
        *("patch", "update"),
    ),
    "defaultObjectAccessControls": ("delete", "get", "insert", "list", "patch", "update"),
    "managedFolders": ("list",),
    "objectAccessControls": ("delete", "get", "insert", "list", "patch", "update"),
    "objects": (
        *("compose", "copy", "delete", "get", "insert", "list", "move", "patch", "restore"),
        *("rewrite", "update"),
    ),
}
"""What docs/emulator.md says is there."""
READ_ONLY = {
    "Bucket": {
        *("autoclass.toggleTime", "etag", "generation", "id", "kind", "location", "locationType"),
        *("metageneration", "name", "objectRetention.mode", "owner.entity", "owner.entityId"),
        *("projectNumber", "retentionPolicy.effectiveTime", "retentionPolicy.isLocked"),
        *("satisfiesPZI", "satisfiesPZS", "selfLink", "softDeletePolicy.effectiveTime"),
        *("timeCreated", "updated", "iamConfiguration.bucketPolicyOnly.lockedTime"),
        "iamConfiguration.uniformBucketLevelAccess.lockedTime",
    },
    "Object": {
        *("bucket", "componentCount", "crc32c", "etag", "generation", "hardDeleteTime", "id"),
        *("kind", "md5Hash", "mediaLink", "metageneration", "name", "owner.entity"),
        *("owner.entityId", "retentionExpirationTime", "selfLink", "size", "softDeleteTime"),
        *("timeCreated", "timeDeleted", "timeFinalized", "timeStorageClassUpdated", "updated"),
        *("kmsKeyName", "storageClass"),  # a rewrite changes them
    },
}
"""What a patch has no effect on, in Cloud Storage either."""


@pytest.fixture(scope="module")
def google() -> Any:
    return orjson.loads((Path(googleapiclient.__file__).parent / DOCUMENT).read_bytes())


@pytest.fixture
def http(longshore_emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=longshore_emulator.url, timeout=20) as made:
        made.post("/storage/v1/b?enableObjectRetention=true", json={"name": "hold"})
        made.post(f"/upload{AT}/o?name=a", content=b"1").raise_for_status()
        yield made
        made.post("/_emulator/reset").raise_for_status()


def methods(resources: Any) -> Iterator[Any]:
    for resource in resources.values():
        yield from resource.get("methods", {}).values()
        yield from methods(resource.get("resources", {}))


def test_methods(google: Any, http: httpx.Client) -> None:
    done = {f"storage.{kind}.{verb}" for kind, verbs in DONE.items() for verb in verbs}
    there = {method["id"]: method for method in methods(google["resources"])}
    assert done < there.keys()
    for name, method in there.items():
        path = f"/storage/v1/{method['path']}"
        if "mediaUpload" in method:
            path = method["mediaUpload"]["protocols"]["simple"]["path"]
        for parameter in method.get("parameters", {}):
            path = path.replace(f"{{{parameter}}}", PLACES.get(parameter, "x"))
        body = {} if "request" in method else None
        answer = http.request(method["httpMethod"], path, json=body)
        assert (answer.status_code == 501) == (name not in done), (name, answer.text)
        if answer.status_code == 501:
            assert answer.headers["content-type"].startswith("text/plain"), name


def leaves(google: Any, schema: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a resource, and its schema; 0: the first of a list."""
    if name := schema.get("$ref"):
        if name not in seen:
            yield from leaves(google, google["schemas"][name], (*seen, name))
        return
    inner = dict(schema.get("properties", {}))
    if "additionalProperties" in schema:
        inner["key"] = schema["additionalProperties"]
    if "items" in schema:
        inner[0] = schema["items"]
    for key, part in inner.items():
        for path, leaf in leaves(google, part, seen):
            yield (key, *path), leaf
    if not inner:
        yield (), schema


def value_of(schema: Any) -> Any:
    if "enum" in schema:
        return schema["enum"][-1]
    by_kind = {"boolean": True, "integer": 7, "number": 7, "any": "x"}
    by_format = {
        "int64": "864000",
        "uint64": "864000",
        "date-time": "2090-01-01T00:00:00Z",
        "date": "2090-01-01",
    }
    return by_kind.get(schema["type"]) or by_format.get(schema.get("format"), "x")


def nested(path: tuple[Any, ...], value: Any) -> Any:
    for key in reversed(path):
        value = [value] if key == 0 else {key: value}
    return value


def at(resource: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        if not resource or (key != 0 and key not in resource):
            return None
        resource = resource[key]
    return resource


@pytest.mark.parametrize(("kind", "path"), [("Bucket", AT), ("Object", f"{AT}/o/a")])
def test_fields(google: Any, http: httpx.Client, kind: str, path: str) -> None:
    for field, schema in leaves(google, {"$ref": kind}):
        if ".".join(map(str, field)) in READ_ONLY[kind]:
            continue
        value = value_of(schema)
        answer = http.patch(path, json=nested(field, value), params={"projection": "full"})
        if answer.status_code == 200:
            assert at(answer.json(), field) == value, field
        else:
            assert answer.status_code in (400, 501), (field, answer.text)
