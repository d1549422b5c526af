"""Buckets of the store ⇄ the resource ``storage#bucket``.

What of a resource has an effect is in fields of store.Bucket, the rest in its ``attributes``. A
patch is merged into the resource as it is, and the bucket made of the result.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from longshore.emulator import times
from longshore.emulator.refusals import Lacking, Refused, checked, invalid, storage_class
from longshore.emulator.requests import bucket_etag
from longshore.patch import dump_map, load_map
from longshore.store import Bucket

KEPT = frozenset(
    [
        "acl",
        "billing",
        "cors",
        "customPlacementConfig",
        "defaultObjectAcl",
        "encryption",
        "lifecycle",
        "logging",
        "rpo",
        "storageClass",
        "website",
    ]
)
"""What is kept as it is sent: only the storage class has an effect, on new objects."""
_OUTPUT_ONLY = frozenset(
    [
        "kind",
        "id",
        "selfLink",
        "name",
        "projectNumber",
        "metageneration",
        "generation",
        "etag",
        "timeCreated",
        "updated",
        "owner",
        "locationType",
        "location",
        "objectRetention",
        "satisfiesPZS",
        "satisfiesPZI",
    ]
)
_WITH_EFFECT = frozenset(["defaultEventBasedHold", "labels"])
_PARTS = {
    "autoclass": frozenset(["enabled", "toggleTime"]),
    "hierarchicalNamespace": frozenset(["enabled"]),
    "iamConfiguration": frozenset(
        ["bucketPolicyOnly", "publicAccessPrevention", "uniformBucketLevelAccess"]
    ),
    "retentionPolicy": frozenset(["effectiveTime", "isLocked", "retentionPeriod"]),
    "softDeletePolicy": frozenset(["effectiveTime", "retentionDurationSeconds"]),
    "versioning": frozenset(["enabled"]),
}
"""Other fields with an effect, and what each of them may have in it."""
_MULTI_REGIONS = frozenset({"US", "EU", "ASIA"})
_DUAL_REGIONS = frozenset({"NAM4", "EUR4", "EUR5", "EUR7", "EUR8", "ASIA1"})
SOFT_DELETE_DEFAULT = {"retentionDurationSeconds": "604800"}
"""The policy of a new bucket that comes without one."""
_SOFT_DELETE_DAYS = (7, 90)
_UNIFORM_FOR_GOOD_US = 90 * 86_400 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What ``Bucket.attributes`` keeps of a bucket, as JSON."""

    project: str = ""
    metageneration: int = 1
    updated_us: int = 0
    uniform_since_us: int = 0
    public_access_prevention: str = "inherited"
    retention_since_us: int = 0
    retention_locked: bool = False
    object_retention: bool = False
    soft_delete_since_us: int = 0
    kept: Mapping[str, Any] = field(default_factory=lambda: {"storageClass": "STANDARD"})

    @staticmethod
    def of(bucket: Bucket) -> Attributes:
        """Those of a bucket; one that was not made by the emulator has the defaults."""
        return _attributes(bucket.attributes)

    def dump(self) -> str:
        """The text for ``Bucket.attributes``."""
        return orjson.dumps(self).decode()


@lru_cache(maxsize=256)  # since nearly every call is about some bucket that is as it was
def _attributes(text: str) -> Attributes:
    return Attributes(**orjson.loads(text)) if text else Attributes()


def of_new_objects(bucket: Bucket) -> dict[str, Any]:
    """The columns that a new object has of its bucket where nobody says otherwise: its class, and
    the default ACL unless access is uniform."""
    kept = Attributes.of(bucket).kept
    acl = {} if bucket.uniform_access else grants(kept.get("defaultObjectAcl"))
    return {"storage_class": str(kept.get("storageClass", "")), "acl": dump_map(acl)}


def grants(acl: Any) -> dict[str, str]:
    """The role of each entity in an ACL of a resource; raises Refused."""
    entries = [checked(entry, dict, "acl") for entry in checked(acl or [], list, "acl")]
    return {
        checked(entry.get("entity"), str, "acl.entity"): checked(entry.get("role"), str, "acl.role")
        for entry in entries
    }


def resource(bucket: Bucket, base: str, *, full: bool) -> dict[str, Any]:
    """The resource of ``bucket``; ``full``: with its ACLs."""
    known = Attributes.of(bucket)
    location = bucket.location or "US"
    uniform: dict[str, Any] = {"enabled": bucket.uniform_access}
    if bucket.uniform_access:
        uniform["lockedTime"] = times.text(known.uniform_since_us + _UNIFORM_FOR_GOOD_US)
    updated_us = max(known.updated_us, bucket.create_time_us)
    made: dict[str, Any] = {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{base}/storage/v1/b/{bucket.name}",
        "name": bucket.name,
        "projectNumber": str(zlib.crc32(known.project.encode())),
        "metageneration": str(known.metageneration),
        "location": location,
        "locationType": location_type(location),
        "etag": bucket_etag(known.metageneration),
        "timeCreated": times.text(bucket.create_time_us),
        "updated": times.text(updated_us),
        "iamConfiguration": {
            "bucketPolicyOnly": uniform,
            "uniformBucketLevelAccess": uniform,
            "publicAccessPrevention": known.public_access_prevention,
        },
        "softDeletePolicy": _soft_delete_policy(bucket, known),
        **known.kept,
    }
    if bucket.versioning:
        made["versioning"] = {"enabled": True}
    if bucket.retention_period_seconds:
        policy: dict[str, Any] = {
            "retentionPeriod": str(bucket.retention_period_seconds),
            "effectiveTime": times.text(known.retention_since_us or bucket.create_time_us),
        }
        made["retentionPolicy"] = policy | ({"isLocked": True} if known.retention_locked else {})
    if bucket.default_event_based_hold:
        made["defaultEventBasedHold"] = True
    if bucket.labels:
        made["labels"] = load_map(bucket.labels)
    if bucket.autoclass:
        made["autoclass"] = {"enabled": True}
    if known.object_retention:
        made["objectRetention"] = {"mode": "Enabled"}
    if not full:
        for acl in ("acl", "defaultObjectAcl"):
            made.pop(acl, None)
    return made


def _soft_delete_policy(bucket: Bucket, known: Attributes) -> dict[str, str]:
    policy = {"retentionDurationSeconds": str(bucket.soft_delete_seconds)}
    if bucket.soft_delete_seconds:
        since_us = known.soft_delete_since_us or bucket.create_time_us
        policy["effectiveTime"] = times.text(since_us)
    return policy


def location_type(location: str) -> str:
    """What kind of place a location is."""
    if location in _MULTI_REGIONS:
        return "multi-region"
    return "dual-region" if location in _DUAL_REGIONS else "region"


def new(body: Mapping[str, Any], project: str, *, object_retention: bool, now_us: int) -> Bucket:
    """The bucket that a resource describes; raises Refused, Lacking."""
    bucket = Bucket(
        name=checked(body.get("name"), str, "name"),
        create_time_us=now_us,
        location=checked(body.get("location") or "US", str, "location").upper(),
        attributes=Attributes(
            project=project, metageneration=0, object_retention=object_retention
        ).dump(),
    )
    return changed(bucket, {"softDeletePolicy": SOFT_DELETE_DEFAULT, **body}, now_us)


def changed(bucket: Bucket, body: Mapping[str, Any], now_us: int, *, whole: bool = False) -> Bucket:
    """The bucket after the change that a resource with some fields asks for: null clears, objects
    are merged. ``whole``: what is not in it is cleared. Raises Refused, Lacking."""
    if unknown := body.keys() - KEPT - _OUTPUT_ONLY - _WITH_EFFECT - _PARTS.keys():
        raise Lacking(f"the field {min(unknown)!r} of a bucket.")
    for name, parts in _PARTS.items():
        if unknown := set(_said(body.get(name))) - parts:
            raise Lacking(f"the field '{name}.{min(unknown)}' of a bucket.")
    before = {} if whole else resource(bucket, "", full=True)
    after = merged(before, _with_one_name(body))
    if body.get("labels") == {}:  # not merged: it removes them all
        del after["labels"]
    known = Attributes.of(bucket)
    uniform, prevention = _access(after)
    period = _retention_period(after)
    _refuse_what_is_locked(known, bucket, period, now_us, uniform=uniform)
    soft_delete = _soft_delete_seconds(after)
    if _enabled(after, "hierarchicalNamespace"):
        raise Lacking("hierarchical namespaces.")
    for acl in ("acl", "defaultObjectAcl"):
        grants(after.get(acl))
    kept = {name: after[name] for name in KEPT & after.keys() if after[name] is not None}
    attributes = Attributes(
        project=known.project,
        metageneration=known.metageneration + 1,
        updated_us=now_us,
        uniform_since_us=_since(known.uniform_since_us, uniform, bucket.uniform_access, now_us),
        public_access_prevention=prevention,
        retention_since_us=known.retention_since_us
        if period == bucket.retention_period_seconds
        else now_us,
        retention_locked=known.retention_locked,
        object_retention=known.object_retention,
        soft_delete_since_us=_in_effect_since(known, bucket, soft_delete, now_us),
        kept={**kept, "storageClass": storage_class(after.get("storageClass")) or "STANDARD"},
    )
    labels = checked(after.get("labels") or {}, dict, "labels")
    return Bucket(
        name=bucket.name,
        create_time_us=bucket.create_time_us,
        location=bucket.location,
        versioning=_enabled(after, "versioning"),
        retention_period_seconds=period,
        uniform_access=uniform,
        default_event_based_hold=checked(
            after.get("defaultEventBasedHold") or False, bool, "defaultEventBasedHold"
        ),
        labels=dump_map({k: checked(v, str, f"labels.{k}") for k, v in labels.items()}),
        autoclass=_enabled(after, "autoclass"),
        soft_delete_seconds=soft_delete,
        attributes=attributes.dump(),
    )


def _said(value: Any) -> list[str]:
    """The names of what an object of JSON sets; of what is none, none."""
    if not isinstance(value, dict):
        return []
    return [name for name, part in value.items() if part is not None]


def merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object after a merge patch (RFC 7396), which is what a patch of Google's is."""
    after = dict(before)
    for name, value in change.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, dict):
            inner = after.get(name)
            after[name] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            after[name] = value
    return after


def _with_one_name(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``body`` with uniform access under its newer name, where a client knows only the older."""
    iam = body.get("iamConfiguration")
    if not isinstance(iam, dict) or "bucketPolicyOnly" not in iam:
        return body
    return {
        **body,
        "iamConfiguration": {"uniformBucketLevelAccess": iam["bucketPolicyOnly"], **iam},
    }


def _access(after: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether access is uniform, and the prevention of public access."""
    iam = checked(after.get("iamConfiguration") or {}, dict, "iamConfiguration")
    prevention = iam.get("publicAccessPrevention") or "inherited"
    if prevention not in ("inherited", "enforced", "unspecified"):
        raise invalid(f"Invalid value for publicAccessPrevention: {str(prevention)[:50]!r}.")
    return _enabled(iam, "uniformBucketLevelAccess"), str(prevention)


def _since(since_us: int, now_on: bool, was_on: bool, now_us: int) -> int:
    if not now_on:
        return 0
    return since_us if was_on else now_us


def _enabled(of: Mapping[str, Any], name: str) -> bool:
    value = checked(of.get(name) or {}, dict, name).get("enabled")
    return checked(value or False, bool, f"{name}.enabled") is True


def _retention_period(after: Mapping[str, Any]) -> int:
    return _seconds(after, "retentionPolicy", "retentionPeriod")


def _soft_delete_seconds(after: Mapping[str, Any]) -> int:
    seconds = _seconds(after, "softDeletePolicy", "retentionDurationSeconds")
    least, most = _SOFT_DELETE_DAYS
    if seconds and not least * 86_400 <= seconds <= most * 86_400:
        raise invalid(
            "Invalid argument: softDeletePolicy.retentionDurationSeconds is 0, or"
            f" {least} to {most} days, not {seconds} seconds."
        )
    return seconds


def _in_effect_since(known: Attributes, bucket: Bucket, seconds: int, now_us: int) -> int:
    """Since when a policy of so many seconds, or more of them, has been in effect."""
    if not seconds:
        return 0
    if seconds > bucket.soft_delete_seconds:
        return now_us
    return known.soft_delete_since_us or bucket.create_time_us


def _seconds(after: Mapping[str, Any], name: str, part: str) -> int:
    value = checked(after.get(name) or {}, dict, name).get(part) or 0
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdigit():
        raise invalid(f"Invalid value for field {name}.{part}: {str(value)[:50]!r}.")
    return int(value)


def _refuse_what_is_locked(
    known: Attributes, bucket: Bucket, period: int, now_us: int, *, uniform: bool
) -> None:
    if known.retention_locked and not period:
        raise Refused(
            403,
            "retentionPolicyNotMet",
            f"Bucket '{bucket.name}' has a locked Retention Policy which cannot be removed.",
        )
    if known.retention_locked and period < bucket.retention_period_seconds:
        raise Refused(
            403,
            "forbidden",
            f"Cannot reduce retention duration of a locked Retention Policy for bucket"
            f" '{bucket.name}'.",
        )
    if (
        bucket.uniform_access
        and not uniform
        and now_us > known.uniform_since_us + _UNIFORM_FOR_GOOD_US
    ):
        raise Refused(
            400,
            "invalid",
            "Cannot disable uniform bucket-level access: it has been enabled for 90 days.",
        )
