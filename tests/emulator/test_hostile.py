"""Bodies and parameters of wrong types never make the emulator fail: it refuses, or does it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import httpx
import pytest

from longshore.testing import Emulator

WRONG = [None, True, -1, 2.5, "x", "", ["x"], [None], {}, {"x": {}}]
OBJECT = (
    *("contentType", "metadata", "contexts", "acl", "retention", "customTime", "temporaryHold"),
    *("eventBasedHold", "storageClass", "kmsKeyName", "md5Hash", "crc32c", "name"),
)
BUCKET = (
    *("versioning", "retentionPolicy", "iamConfiguration", "defaultEventBasedHold", "labels"),
    *("autoclass", "softDeletePolicy", "hierarchicalNamespace", "storageClass", "cors", "acl"),
    *("location", "name"),
)
NESTED = [
    ("retentionPolicy", "retentionPeriod"),
    ("iamConfiguration", "uniformBucketLevelAccess"),
    ("iamConfiguration", "bucketPolicyOnly"),
    ("iamConfiguration", "publicAccessPrevention"),
    ("softDeletePolicy", "retentionDurationSeconds"),
    ("versioning", "enabled"),
    ("contexts", "custom"),
    ("retention", "mode"),
    ("retention", "retainUntilTime"),
]


AT = "/storage/v1/b/hostile"


@pytest.fixture
def http(longshore_emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=longshore_emulator.url, timeout=20) as made:
        made.post("/storage/v1/b", json={"name": "hostile"}).raise_for_status()
        made.post(f"/upload{AT}/o?name=a", content=b"1").raise_for_status()
        yield made
        made.post("/_emulator/reset").raise_for_status()


def answered(answer: httpx.Response, body: object) -> None:
    assert answer.status_code in (200, 400, 403, 409, 412, 501), (body, answer.text)


def bodies(fields: tuple[str, ...]) -> list[dict[str, object]]:
    flat = [{field: value} for field, value in itertools.product(fields, WRONG)]
    deep = [{outer: {inner: v}} for (outer, inner), v in itertools.product(NESTED, WRONG)]
    return flat + [one for one in deep if next(iter(one)) in fields]


def test_buckets(http: httpx.Client) -> None:
    for body in bodies(BUCKET):
        answered(http.patch(AT, json=body), body)
        made = http.post("/storage/v1/b", json={"name": "made", **body})
        answered(made, body)
        if made.status_code == 200:
            http.delete(f"/storage/v1/b/{made.json()['name']}").raise_for_status()
        assert http.get(AT).status_code == 200, body


def test_objects(http: httpx.Client) -> None:
    at = f"{AT}/o/a"
    for body in bodies(OBJECT):
        answered(http.patch(at, json=body), body)
        answered(http.put(at, json=body), body)
        answered(http.post(f"{at}/rewriteTo/b/hostile/o/b", json=body), body)
        assert http.get(at, params={"projection": "full"}).status_code == 200, body
        free = {"temporaryHold": False, "eventBasedHold": False}
        for name in ("a", "b"):
            http.patch(f"{AT}/o/{name}", json=free)


@pytest.mark.parametrize("value", WRONG)
def test_composed(http: httpx.Client, value: object) -> None:
    at = f"{AT}/o/b/compose"
    for body in (
        {"sourceObjects": value},
        {"sourceObjects": [value]},
        {"sourceObjects": [{"name": value}]},
        {"sourceObjects": [{"name": "a", "generation": value}]},
        {"sourceObjects": [{"name": "a", "objectPreconditions": value}]},
        {"sourceObjects": [{"name": "a", "objectPreconditions": {"ifGenerationMatch": value}}]},
        {"sourceObjects": [{"name": "a"}], "destination": value},
    ):
        answer = http.post(at, json=body)
        assert answer.status_code in (200, 400, 404, 412, 501), (body, answer.text)


@pytest.mark.parametrize("value", WRONG)
def test_control(http: httpx.Client, value: object) -> None:
    for at, names in {
        "faults": ("method", "path", "status", "cut", "delaySeconds", "count"),
        "clock": ("forwardSeconds",),
        "seed": ("buckets",),
    }.items():
        for name in names:
            answer = http.post(f"/_emulator/{at}", json={name: value})
            assert answer.status_code in (200, 204, 400), (name, value, answer.text)
            http.delete("/_emulator/faults")
