"""Contents coming in: ``objects.insert`` with its three types of upload.

docs: cloud.google.com/storage/docs/uploads-downloads. The address has ``/upload`` in front, where
gcloud sends ``/resumable/upload``.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from longshore.api.replies import Answer
from longshore.emulator import multipart, resumable
from longshore.emulator.downloads import Gunzip
from longshore.emulator.incoming import Incoming
from longshore.emulator.inserting import described, finish
from longshore.emulator.refusals import invalid
from longshore.emulator.requests import CONDITIONS, Request, parse_json, refuse_packed
from longshore.emulator.verbs import Backend, Route


async def insert(backend: Backend, request: Request) -> Answer:
    """``objects.insert``."""
    kind = request.system.get("uploadType", "media")
    if kind != "multipart":
        refuse_packed(request)
    if kind == "media":
        return await _insert_media(backend, request)
    if kind == "multipart":
        return await _insert_multipart(backend, request)
    if kind == "resumable" and "upload_id" in request.query:  # gcsfs sends its parts by POST
        return await resumable.resume(backend, request)
    if kind == "resumable":
        return await resumable.begin(backend, request)
    raise invalid(f"Invalid value for parameter uploadType: {kind[:50]!r}.")


async def _insert_media(backend: Backend, request: Request) -> Answer:
    resource = {"contentType": request.headers.get("content-type")}
    if "contentEncoding" in request.query:
        resource["contentEncoding"] = request.query["contentEncoding"]
    new = described(request, resource)
    incoming = Incoming(backend.folder)
    try:
        async for piece in request.pieces():
            incoming.write(piece)
        return await finish(backend, request, new, incoming)
    finally:
        incoming.discard()


async def _insert_multipart(backend: Backend, request: Request) -> Answer:
    mark = multipart.boundary(request.headers.get("content-type", ""))
    incoming = Incoming(backend.folder)
    try:
        read = await multipart.read(_pieces(request), mark, incoming)
        resource = {"contentType": read.content_type or None} | parse_json(read.resource)
        return await finish(backend, request, described(request, resource), incoming)
    finally:
        incoming.discard()


def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body, unpacked where gcloud has packed it for its way (``cp --gzip-in-flight``)."""
    if request.headers.get("content-encoding") == "gzip":
        return _unpacked(request.pieces())
    refuse_packed(request)
    return request.pieces()


async def _unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    gzip = Gunzip()
    try:
        async for piece in pieces:
            for data in gzip.unpack(piece):
                yield data
    except zlib.error as error:
        raise invalid(f"The body is no gzip: {error}") from error
    if not gzip.ended:
        raise invalid("The body is no whole gzip.")


_PARAMETERS = CONDITIONS | frozenset(
    ["name", "contentEncoding", "kmsKeyName", "predefinedAcl", "projection", "upload_id"]
)
ROUTES = tuple(
    Route(method, f"{prefix}/storage/v1/b/{{bucket}}/o", verb, _PARAMETERS)
    for prefix in ("/upload", "/resumable/upload")
    for method, verb in (("POST", insert), ("PUT", resumable.resume), ("DELETE", resumable.cancel))
)
