"""The verbs of objects, but for those that take contents in."""

from __future__ import annotations

from longshore.api.replies import Answer
from longshore.emulator import downloads, listing, object_resource
from longshore.emulator.bucket_resource import Attributes, of_new_objects
from longshore.emulator.refusals import Refused, invalid, required
from longshore.emulator.requests import CONDITIONS, Request
from longshore.emulator.verbs import Backend, Route, etag_header, no_content, of_json
from longshore.object_rules import not_soft_deleted
from longshore.store import ABSENT, Batch, Bucket


async def found(backend: Backend, request: Request, bucket: str, name: str) -> Batch:
    """The version that ``request`` means, with the columns of a resource; raises Refused."""
    generation, conditions = request.generation(), request.conditions(reads=True)
    batch = await backend.store.read_objects(
        bucket, [name], [generation], columns=object_resource.COLUMNS
    )
    if batch.generations == [ABSENT]:
        raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
    conditions.check(batch.generations[0], batch.metagenerations[0])
    return batch


def reply(request: Request, bucket: Bucket, batch: Batch) -> Answer:
    """The resource of an object."""
    resource = object_resource.resource(bucket, batch, request.base, full=request.full)
    return of_json(request, resource, [etag_header(resource)])


async def get(backend: Backend, request: Request) -> Answer:
    """``objects.get``: the resource, or with ``alt=media`` the content."""
    bucket = await backend.store.get_bucket(request.path[3])
    if request.flag("softDeleted"):
        return await _get_soft_deleted(backend, request, bucket)
    batch = await found(backend, request, bucket.name, request.path[5])
    if request.system.get("alt") == "media":
        return downloads.of_content(backend, request, bucket.name, batch)
    return reply(request, bucket, batch)


async def _get_soft_deleted(backend: Backend, request: Request, bucket: Bucket) -> Answer:
    generation, conditions = request.generation(), request.conditions(reads=True)
    if generation == ABSENT:
        raise required("generation")
    if request.system.get("alt") == "media":
        raise invalid("The content of a soft-deleted object cannot be read: restore it.")
    name = request.path[5]
    batch = await backend.store.read_soft_deleted(
        bucket.name, name, generation, columns=object_resource.SOFT_DELETED_COLUMNS
    )
    if batch.generations == [ABSENT]:
        raise not_soft_deleted(f"{bucket.name}/{name}", generation)
    conditions.check(batch.generations[0], batch.metagenerations[0])
    return reply(request, bucket, batch)


async def restore(backend: Backend, request: Request) -> Answer:
    """``objects.restore``: makes a copy of a soft-deleted object live."""
    bucket = await backend.store.get_bucket(request.path[3])
    generation, keep_acl = request.generation(), request.flag("copySourceAcl")
    if generation == ABSENT:
        raise required("generation")
    if not bucket.soft_delete_seconds:
        raise invalid("bucket soft delete policy must be set.")
    if keep_acl and bucket.uniform_access:
        raise invalid("Cannot copy an ACL when uniform bucket-level access is enabled.")
    restored = await backend.store.restore_object(
        bucket.name,
        request.path[5],
        generation,
        acl=None if keep_acl else of_new_objects(bucket)["acl"],
        check=request.conditions().check,
        columns=object_resource.COLUMNS,
    )
    full = request.query.get("projection", "full") == "full"
    resource = object_resource.resource(bucket, restored, request.base, full=full)
    return of_json(request, resource, [etag_header(resource)])


async def download(backend: Backend, request: Request) -> Answer:
    """The same at the address of a ``mediaLink``."""
    bucket, name = request.path[4], request.path[6]
    batch = await found(backend, request, bucket, name)
    return downloads.of_content(backend, request, bucket, batch)


async def patch(backend: Backend, request: Request) -> Answer:
    """``objects.patch``."""
    return await _change(backend, request, whole=False)


async def update(backend: Backend, request: Request) -> Answer:
    """``objects.update``."""
    return await _change(backend, request, whole=True)


async def _change(backend: Backend, request: Request, *, whole: bool) -> Answer:
    body = request.with_acl(await request.json())
    request.projection = "full"
    bucket = await backend.store.get_bucket(request.path[3])
    make = object_resource.replacement if whole else object_resource.patch
    changed = await backend.store.patch_object(
        bucket.name,
        request.path[5],
        request.generation(),
        patch=make(
            body,
            may_retain=Attributes.of(bucket).object_retention,
            override=request.flag("overrideUnlockedRetention"),
        ),
        check=request.conditions().check,
        columns=object_resource.COLUMNS,
    )
    return reply(request, bucket, changed)


async def delete(backend: Backend, request: Request) -> Answer:
    """``objects.delete``: without a generation the live one, which a versioned bucket keeps."""
    await backend.store.delete_object(
        request.path[3],
        request.path[5],
        request.generation(),
        check=request.conditions().check,
    )
    return no_content()


_MANY = "/storage/v1/b/{bucket}/o"
_ONE = f"{_MANY}/{{object}}"
_VERSION = CONDITIONS | {"generation"}
_CHANGE = _VERSION | {"projection", "predefinedAcl", "overrideUnlockedRetention"}
ROUTES = (
    Route("GET", _MANY, listing.list_objects, listing.PARAMETERS),
    Route("GET", _ONE, get, _VERSION | {"projection", "softDeleted"}),
    Route("GET", f"/download{_ONE}", download, _VERSION | {"projection"}),
    Route("PATCH", _ONE, patch, _CHANGE),
    Route("PUT", _ONE, update, _CHANGE),
    Route("POST", f"{_ONE}/restore", restore, _VERSION | {"projection", "copySourceAcl"}),
    # deleteFiles of Node's client sends with each delete what it has listed by.
    Route("DELETE", _ONE, delete, _VERSION | listing.PARAMETERS),
)
