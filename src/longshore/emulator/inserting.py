"""From a content that has arrived, and a resource that describes it, to an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.api.replies import Answer
from longshore.emulator import object_resource
from longshore.emulator.bucket_resource import Attributes, of_new_objects
from longshore.emulator.digests import from_header
from longshore.emulator.incoming import Incoming, New
from longshore.emulator.objects import reply
from longshore.emulator.refusals import checked, invalid, required
from longshore.emulator.requests import Request
from longshore.emulator.verbs import Backend
from longshore.store import Batch, NewObject


def described(request: Request, resource: Mapping[str, Any]) -> New:
    """What is to be inserted; the parameter ``name`` counts before that of the resource."""
    bucket = request.path[request.path.index("b") + 1]
    name = request.query.get("name") or checked(resource.get("name") or "", str, "name")
    if not name:
        raise required("name")
    if name in (".", "..") or "\r" in name or "\n" in name:
        raise invalid(f"Invalid object name: {name[:100]!r}.")
    if key := request.query.get("kmsKeyName"):
        resource = {**resource, "kmsKeyName": key}
    if "acl" in resource:
        request.projection = "full"
    return New(bucket, name, request.with_acl(resource), request.conditions())


async def finish(backend: Backend, request: Request, new: New, incoming: Incoming) -> Answer:
    """Make the object, if what the writer says of its content is true, and send its resource."""
    incoming.digests().check(from_header(request.headers.get("x-goog-hash", "")))
    made = await make(backend, new, incoming)
    return reply(request, await backend.store.get_bucket(new.bucket), made)


async def make(backend: Backend, new: New, incoming: Incoming) -> Batch:
    """The object that is made of a content; raises Refused where the resource says otherwise."""
    digests = incoming.digests()
    digests.check(object_resource.expected(new.resource))
    bucket = await backend.store.get_bucket(new.bucket)
    object_resource.check_acl(bucket, new.resource)
    may_retain = Attributes.of(bucket).object_retention
    columns = {
        **of_new_objects(bucket),
        **object_resource.new_columns(new.resource, may_retain=may_retain),
        "digests": digests.dump(),
    }
    return await backend.store.put_object(
        new.bucket,
        NewObject(new.name, incoming.content(), columns),
        check=new.conditions.check,
        columns=object_resource.COLUMNS,
    )
