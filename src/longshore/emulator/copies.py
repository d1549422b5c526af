"""Objects made of others: copy, move, rewrite with tokens, compose.

docs: cloud.google.com/storage/docs/json_api/v1/objects/{copy,move,rewrite,compose}. A body that
says anything of the object says all of its metadata; without one it is the source's. Contexts stay
either way (cloud.google.com/storage/docs/use-object-contexts), unless there are others, or
``dropContextGroups`` says so; those of what is composed are merged. Holds, retentions and keys are
not copied. A copy has the class and the ACL of a new object of the bucket, a composition the class
of what it is made of.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from longshore.api.replies import Answer
from longshore.emulator import object_resource
from longshore.emulator.bucket_resource import Attributes, of_new_objects
from longshore.emulator.digests import Digests
from longshore.emulator.incoming import Incoming
from longshore.emulator.objects import reply
from longshore.emulator.refusals import Lacking, Refused, checked, condition_not_met, invalid
from longshore.emulator.requests import (
    CONDITIONS,
    INT64_MAX,
    SOURCE_CONDITIONS,
    Conditions,
    Request,
)
from longshore.emulator.verbs import Backend, Route, etag_header, of_json
from longshore.patch import dump_map, load_map
from longshore.store import ABSENT, Batch, NewObject

COMPOSED_MAX = 32
REWRITTEN_UNIT_BYTES = 1 << 20
_ANY = Conditions(None, None, None, None)
_METADATA = (
    "content_type",
    "content_encoding",
    "content_language",
    "content_disposition",
    "cache_control",
    "custom_time_us",
    "custom_metadata",
)
"""What a body that has one of them has all of."""


class Source(NamedTuple):
    """An object that is read from."""

    bucket: str
    batch: Batch

    @property
    def digests(self) -> Digests:
        """Of its content, as far as they are known."""
        return Digests.load(self.batch.columns["digests"][0])

    @property
    def contexts(self) -> str:
        """The contexts of it."""
        return str(self.batch.columns["contexts"][0])

    def metadata(self) -> dict[str, Any]:
        """What a copy has of it, unless it is given others."""
        return {column: self.batch.columns[column][0] for column in _METADATA}


class Target(NamedTuple):
    """An object that is to be, with the columns that it gets."""

    bucket: str
    name: str
    columns: Mapping[str, Any]
    conditions: Conditions


async def _source(
    backend: Backend, bucket: str, name: str, generation: int, conditions: Conditions
) -> Source:
    batch = await backend.store.read_objects(
        bucket, [name], [generation], columns=object_resource.COLUMNS
    )
    if batch.generations == [ABSENT]:
        raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
    conditions.check(batch.generations[0], batch.metagenerations[0])
    return Source(bucket, batch)


async def _target(
    backend: Backend, request: Request, at: tuple[str, str], body: Mapping[str, Any], source: Source
) -> Target:
    """What is to be made at bucket and name ``at`` of ``source``, as ``body`` describes it."""
    bucket = await backend.store.get_bucket(at[0])
    described = request.with_acl(body, "destinationPredefinedAcl")
    object_resource.check_acl(bucket, described)
    may_retain = Attributes.of(bucket).object_retention
    given = object_resource.new_columns(described, may_retain=may_retain)
    kept = {} if object_resource.describes(body) else source.metadata()
    key = request.query.get("destinationKmsKeyName") or request.query.get("kmsKeyName")
    columns = {
        **of_new_objects(bucket),
        **kept,
        "contexts": _contexts(request, [source]),
        **given,
        **({"kms_key": key} if key else {}),
    }
    return Target(bucket.name, at[1], columns, request.conditions())


async def _put(
    backend: Backend, request: Request, target: Target, sources: list[Source], digests: Digests
) -> dict[str, Any]:
    """Make ``target`` of the contents of ``sources``; of ``digests`` what is known is kept."""
    incoming = Incoming(backend.folder)
    try:
        for source in sources:
            name, generation = source.batch.names[0], source.batch.generations[0]
            async for piece in backend.store.read_bytes(source.bucket, name, generation):
                incoming.write(piece)
        known = incoming.digests()
        if digests.components:
            known = Digests(known.crc32c, "", digests.components)
        made = await backend.store.put_object(
            target.bucket,
            NewObject(target.name, incoming.content(), {**target.columns, "digests": known.dump()}),
            check=target.conditions.check,
            columns=object_resource.COLUMNS,
        )
    finally:
        incoming.discard()
    bucket = await backend.store.get_bucket(target.bucket)
    return object_resource.resource(bucket, made, request.base, full=request.full)


async def _both(backend: Backend, request: Request) -> tuple[Source, Target]:
    """Source and target of ``…/b/SB/o/SO/copyTo/b/DB/o/DO``."""
    path = request.path
    body = await request.json()
    if "acl" in body:
        request.projection = "full"
    source = await _source(
        backend,
        path[3],
        path[5],
        request.generation("sourceGeneration"),
        request.conditions("ifSource"),
    )
    return source, await _target(backend, request, (path[8], path[10]), body, source)


async def copy(backend: Backend, request: Request) -> Answer:
    """``objects.copy``."""
    source, target = await _both(backend, request)
    return _reply(request, await _put(backend, request, target, [source], source.digests))


def _reply(request: Request, resource: dict[str, Any]) -> Answer:
    return of_json(request, resource, [etag_header(resource)])


async def move(backend: Backend, request: Request) -> Answer:
    """``objects.move``, within a bucket, in one step: all of the object goes with it."""
    bucket = await backend.store.get_bucket(request.path[3])
    moved = await backend.store.move_object(
        bucket.name,
        request.path[5],
        request.path[8],
        check_source=request.conditions("ifSource").check,
        check=request.conditions().check,
        columns=object_resource.COLUMNS,
    )
    return reply(request, bucket, moved)


async def rewrite(backend: Backend, request: Request) -> Answer:
    """``objects.rewrite``: at once, unless ``maxBytesRewrittenPerCall`` is less than there is.

    The token says how far it is and of what; the object is made by the last call.
    """
    source, target = await _both(backend, request)
    size, most = source.batch.sizes[0], request.number("maxBytesRewrittenPerCall")
    if most is not None and (most == 0 or most % REWRITTEN_UNIT_BYTES):
        raise invalid("maxBytesRewrittenPerCall must be a multiple of 1 MiB.")
    about = [source.bucket, *source.batch.names, *source.batch.generations, *target[:2]]
    before = _rewritten(request.query.get("rewriteToken", ""), about)
    after = size if most is None else min(size, before + most)
    answer: dict[str, Any] = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(after),
        "objectSize": str(size),
        "done": after == size,
    }
    if after < size:
        answer["rewriteToken"] = base64.urlsafe_b64encode(orjson.dumps([after, *about])).decode()
        return of_json(request, answer)
    made = await _put(backend, request, target, [source], source.digests)
    return of_json(request, {**answer, "resource": made})


def _rewritten(token: str, about: list[Any]) -> int:
    """How many bytes the calls before have rewritten; raises Refused for a token of another
    rewrite."""
    if not token:
        return 0
    try:
        before, *of = orjson.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, binascii.Error, TypeError):
        before, of = None, []
    if of != about or not isinstance(before, int):
        raise invalid("Invalid value for parameter rewriteToken: it belongs to another rewrite.")
    return before


async def compose(backend: Backend, request: Request) -> Answer:
    """``objects.compose``: one of up to 32 objects of the same bucket."""
    body = await request.json()
    if unknown := body.keys() - {"kind", "sourceObjects", "destination"}:
        raise Lacking(f"the field {min(unknown)!r} of a compose request.")
    bucket, name = request.path[3], request.path[5]
    parts = checked(body.get("sourceObjects") or [], list, "sourceObjects")
    if not 1 <= len(parts) <= COMPOSED_MAX:
        raise invalid(f"An object is composed of 1 to {COMPOSED_MAX} objects, not {len(parts)}.")
    sources = [await _component(backend, bucket, part) for part in parts]
    described = checked(body.get("destination") or {}, dict, "destination")
    if "acl" in described:
        request.projection = "full"
    resource = request.with_acl(described, "destinationPredefinedAcl")
    into = await backend.store.get_bucket(bucket)
    object_resource.check_acl(into, resource)
    may_retain = Attributes.of(into).object_retention
    columns = {
        **of_new_objects(into),
        "storage_class": sources[0].batch.columns["storage_class"][0],
        "contexts": _contexts(request, sources),
        **object_resource.new_columns(resource, may_retain=may_retain),
    }
    if key := request.query.get("kmsKeyName"):
        columns["kms_key"] = key
    count = sum(source.digests.components or 1 for source in sources)
    target = Target(bucket, name, columns, request.conditions())
    return _reply(request, await _put(backend, request, target, sources, Digests(components=count)))


def _contexts(request: Request, sources: list[Source]) -> str:
    """The contexts that the sources hand down; of the same key, that of the last."""
    groups = request.query.get("dropContextGroups", "")
    if groups not in ("", "custom"):
        raise invalid(f"Invalid value for parameter dropContextGroups: {groups[:50]!r}.")
    if groups:
        return ""
    contexts = [pair for source in sources for pair in load_map(source.contexts).items()]
    return dump_map(dict(contexts))


async def _component(backend: Backend, bucket: str, part: Any) -> Source:
    named = checked(part, dict, "sourceObjects")
    name = checked(named.get("name"), str, "sourceObjects.name")
    generation = _number(named.get("generation"))
    conditions = checked(named.get("objectPreconditions") or {}, dict, "objectPreconditions")
    wanted = _number(conditions.get("ifGenerationMatch"))
    source = await _source(backend, bucket, name, generation or ABSENT, _ANY)
    if wanted is not None and wanted != source.batch.generations[0]:
        raise condition_not_met()
    return source


def _number(value: Any) -> int | None:
    """An int64 of JSON, which is a text or a number."""
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise invalid(f"Invalid value for field sourceObjects: {text[:50]!r}.")
    return min(int(text[:20]), INT64_MAX)


_ONE = "/storage/v1/b/{bucket}/o/{object}"
_TO = "b/{destinationBucket}/o/{destinationObject}"
_PARAMETERS = (
    CONDITIONS
    | SOURCE_CONDITIONS
    | {"sourceGeneration", "projection", "destinationPredefinedAcl", "destinationKmsKeyName"}
    | {"dropContextGroups"}
)
ROUTES = (
    Route("POST", f"{_ONE}/copyTo/{_TO}", copy, _PARAMETERS),
    Route(
        "POST",
        f"{_ONE}/rewriteTo/{_TO}",
        rewrite,
        _PARAMETERS | {"rewriteToken", "maxBytesRewrittenPerCall"},
    ),
    Route(
        "POST",
        f"{_ONE}/moveTo/o/{{destinationObject}}",
        move,
        CONDITIONS | SOURCE_CONDITIONS | {"projection"},
    ),
    Route(
        "POST",
        f"{_ONE}/compose",
        compose,
        CONDITIONS | {"kmsKeyName", "destinationPredefinedAcl", "dropContextGroups"},
    ),
)
