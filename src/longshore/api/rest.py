"""REST: one ASGI app over the methods, which keeps the limits of the body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, ParamSpec, TypeVar

import orjson
from sqlalchemy import Connection

from longshore import telemetry
from longshore.api import status, wire
from longshore.api.auth.caller import Caller
from longshore.api.json_messages import to_json
from longshore.api.methods import Methods
from longshore.api.transcoding import NoSuchPath, Reply, Transcoder, WrongVerb
from longshore.database import Database
from longshore.errors import Code, Error, Internal

P = ParamSpec("P")
T = TypeVar("T")

BODY_MAX_BYTES = 32 << 20
BODY_SECONDS = 60.0
_IN_LOOP_MAX_BYTES = 256 << 10
"""Larger messages are parsed and printed in a thread: 31 MiB would hold up every other request."""

_HEADERS = [
    (b"cache-control", b"private"),
    (b"vary", b"Origin, X-Origin, Referer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-xss-protection", b"0"),
]
_JSON = "application/json; charset=UTF-8"
_HTML = "text/html; charset=UTF-8"
_TEXT = "text/plain; charset=UTF-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_NOT_FOUND_PAGE = (
    b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)</title>\n"
    b"<p><b>404.</b> The requested URL was not found on this server.\n"
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Ready = Callable[[], Awaitable[Mapping[str, bool]]]
Metrics = Callable[[], Awaitable[bytes]]


class BodyTooLarge(Exception):
    """The body has more than BODY_MAX_BYTES."""


class BodyTooSlow(Exception):
    """The body did not arrive within BODY_SECONDS."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class _Answer:
    """An HTTP reply that is yet to be sent."""

    def __init__(
        self,
        http: int,
        body: bytes,
        content_type: str = _JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.http = http
        self.body = body
        self.headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            *_HEADERS,
            *headers,
        ]

    async def send(self, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.http, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class App:
    """The ASGI app: the methods as REST, and ``/healthz``, ``/readyz`` and ``/metrics``.

    ``/healthz`` says that the listener serves and the database can be written, so that jobs can be
    created; ``/readyz`` adds what ``ready()`` says of the parts that run them; ``metrics()`` is in
    the text format of Prometheus.
    """

    def __init__(
        self, methods: Methods, database: Database, ready: Ready, metrics: Metrics
    ) -> None:
        self._methods = methods
        self._database = database
        self._ready = ready
        self._metrics = metrics
        self._transcoder = Transcoder(wire.methods())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        # The one place that must answer whatever happens: a bug is logged here, once, and the
        # client learns nothing but that there is one.
        except Exception:
            telemetry.failure("request_failed", verb=scope["method"], path=_path(scope))
            error = Internal("Internal error: the server's log has the details.")
            answer = _error(error)
        await answer.send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        if scope["path"] == "/healthz":
            await self._database.write(_touch)
            return _Answer(200, b"ok\n", _TEXT)
        if scope["path"] == "/readyz":
            return await self._readiness()
        if scope["path"] == "/metrics":
            return await self._metrics_page(scope)
        try:
            # Who calls is asked before anything is read: nobody else can make us keep a body.
            method = self._transcoder.method(scope["method"], _path(scope))
            caller = await self._methods.authenticate(method, _headers(scope))
            body = await _body(scope, receive)
            return await self._rest(scope, body, caller)
        except Error as error:
            return _error(error)
        except NoSuchPath:
            return _Answer(404, _NOT_FOUND_PAGE, _HTML)
        except WrongVerb as wrong:
            allowed = ", ".join(wrong.allowed)
            text = f"{scope['method']} is not a method of this resource, which has {allowed}."
            headers = [(b"allow", allowed.encode())]
            return _json(405, status.body(405, Code.UNIMPLEMENTED.name, text), headers=headers)
        except BodyTooLarge:
            text = f"The request body has more than {BODY_MAX_BYTES} bytes."
            headers = [(b"connection", b"close")]
            exhausted = Code.RESOURCE_EXHAUSTED.name
            return _json(413, status.body(413, exhausted, text), headers=headers)
        except BodyTooSlow:
            text = f"The request body did not arrive within {BODY_SECONDS:.0f} seconds."
            headers = [(b"connection", b"close")]
            return _json(408, status.body(408, Code.CANCELLED.name, text), headers=headers)

    async def _metrics_page(self, scope: Scope) -> _Answer:
        try:
            await self._methods.admit_to_metrics(_headers(scope))
        except Error as error:
            return _error(error)
        return _Answer(200, await self._metrics(), _METRICS)

    async def _rest(self, scope: Scope, body: bytes, caller: Caller) -> _Answer:
        arguments = (scope["method"], _path(scope), scope["query_string"].decode("latin-1"), body)
        call = await _work(len(body), self._transcoder.call, *arguments)
        message = await self._methods.perform(call.method, call.request, caller)
        return await _work(message.ByteSize(), _printed, message, call.reply)

    async def _readiness(self) -> _Answer:
        await self._database.write(_touch)
        parts = {"database": True, **await self._ready()}
        return _json(200 if all(parts.values()) else 503, parts)


def _touch(connection: Connection) -> None:
    """Nothing: to have got a write transaction is the proof."""


async def _work(size_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``function(*args, **kwargs)``, in a thread if it works on much."""
    if size_bytes > _IN_LOOP_MAX_BYTES:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _printed(message: Any, reply: Reply) -> _Answer:
    return _json(200, to_json(message, enum_numbers=reply.enum_numbers), pretty=reply.pretty)


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _path(scope: Scope) -> str:
    raw: bytes = scope["raw_path"]
    return raw.decode("latin-1")


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Raises BodyTooLarge, BodyTooSlow, ClientGone."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length) > BODY_MAX_BYTES:
        raise BodyTooLarge
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _received(receive)
    except TimeoutError as error:
        raise BodyTooSlow from error


async def _received(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > BODY_MAX_BYTES:
            raise BodyTooLarge
        more = message.get("more_body", False)
    return bytes(body)


def _json(
    http: int,
    value: Any,
    *,
    pretty: bool = True,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> _Answer:
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0)
    return _Answer(http, orjson.dumps(value, option=option), headers=headers)


def _error(error: Error) -> _Answer:
    challenge = status.challenge(error)
    headers = [(b"www-authenticate", challenge.encode())] if challenge else []
    return _json(*status.http_error(error), headers=headers)
