"""The ACL of an object, that of a bucket, and the one that its new objects get, entry by entry;
what is said of them in other verbs is in the resource of the object or the bucket.

Where access is uniform there are none: 400
(cloud.google.com/storage/docs/uniform-bucket-level-access).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from longshore.api.replies import Answer
from longshore.emulator import object_resource
from longshore.emulator.bucket_resource import Attributes, grants
from longshore.emulator.refusals import Refused, checked, invalid
from longshore.emulator.requests import Conditions, Request, bucket_etag
from longshore.emulator.verbs import Backend, Route, no_content, of_json
from longshore.patch import MapPatch, Patch, dump_map, load_map
from longshore.store import ABSENT, Batch, Bucket

_ROLES = ("OWNER", "READER")
_BUCKET_ROLES = ("OWNER", "WRITER", "READER")


async def _bucket(backend: Backend, request: Request) -> Bucket:
    bucket = await backend.store.get_bucket(request.path[3])
    _refuse_uniform(bucket)
    return bucket


def _refuse_uniform(bucket: Bucket) -> None:
    if bucket.uniform_access:
        raise invalid(
            "Cannot use ACL API to update bucket policy when uniform bucket-level access is"
            " enabled."
        )


async def _entries(backend: Backend, request: Request) -> list[dict[str, Any]]:
    bucket = await _bucket(backend, request)
    name = request.path[5]
    batch = await backend.store.read_objects(
        bucket.name, [name], [request.generation()], columns=object_resource.COLUMNS
    )
    if batch.generations == [ABSENT]:
        raise Refused(404, "notFound", f"No such object: {bucket.name}/{name}")
    return _of(bucket, batch, request)


def _of(bucket: Bucket, batch: Batch, request: Request) -> list[dict[str, Any]]:
    resource = object_resource.resource(bucket, batch, request.base, full=True)
    entries: list[dict[str, Any]] = resource["acl"]
    return entries


def _one(entries: list[dict[str, Any]], entity: str) -> dict[str, Any]:
    for entry in entries:
        if entry["entity"] == entity:
            return entry
    raise Refused(404, "notFound", f"The ACL has no entry for {entity[:100]!r}.")


async def _change(backend: Backend, request: Request, change: MapPatch) -> list[dict[str, Any]]:
    bucket = await _bucket(backend, request)
    batch = await backend.store.patch_object(
        bucket.name,
        request.path[5],
        request.generation(),
        patch=Patch(acl=change),
        check=Conditions(None, None, None, None).check,
        columns=object_resource.COLUMNS,
    )
    return _of(bucket, batch, request)


async def list_(backend: Backend, request: Request) -> Answer:
    """``objectAccessControls.list``."""
    entries = await _entries(backend, request)
    return of_json(request, {"kind": "storage#objectAccessControls", "items": entries})


async def get(backend: Backend, request: Request) -> Answer:
    """``objectAccessControls.get``."""
    return of_json(request, _one(await _entries(backend, request), request.path[7]))


async def insert(backend: Backend, request: Request) -> Answer:
    """``objectAccessControls.insert``."""
    body = await request.json()
    return await _grant(backend, request, checked(body.get("entity"), str, "entity"), body)


async def set_(backend: Backend, request: Request) -> Answer:
    """``objectAccessControls.patch`` and ``update``, of an entry that may not be there yet."""
    return await _grant(backend, request, request.path[7], await request.json())


async def _grant(backend: Backend, request: Request, entity: str, body: dict[str, Any]) -> Answer:
    change = _granted(entity, body, _ROLES)
    return of_json(request, _one(await _change(backend, request, change), entity))


def _granted(entity: str, body: dict[str, Any], roles: Sequence[str]) -> MapPatch:
    role = checked(body.get("role"), str, "role")
    if role not in roles or not entity:
        raise invalid(f"An entry of an ACL has an entity and a role of {', '.join(roles)}.")
    return MapPatch(updates={entity: role})


async def delete(backend: Backend, request: Request) -> Answer:
    """``objectAccessControls.delete``."""
    entity = request.path[7]
    _one(await _entries(backend, request), entity)
    await _change(backend, request, MapPatch(updates={}, removals=frozenset({entity})))
    return no_content()


class OfBucket:
    """The verbs of one of the two ACLs that a bucket has, which is the ``field`` of its
    resource."""

    def __init__(self, field: str, kind: str, roles: Sequence[str]) -> None:
        self._field = field
        self._kind = kind
        self._roles = roles

    async def list_(self, backend: Backend, request: Request) -> Answer:
        """``list``."""
        entries = self._of(await _bucket(backend, request), request)
        return of_json(request, {"kind": f"{self._kind}s", "items": entries})

    async def get(self, backend: Backend, request: Request) -> Answer:
        """``get``."""
        entries = self._of(await _bucket(backend, request), request)
        return of_json(request, _one(entries, request.path[5]))

    async def insert(self, backend: Backend, request: Request) -> Answer:
        """``insert``."""
        body = await request.json()
        entity = checked(body.get("entity"), str, "entity")
        change = _granted(entity, body, self._roles)
        return of_json(request, _one(await self._change(backend, request, change), entity))

    async def set_(self, backend: Backend, request: Request) -> Answer:
        """``patch`` and ``update``."""
        entity = request.path[5]
        change = _granted(entity, await request.json(), self._roles)
        entries = await self._change(backend, request, change, there=entity)
        return of_json(request, _one(entries, entity))

    async def delete(self, backend: Backend, request: Request) -> Answer:
        """``delete``."""
        entity = request.path[5]
        change = MapPatch(updates={}, removals=frozenset({entity}))
        await self._change(backend, request, change, there=entity)
        return no_content()

    async def _change(
        self, backend: Backend, request: Request, change: MapPatch, there: str = ""
    ) -> list[dict[str, Any]]:
        """The ACL after ``change``; raises Refused unless it has had the entity ``there``."""

        def changed(bucket: Bucket) -> Bucket:
            _refuse_uniform(bucket)
            if there:
                _one(self._of(bucket, request), there)
            known = Attributes.of(bucket)
            pairs = load_map(change.apply(dump_map(grants(known.kept.get(self._field)))))
            acl = [{"entity": entity, "role": role} for entity, role in pairs.items()]
            attributes = replace(
                known,
                kept={**known.kept, self._field: acl},
                metageneration=known.metageneration + 1,
                updated_us=backend.clock.now_us(),
            )
            return replace(bucket, attributes=attributes.dump())

        return self._of(await backend.store.change_bucket(request.path[3], changed), request)

    def _of(self, bucket: Bucket, request: Request) -> list[dict[str, Any]]:
        at = f"{request.base}/storage/v1/b/{bucket.name}/{self._field}"
        known = Attributes.of(bucket)
        return [
            {
                "kind": self._kind,
                "id": f"{bucket.name}/{entity}",
                "selfLink": f"{at}/{quote(entity, safe='')}",
                "bucket": bucket.name,
                "entity": entity,
                "role": role,
                "etag": bucket_etag(known.metageneration),
            }
            for entity, role in grants(known.kept.get(self._field)).items()
        ]

    def routes(self) -> tuple[Route, ...]:
        """Its verbs."""
        every = f"/storage/v1/b/{{bucket}}/{self._field}"
        one = f"{every}/{{entity}}"
        return (
            Route("GET", every, self.list_),
            Route("POST", every, self.insert),
            Route("GET", one, self.get),
            Route("PATCH", one, self.set_),
            Route("PUT", one, self.set_),
            Route("DELETE", one, self.delete),
        )


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
    *OfBucket("acl", "storage#bucketAccessControl", _BUCKET_ROLES).routes(),
    *OfBucket("defaultObjectAcl", "storage#objectAccessControl", _ROLES).routes(),
)
