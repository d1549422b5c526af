"""Contents coming in: ``objects.insert`` with its three types of upload.

docs: cloud.google.com/storage/docs/uploads-downloads. The address has ``/upload`` in front, where
gcloud sends ``/resumable/upload``.
"""

from __future__ import annotations

from longshore.api.replies import Answer
from longshore.emulator import multipart, resumable
from longshore.emulator.incoming import Incoming
from longshore.emulator.inserting import described, finish
from longshore.emulator.refusals import Lacking, invalid
from longshore.emulator.requests import CONDITIONS, Request, parse_json
from longshore.emulator.verbs import Route, Shop


async def insert(shop: Shop, request: Request) -> Answer:
    """``objects.insert``."""
    if request.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise Lacking("uploads whose body is packed on its way.")
    kind = request.system.get("uploadType", "media")
    if kind == "media":
        return await _insert_media(shop, request)
    if kind == "multipart":
        return await _insert_multipart(shop, request)
    if kind == "resumable" and "upload_id" in request.query:  # gcsfs sends its parts by POST
        return await resumable.resume(shop, request)
    if kind == "resumable":
        return await resumable.begin(shop, request)
    raise invalid(f"Invalid value for parameter uploadType: {kind[:50]!r}.")


async def _insert_media(shop: Shop, request: Request) -> Answer:
    resource = {"contentType": request.headers.get("content-type")}
    if "contentEncoding" in request.query:
        resource["contentEncoding"] = request.query["contentEncoding"]
    new = described(request, resource)
    incoming = Incoming(shop.folder)
    try:
        async for piece in request.pieces():
            incoming.write(piece)
        return await finish(shop, request, new, incoming)
    finally:
        incoming.discard()


async def _insert_multipart(shop: Shop, request: Request) -> Answer:
    mark = multipart.boundary(request.headers.get("content-type", ""))
    incoming = Incoming(shop.folder)
    try:
        read = await multipart.read(request.pieces(), mark, incoming)
        resource = {"contentType": read.content_type or None} | parse_json(read.resource)
        return await finish(shop, request, described(request, resource), incoming)
    finally:
        incoming.discard()


_PARAMETERS = CONDITIONS | frozenset(
    ["name", "contentEncoding", "kmsKeyName", "predefinedAcl", "projection", "upload_id"]
)
ROUTES = tuple(
    Route(method, f"{prefix}/storage/v1/b/{{bucket}}/o", verb, _PARAMETERS)
    for prefix in ("/upload", "/resumable/upload")
    for method, verb in (("POST", insert), ("PUT", resumable.resume), ("DELETE", resumable.cancel))
)
