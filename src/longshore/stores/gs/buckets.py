"""Buckets: their rules, and what is remembered of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from longshore import object_rules as rules
from longshore.errors import FailedPrecondition, PermissionDenied, Unimplemented
from longshore.patch import dump_map, load_map, parse_time
from longshore.store import Bucket
from longshore.stores.gs import resources, targets
from longshore.stores.gs.client import Call, Client

_FIELDS = (
    "name,timeCreated,location,labels,defaultEventBasedHold,versioning,retentionPolicy,"
    "iamConfiguration,autoclass,softDeletePolicy"
)
_REMEMBERED_SECONDS = 60.0
_PLAIN = {"default_event_based_hold": "defaultEventBasedHold", "location": "location"}
_MADE_OF = (
    *("versioning", "retention_period_seconds", "uniform_access", "default_event_based_hold"),
    *("location", "labels", "autoclass", "soft_delete_seconds"),
)


async def listed(client: Client) -> AsyncIterator[Bucket]:
    """Every bucket of the project in the settings, by name."""
    parameters: dict[str, str | int | bool] = {
        "project": _project(client),
        "fields": f"nextPageToken,items({_FIELDS})",
    }
    while True:
        call = Call("buckets.list", "GET", f"{targets.API}/b", targets.query(parameters))
        found = await client.read(call, lambda reply: resources.read(reply.body))
        for one in found.get("items") or ():
            yield _bucket(one)
        if not found.get("nextPageToken"):
            return
        parameters["pageToken"] = found["nextPageToken"]


async def get(client: Client, bucket: str) -> Bucket:
    """The bucket's rules."""
    call = _call("buckets.get", "GET", bucket)
    return _bucket(await client.read(call, lambda reply: resources.read(reply.body)))


async def create(client: Client, bucket: Bucket) -> Bucket:
    """Make a bucket whose objects can be retained; raises AlreadyExists."""
    rules.check_bucket(bucket)
    for fact in rules.BUCKET_FACTS:
        if fact not in _MADE_OF and getattr(bucket, fact):
            raise Unimplemented(f"This store makes no bucket with {fact}.")
    wanted = {name: getattr(bucket, name) for name in _MADE_OF}
    body = {"name": bucket.name, **_body({name: want for name, want in wanted.items() if want})}
    parameters: dict[str, str | int | bool] = {
        "project": _project(client),
        "enableObjectRetention": True,
        "fields": _FIELDS,
    }
    call = Call(
        "buckets.insert",
        "POST",
        f"{targets.API}/b",
        targets.query(parameters),
        orjson.dumps(body),
        bucket=bucket.name,
    )
    return _bucket(resources.read((await client.change(call)).body))


async def update(client: Client, bucket: str, changes: Mapping[str, Any]) -> Bucket:
    """Change rules."""
    rules.check_bucket_changes(changes)
    call = _call("buckets.patch", "PATCH", bucket)._replace(body=orjson.dumps(_body(changes)))
    client.service.uniform.pop(bucket, None)
    return _bucket(resources.read((await client.change(call)).body))


async def delete(client: Client, bucket: str) -> None:
    """Remove an empty bucket; raises FailedPrecondition if it is not."""
    call = Call("buckets.delete", "DELETE", targets.bucket_path(bucket), bucket=bucket)
    await client.change(call)


async def has_uniform_access(client: Client, bucket: str) -> bool:
    """Whether objects have no ACLs of their own. Who may not see that is taken to have a bucket
    where they have."""
    remembered = client.service.uniform
    now = client.service.clock.monotonic()
    known = remembered.get(bucket)
    if known is not None and known[1] > now:
        return known[0]
    try:
        uniform = (await get(client, bucket)).uniform_access
    except PermissionDenied:
        uniform = False
    remembered[bucket] = uniform, now + _REMEMBERED_SECONDS
    return uniform


def _call(verb: str, method: str, bucket: str) -> Call:
    parameters = targets.query({"fields": _FIELDS})
    return Call(verb, method, targets.bucket_path(bucket), parameters, bucket=bucket)


def _project(client: Client) -> str:
    settings = client.service.settings
    if settings.project is None:
        raise FailedPrecondition(
            f"Whose buckets? Set project in [stores.{settings.name}], or the variable"
            " GOOGLE_CLOUD_PROJECT."
        )
    return settings.project


def _body(changes: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, wanted in changes.items():
        if name == "versioning":
            body["versioning"] = {"enabled": wanted}
        elif name == "retention_period_seconds":
            body["retentionPolicy"] = {"retentionPeriod": str(wanted)} if wanted else None
        elif name == "uniform_access":
            body["iamConfiguration"] = {"uniformBucketLevelAccess": {"enabled": wanted}}
        elif name == "labels":
            body["labels"] = load_map(wanted)
        elif name == "autoclass":
            body["autoclass"] = {"enabled": wanted}
        elif name == "soft_delete_seconds":
            body["softDeletePolicy"] = {"retentionDurationSeconds": str(wanted)}
        else:
            body[_PLAIN[name]] = wanted
    return body


def _bucket(found: Mapping[str, Any]) -> Bucket:
    access = (found.get("iamConfiguration") or {}).get("uniformBucketLevelAccess") or {}
    return Bucket(
        name=found["name"],
        create_time_us=parse_time(found["timeCreated"]),
        versioning=bool((found.get("versioning") or {}).get("enabled")),
        retention_period_seconds=int(
            (found.get("retentionPolicy") or {}).get("retentionPeriod") or 0
        ),
        uniform_access=bool(access.get("enabled")),
        default_event_based_hold=bool(found.get("defaultEventBasedHold")),
        location=found.get("location") or "",
        labels=dump_map(found.get("labels") or {}),
        autoclass=bool((found.get("autoclass") or {}).get("enabled")),
        soft_delete_seconds=int(
            (found.get("softDeletePolicy") or {}).get("retentionDurationSeconds") or 0
        ),
    )
