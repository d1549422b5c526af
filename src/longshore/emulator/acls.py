"""The ACL of an object, entry by entry; what is said of it in other verbs is in its resource.

Where access is uniform there are none: 400
(cloud.google.com/storage/docs/uniform-bucket-level-access).
"""

from __future__ import annotations

from typing import Any

from longshore.api.replies import Answer
from longshore.emulator import object_resource
from longshore.emulator.refusals import Refused, checked, invalid
from longshore.emulator.requests import Conditions, Request
from longshore.emulator.verbs import Route, Shop, no_content, of_json
from longshore.patch import MapPatch, Patch
from longshore.store import ABSENT, Batch, Bucket

_ROLES = ("OWNER", "READER")


async def _bucket(shop: Shop, request: Request) -> Bucket:
    bucket = await shop.store.get_bucket(request.path[3])
    if bucket.uniform_access:
        raise invalid(
            "Cannot use ACL API to update bucket policy when uniform bucket-level access is"
            " enabled."
        )
    return bucket


async def _grants(shop: Shop, request: Request) -> list[dict[str, Any]]:
    bucket = await _bucket(shop, request)
    name = request.path[5]
    batch = await shop.store.read_objects(
        bucket.name, [name], [request.generation()], columns=object_resource.COLUMNS
    )
    if batch.generations == [ABSENT]:
        raise Refused(404, "notFound", f"No such object: {bucket.name}/{name}")
    return _of(bucket, batch, request)


def _of(bucket: Bucket, batch: Batch, request: Request) -> list[dict[str, Any]]:
    resource = object_resource.resource(bucket, batch, request.base, full=True)
    grants: list[dict[str, Any]] = resource["acl"]
    return grants


def _one(grants: list[dict[str, Any]], entity: str) -> dict[str, Any]:
    for grant in grants:
        if grant["entity"] == entity:
            return grant
    raise Refused(404, "notFound", f"The ACL has no entry for {entity[:100]!r}.")


async def _change(shop: Shop, request: Request, change: MapPatch) -> list[dict[str, Any]]:
    bucket = await _bucket(shop, request)
    batch = await shop.store.patch_object(
        bucket.name,
        request.path[5],
        request.generation(),
        patch=Patch(acl=change),
        check=Conditions(None, None, None, None).check,
        columns=object_resource.COLUMNS,
    )
    return _of(bucket, batch, request)


async def list_(shop: Shop, request: Request) -> Answer:
    """``objectAccessControls.list``."""
    grants = await _grants(shop, request)
    return of_json(request, {"kind": "storage#objectAccessControls", "items": grants})


async def get(shop: Shop, request: Request) -> Answer:
    """``objectAccessControls.get``."""
    return of_json(request, _one(await _grants(shop, request), request.path[7]))


async def insert(shop: Shop, request: Request) -> Answer:
    """``objectAccessControls.insert``."""
    body = await request.json()
    return await _grant(shop, request, checked(body.get("entity"), str, "entity"), body)


async def set_(shop: Shop, request: Request) -> Answer:
    """``objectAccessControls.patch`` and ``update``."""
    entity = request.path[7]
    _one(await _grants(shop, request), entity)
    return await _grant(shop, request, entity, await request.json())


async def _grant(shop: Shop, request: Request, entity: str, body: dict[str, Any]) -> Answer:
    role = body.get("role")
    if role not in _ROLES or not entity:
        raise invalid(f"An entry of an ACL has an entity and a role of {', '.join(_ROLES)}.")
    grants = await _change(shop, request, MapPatch(updates={entity: role}))
    return of_json(request, _one(grants, entity))


async def delete(shop: Shop, request: Request) -> Answer:
    """``objectAccessControls.delete``."""
    entity = request.path[7]
    _one(await _grants(shop, request), entity)
    await _change(shop, request, MapPatch(updates={}, removals=frozenset({entity})))
    return no_content()


_ALL = "/storage/v1/b/{bucket}/o/{object}/acl"
_ENTRY = f"{_ALL}/{{entity}}"
_VERSION = frozenset({"generation"})
ROUTES = (
    Route("GET", _ALL, list_, _VERSION),
    Route("POST", _ALL, insert, _VERSION),
    Route("GET", _ENTRY, get, _VERSION),
    Route("PATCH", _ENTRY, set_, _VERSION),
    Route("PUT", _ENTRY, set_, _VERSION),
    Route("DELETE", _ENTRY, delete, _VERSION),
)
