"""The batch endpoint: many calls in one ``multipart/mixed`` body, and their replies in another.

docs: cloud.google.com/storage/docs/batch. Uploads and downloads are not for it. The replies are in
the order of the calls; each has the ``Content-ID`` of its call with ``response-`` in front. What
the batch has in its query and its headers is each call's, unless that says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from longshore.api.replies import Answer
from longshore.emulator.faults import Faults, refusal
from longshore.emulator.refusals import invalid
from longshore.emulator.requests import Request
from longshore.emulator.routes import Routes
from longshore.emulator.verbs import Backend, Route
from longshore.errors import Error

CALLS_MAX = 1000
"""Cloud Storage asks for at most 100; Google's own clients send up to so many."""
BODY_MAX_BYTES = 10 << 20
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


def routes_of(routes: Routes, faults: Faults) -> tuple[Route, ...]:
    """The endpoint, whose calls are found in ``routes``, and meet ``faults`` each by itself."""

    async def run(backend: Backend, request: Request) -> Answer:
        return await _run(backend, request, routes, faults)

    return (Route("POST", "/batch/storage/v1", run), Route("POST", "/batch", run))


async def _run(backend: Backend, request: Request, routes: Routes, faults: Faults) -> Answer:
    content_type = request.headers.get("content-type", "")
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/mixed") or match is None:
        raise invalid("The body of a batch must be multipart/mixed with a boundary.")
    if request.system.get("alt", "json") != "json":
        raise invalid("Uploads and downloads are not for batches.")
    body = bytearray()
    async for piece in request.pieces():
        body += piece
        if len(body) > BODY_MAX_BYTES:
            raise invalid(f"The batch has more than {BODY_MAX_BYTES} bytes.")
    calls = (b"\n" + body.replace(b"\r\n", b"\n")).split(b"\n--" + match[1].encode("latin-1"))[1:-1]
    if not 1 <= len(calls) <= CALLS_MAX:
        raise invalid(f"A batch has 1 to {CALLS_MAX} calls, not {len(calls)}.")
    mark = f"batch_{uuid4().hex}"
    reply = bytearray()
    for call in calls:
        if part := await _part(backend, routes, faults, bytes(call), request):
            reply += f"--{mark}\r\n".encode() + part
    reply += f"--{mark}--\r\n".encode()
    return Answer(200, bytes(reply), f"multipart/mixed; boundary={mark}")


async def _part(
    backend: Backend, routes: Routes, faults: Faults, call: bytes, batch: Request
) -> bytes:
    """The part that answers a call; nothing where a fault cuts it off."""
    outer, _, rest = call.strip(b"\n").partition(b"\n\n")
    head, _, body = rest.lstrip(b"\n").partition(b"\n\n")
    start, *lines = head.decode("latin-1").split("\n")
    words = start.split()
    if len(words) < 2:
        raise invalid(f"A part of the batch is no call: {start[:100]!r}.")
    host = batch.headers.get("host", "")
    headers = {**_shared(batch), **_headers(lines), "host": host, "content-length": str(len(body))}
    content_id = _headers(outer.decode("latin-1").split("\n")).get("content-id", "")
    fault = await faults.meet(words[0], urlsplit(words[1]).path)
    if fault is not None and fault.status:
        answer = refusal(fault.status).answer()
    else:
        answer = await _answer(backend, routes, words, headers, body, batch.system)
    if fault is not None and fault.cut:
        return b""
    own = ["Content-Type: application/http"]
    if content_id:
        own.append(f"Content-ID: <response-{content_id.strip('<>')}>")
    phrase = HTTPStatus(answer.http).phrase
    inner = [f"{name.decode()}: {value.decode('latin-1')}" for name, value in answer.headers]
    text = "\r\n".join([*own, "", f"HTTP/1.1 {answer.http} {phrase}", *inner, "", ""])
    return text.encode("latin-1") + answer.body + b"\r\n"


def _shared(batch: Request) -> dict[str, str]:
    """The headers of a batch that do not describe its own body."""
    own = ("content-", "transfer-")
    return {name: value for name, value in batch.headers.items() if not name.startswith(own)}


async def _answer(
    backend: Backend,
    routes: Routes,
    words: list[str],
    headers: dict[str, str],
    body: bytes,
    shared: Mapping[str, str],
) -> Answer:
    url = urlsplit(words[1])
    if not url.path.startswith("/storage/v1/") or "alt=media" in url.query:
        return invalid("Uploads and downloads are not for batches.").answer()
    try:
        request = Request(words[0], url.path, url.query, headers, _once(body))
    except Error as error:
        return invalid(error.message).answer()
    request.system = {**shared, **request.system}
    return await routes.answer(backend, request)


def _once(body: bytes) -> Any:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}
