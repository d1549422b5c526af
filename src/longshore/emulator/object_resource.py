"""Rows of the store ⇄ the resource ``storage#object``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from longshore.emulator import times
from longshore.emulator.bucket_resource import grants
from longshore.emulator.digests import Digests
from longshore.emulator.refusals import Lacking, Refused, checked, invalid, storage_class
from longshore.emulator.requests import etag
from longshore.patch import MapPatch, Patch, Retention, dump_map, load_map, parse_time
from longshore.store import Batch, Bucket

COLUMNS = (
    "temporary_hold",
    "event_based_hold",
    "content_type",
    "content_encoding",
    "content_language",
    "content_disposition",
    "cache_control",
    "custom_time_us",
    "retention",
    "custom_metadata",
    "contexts",
    "acl",
    "storage_class",
    "kms_key",
    "live",
    "create_time_us",
    "update_time_us",
    "digests",
    "delete_time_us",
    "retained_from_us",
)
"""The columns that a resource is made of."""
SOFT_DELETED_COLUMNS = (*COLUMNS, "soft_delete_time_us", "hard_delete_time_us")
"""Those of the resource of a soft-deleted object."""

_TEXTS = {
    "contentType": "content_type",
    "contentEncoding": "content_encoding",
    "contentLanguage": "content_language",
    "contentDisposition": "content_disposition",
    "cacheControl": "cache_control",
}
_HOLDS = {"temporaryHold": "temporary_hold", "eventBasedHold": "event_based_hold"}
_OUTPUT_ONLY = frozenset(
    [
        "kind",
        "id",
        "selfLink",
        "mediaLink",
        "name",
        "bucket",
        "generation",
        "metageneration",
        "size",
        "etag",
        "owner",
        "timeCreated",
        "updated",
        "timeDeleted",
        "timeFinalized",
        "timeStorageClassUpdated",
        "retentionExpirationTime",
        "componentCount",
        "softDeleteTime",
        "hardDeleteTime",
        "md5Hash",
        "crc32c",
    ]
)
"""What a writer may send and nobody looks at, as Cloud Storage does."""
_PATCHABLE = frozenset({*_TEXTS, *_HOLDS, "customTime", "metadata", "retention", "contexts", "acl"})
_FIXED = frozenset({"storageClass", "kmsKeyName"})
"""What a rewrite changes; a patch that sends the whole resource back has it too."""


def resources(bucket: Bucket, batch: Batch, base: str, *, full: bool) -> Iterator[dict[str, Any]]:
    """The resource of each object; ``full``: with its ACL."""
    rows = zip(batch.names, batch.generations, batch.metagenerations, batch.sizes, strict=True)
    columns = zip(*batch.columns.values(), strict=True)
    at = f"{base}/storage/v1/b/{bucket.name}/o/"
    down = f"{base}/download/storage/v1/b/{bucket.name}/o/"
    for (name, generation, metageneration, size), values in zip(rows, columns, strict=True):
        row = dict(zip(batch.columns, values, strict=True))
        quoted = quote(name, safe="")
        created = times.text(row["create_time_us"])
        resource = {
            "kind": "storage#object",
            "id": f"{bucket.name}/{name}/{generation}",
            "selfLink": at + quoted,
            "mediaLink": f"{down}{quoted}?generation={generation}&alt=media",
            "name": name,
            "bucket": bucket.name,
            "generation": str(generation),
            "metageneration": str(metageneration),
            "contentType": row["content_type"],
            "storageClass": row["storage_class"],
            "size": str(size),
            "etag": etag(generation, metageneration),
            "timeCreated": created,
            "updated": times.text(row["update_time_us"]),
            "timeStorageClassUpdated": created,
            "timeFinalized": created,
        }
        _add_digests(resource, row["digests"])
        _add_rest(resource, row, bucket)
        if full and not bucket.uniform_access:
            resource["acl"] = [_grant(resource, *pair) for pair in load_map(row["acl"]).items()]
        yield resource


def resource(bucket: Bucket, batch: Batch, base: str, *, full: bool) -> dict[str, Any]:
    """The resource of the first object."""
    return next(resources(bucket, batch, base, full=full))


def _add_digests(resource: dict[str, Any], text: str) -> None:
    digests = Digests.load(text)
    if digests.crc32c:
        resource["crc32c"] = digests.crc32c
    if digests.md5:
        resource["md5Hash"] = digests.md5
    if digests.components:
        resource["componentCount"] = digests.components


def _add_rest(resource: dict[str, Any], row: Mapping[str, Any], bucket: Bucket) -> None:
    """What only some objects have."""
    for field, column in _TEXTS.items():
        if row[column]:
            resource[field] = row[column]
        elif field == "contentType":
            del resource[field]
    for field, column in _HOLDS.items():
        if row[column]:
            resource[field] = True
    if row["kms_key"]:
        resource["kmsKeyName"] = row["kms_key"]
    if row["custom_time_us"]:
        resource["customTime"] = times.exact_text(row["custom_time_us"])
    if row["custom_metadata"]:
        resource["metadata"] = load_map(row["custom_metadata"])
    if row["contexts"]:
        custom = {key: {"value": value} for key, value in load_map(row["contexts"]).items()}
        resource["contexts"] = {"custom": custom}
    if retention := Retention.load(row["retention"]):
        until = times.exact_text(retention.until_us)
        resource["retention"] = {"mode": retention.mode, "retainUntilTime": until}
    if bucket.retention_period_seconds and not row["event_based_hold"]:
        until_us = row["retained_from_us"] + bucket.retention_period_seconds * 1_000_000
        resource["retentionExpirationTime"] = times.text(until_us)
    if row["delete_time_us"]:
        resource["timeDeleted"] = times.text(row["delete_time_us"])
    if "soft_delete_time_us" in row:
        resource["softDeleteTime"] = times.text(row["soft_delete_time_us"])
        resource["hardDeleteTime"] = times.text(row["hard_delete_time_us"])


def _grant(resource: Mapping[str, Any], entity: str, role: str) -> dict[str, Any]:
    name, bucket, generation = (resource[key] for key in ("name", "bucket", "generation"))
    return {
        "kind": "storage#objectAccessControl",
        "id": f"{bucket}/{name}/{generation}/{entity}",
        "selfLink": f"{resource['selfLink']}/acl/{quote(entity, safe='')}",
        "bucket": bucket,
        "object": name,
        "generation": generation,
        "entity": entity,
        "role": role,
        "etag": resource["etag"],
    }


def new_columns(body: Mapping[str, Any], *, may_retain: bool) -> dict[str, Any]:
    """The columns that a new object gets by its resource; raises Refused, InvalidArgument."""
    said = {field: value for field, value in body.items() if value is not None}
    changes = patch(said, may_retain=may_retain).changes()
    columns: dict[str, Any] = {}
    for name, value in changes.items():
        columns[name] = dump_map(value.updates) if isinstance(value, MapPatch) else value
    if chosen := storage_class(body.get("storageClass")):
        columns["storage_class"] = chosen
    if key := _or_none(body.get("kmsKeyName"), str, "kmsKeyName"):
        columns["kms_key"] = key
    return columns


def describes(body: Mapping[str, Any]) -> bool:
    """Whether a resource says anything of the object that is to be made but its contexts: then it
    is all that is said of it, and nothing of a source is."""
    return not body.keys().isdisjoint((_PATCHABLE | _FIXED) - {"contexts"})


def check_acl(bucket: Bucket, body: Mapping[str, Any]) -> None:
    """Raises Refused where access is uniform and a new object comes with an ACL, even an empty
    one."""
    if bucket.uniform_access and body.get("acl") is not None:
        raise invalid(
            "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled."
        )


def expected(body: Mapping[str, Any]) -> Digests:
    """The digests that a writer says that the content has."""
    crc32c, md5 = (checked(body.get(name) or "", str, name) for name in ("crc32c", "md5Hash"))
    return Digests(crc32c, md5)


def patch(body: Mapping[str, Any], *, may_retain: bool, override: bool = False) -> Patch:
    """The change that a resource with some fields asks for: null clears, maps are merged.

    ``may_retain``: the bucket lets its objects have retentions of their own. Raises Refused,
    Lacking for what the emulator has not, InvalidArgument for times that are none.
    """
    if unknown := body.keys() - _PATCHABLE - _OUTPUT_ONLY - _FIXED:
        raise Lacking(f"the field {min(unknown)!r} of an object.")
    changes: dict[str, Any] = {}
    for field in _TEXTS.keys() & body.keys():
        changes[_TEXTS[field]] = _or_none(body[field], str, field) or None
    for field in _HOLDS.keys() & body.keys():
        changes[_HOLDS[field]] = bool(_or_none(body[field], bool, field))
    if "customTime" in body:
        text = _or_none(body["customTime"], str, "customTime")
        if text:  # once there, nothing clears it: null is taken and changes nothing
            changes["custom_time_us"] = parse_time(text)
    if "metadata" in body:
        changes["custom_metadata"] = _map_patch(body["metadata"], "metadata")
    if "contexts" in body:
        changes["contexts"] = _contexts_patch(body["contexts"])
    if "acl" in body:
        changes["acl"] = _acl_patch(body["acl"])
    if "retention" in body:
        changes["retention"] = _retention(body["retention"], may_retain=may_retain)
    return Patch(**changes, override_unlocked_retention=override)


def replacement(body: Mapping[str, Any], *, may_retain: bool, override: bool = False) -> Patch:
    """The change that the whole resource asks for: what is not in it is cleared.

    A custom time stays: Cloud Storage never lets go of one.
    """
    cleared = dict.fromkeys((*_TEXTS, *_HOLDS, "metadata", "contexts", "retention"))
    if not may_retain:
        del cleared["retention"]
    whole = {**cleared, **body}
    changed = patch(whole, may_retain=may_retain, override=override)
    maps = {"metadata": "custom_metadata", "contexts": "contexts"}
    values = {column: getattr(changed, column) for column in Patch.__slots__}
    for column in maps.values():
        values[column] = MapPatch(updates=values[column].updates, clear=True)
    return Patch(**values)


def _or_none(value: Any, kind: type, field: str) -> Any:
    return None if value is None else checked(value, kind, field)


def _map_patch(value: Any, field: str) -> MapPatch:
    """Keys with null are removed, the others set; null removes all."""
    if value is None:
        return MapPatch(updates={}, clear=True)
    pairs = checked(value, dict, field)
    return MapPatch(
        updates={k: checked(v, str, f"{field}.{k}") for k, v in pairs.items() if v is not None},
        removals=frozenset(k for k, v in pairs.items() if v is None),
    )


def _contexts_patch(value: Any) -> MapPatch:
    custom = None if value is None else checked(value, dict, "contexts").get("custom", {})
    if custom is None:
        return MapPatch(updates={}, clear=True)
    payloads = checked(custom, dict, "contexts.custom")
    values = {
        key: None if payload is None else checked(payload, dict, f"contexts.custom.{key}")["value"]
        for key, payload in payloads.items()
        if payload is None or "value" in checked(payload, dict, f"contexts.custom.{key}")
    }
    if len(values) < len(payloads):
        raise invalid("A context in contexts.custom has no value.")
    return _map_patch(values, "contexts.custom")


def _acl_patch(value: Any) -> MapPatch:
    return MapPatch(updates=grants(value), clear=True)


def _retention(value: Any, *, may_retain: bool) -> Retention | None:
    """Both values or none of them; an empty object clears, as null does."""
    if not value:
        return None
    retention = checked(value, dict, "retention")
    if not may_retain:
        raise Refused(
            400, "invalid", "Object retention is not enabled for the bucket: create it with it."
        )
    mode, until = (retention.get(name) or "" for name in ("mode", "retainUntilTime"))
    if not mode and not until:
        return None
    if not mode or not until:
        raise invalid("A retention needs both its mode and its retainUntilTime.")
    return Retention(
        mode=checked(mode, str, "retention.mode"),
        until_us=parse_time(checked(until, str, "retention.retainUntilTime")),
    )
