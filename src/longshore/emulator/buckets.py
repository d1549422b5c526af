"""The verbs of buckets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longshore.api.replies import Answer
from longshore.emulator import bucket_resource, listing
from longshore.emulator.bucket_resource import Attributes
from longshore.emulator.refusals import Lacking, Refused
from longshore.emulator.requests import Conditions, Request
from longshore.emulator.verbs import Backend, Route, etag_header, no_content, of_json
from longshore.store import ABSENT, Bucket

_PREDEFINED = frozenset({"predefinedAcl", "predefinedDefaultObjectAcl"})
_CONDITIONS = frozenset({"ifMetagenerationMatch", "ifMetagenerationNotMatch"})
_THERE = ABSENT + 1


def _check(bucket: Bucket, conditions: Conditions) -> None:
    conditions.check(_THERE, Attributes.of(bucket).metageneration)


def _reply(request: Request, bucket: Bucket) -> Answer:
    resource = bucket_resource.resource(bucket, request.base, full=request.full)
    return of_json(request, resource, [etag_header(resource)])


async def _body(request: Request) -> Mapping[str, Any]:
    body = request.with_acl(await request.json())
    return request.with_acl(body, "predefinedDefaultObjectAcl", "defaultObjectAcl")


async def insert(backend: Backend, request: Request) -> Answer:
    """``buckets.insert``."""
    bucket = bucket_resource.new(
        await _body(request),
        request.query.get("project", ""),
        object_retention=request.flag("enableObjectRetention"),
        now_us=backend.clock.now_us(),
    )
    return _reply(request, await backend.store.create_bucket(bucket))


async def get(backend: Backend, request: Request) -> Answer:
    """``buckets.get``."""
    bucket = await backend.store.get_bucket(request.path[3])
    _check(bucket, request.conditions(reads=True))
    return _reply(request, bucket)


async def list_(backend: Backend, request: Request) -> Answer:
    """``buckets.list``: those of the project, and those that were made elsewhere for none."""
    if request.flag("softDeleted"):
        raise Lacking("soft-deleted buckets.")
    project, prefix = request.query.get("project", ""), request.query.get("prefix", "")
    after, limit = request.query.get("pageToken", ""), listing.limit(request)
    found: list[Bucket] = []
    async for bucket in backend.store.list_buckets():
        owner = Attributes.of(bucket).project
        ours = not project or owner in ("", project)
        if ours and bucket.name.startswith(prefix) and bucket.name > after:
            found.append(bucket)
        if len(found) > limit:
            break
    reply: dict[str, Any] = {"kind": "storage#buckets"}
    if len(found) > limit:
        reply["nextPageToken"] = found[limit - 1].name
    if found:
        reply["items"] = [
            bucket_resource.resource(bucket, request.base, full=request.full)
            for bucket in found[:limit]
        ]
    return of_json(request, reply)


async def patch(backend: Backend, request: Request) -> Answer:
    """``buckets.patch``."""
    return await _change(backend, request, whole=False)


async def update(backend: Backend, request: Request) -> Answer:
    """``buckets.update``."""
    return await _change(backend, request, whole=True)


async def _change(backend: Backend, request: Request, *, whole: bool) -> Answer:
    body, conditions = await _body(request), request.conditions()
    request.projection = "full"

    def change(bucket: Bucket) -> Bucket:
        _check(bucket, conditions)
        return bucket_resource.changed(bucket, body, backend.clock.now_us(), whole=whole)

    return _reply(request, await backend.store.change_bucket(request.path[3], change))


async def delete(backend: Backend, request: Request) -> Answer:
    """``buckets.delete``."""
    name = request.path[3]
    _check(await backend.store.get_bucket(name), request.conditions())
    await backend.store.delete_bucket(name)
    return no_content()


async def lock_retention_policy(backend: Backend, request: Request) -> Answer:
    """``buckets.lockRetentionPolicy``: for good."""
    conditions = request.conditions()
    if conditions.metageneration is None:
        raise Refused(400, "required", "Required parameter: ifMetagenerationMatch")

    def lock(bucket: Bucket) -> Bucket:
        if Attributes.of(bucket).retention_locked:
            raise Refused(400, "invalid", f"Bucket '{bucket.name}' has been locked already.")
        _check(bucket, conditions)
        if not bucket.retention_period_seconds:
            raise Refused(
                400, "invalid", f"Bucket '{bucket.name}' has no retention policy to be locked."
            )
        known = Attributes.of(bucket)
        locked = replace(
            known,
            retention_locked=True,
            metageneration=known.metageneration + 1,
            updated_us=backend.clock.now_us(),
        )
        return replace(bucket, attributes=locked.dump())

    return _reply(request, await backend.store.change_bucket(request.path[3], lock))


async def storage_layout(backend: Backend, request: Request) -> Answer:
    """``buckets.getStorageLayout``: no bucket has folders of its own."""
    bucket = await backend.store.get_bucket(request.path[3])
    location = bucket.location or "US"
    reply = {
        "kind": "storage#storageLayout",
        "bucket": bucket.name,
        "location": location,
        "locationType": bucket_resource.location_type(location),
        "hierarchicalNamespace": {"enabled": False},
    }
    return of_json(request, reply)


async def list_managed_folders(backend: Backend, request: Request) -> Answer:
    """``managedFolders.list``: there are none, since making one is not done here."""
    await backend.store.get_bucket(request.path[3])
    return of_json(request, {"kind": "storage#managedFolders"})


_ONE = "/storage/v1/b/{bucket}"
_READ = _CONDITIONS | {"projection"}
ROUTES = (
    Route(
        "POST",
        "/storage/v1/b",
        insert,
        frozenset({"project", "projection", "enableObjectRetention"} | _PREDEFINED),
    ),
    Route(
        "GET",
        "/storage/v1/b",
        list_,
        frozenset(["project", "prefix", "maxResults", "pageToken", "projection", "softDeleted"]),
    ),
    Route("GET", _ONE, get, _READ),
    Route("PATCH", _ONE, patch, _READ | _PREDEFINED),
    Route("PUT", _ONE, update, _READ | _PREDEFINED),
    Route("DELETE", _ONE, delete, _CONDITIONS),
    Route("POST", f"{_ONE}/lockRetentionPolicy", lock_retention_policy, _CONDITIONS),
    Route("GET", f"{_ONE}/storageLayout", storage_layout, frozenset({"prefix"})),
    Route(
        "GET",
        f"{_ONE}/managedFolders",
        list_managed_folders,
        frozenset({"prefix", "pageSize", "pageToken"}),
    ),
)
