"""REST: one ASGI app over the methods."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from longshore import telemetry
from longshore.api import discovery, parameters, replies, wire
from longshore.api.bodies import SMALL_MAX_BYTES, Body, ClientGone, Room
from longshore.api.methods import Methods
from longshore.api.parameters import Query, Reply
from longshore.api.replies import Answer
from longshore.api.status import Headers, Refusal
from longshore.api.transcoding import Call, Content, Found, NoSuchPath, Transcoder, WrongVerb
from longshore.database import Database
from longshore.errors import Error, Internal, InvalidArgument, NotFound, Unavailable

RECEIVED_MAX_BYTES = 256 << 20
"""How much of large bodies is received at once over all requests."""

PARSED_MAX_BYTES = 32 << 20
"""How much of large bodies is parsed at once: parsing takes six times as much again."""

_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", re.ASCII)
_FORM = "application/x-www-form-urlencoded"
_PROTO = frozenset({"application/x-protobuf", "application/protobuf"})
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


class Pages:
    """The ASGI app of a process without the API: ``/healthz``, ``/readyz`` and ``/metrics``.

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:  # 499 elsewhere: nobody is there to be told
            telemetry.event("client_gone", verb=scope["method"], path=_path(scope))
            return
        except asyncio.CancelledError:  # by the server, which ends and waits for this no longer
            error: Error = Unavailable("The service is ending, and may have done this or not.")
            answer = replies.of_error(error, Reply())
        # The one place that must answer whatever happens: a bug is logged here, once, and the
        # client learns nothing but that there is one.
        except Exception:
            telemetry.failure("request_failed", verb=scope["method"], path=_path(scope))
            error = Internal("Internal error: the server's log has the details.")
            answer = replies.of_error(error, Reply())
        await answer.send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["path"]
        try:
            if path == "/healthz":
                await self._database.write(_touch)
                return Answer(200, b"ok\n", replies.TEXT)
            if path == "/readyz":
                return await self._readiness()
            if path == "/metrics":
                return await self._metrics_page(scope)
        except Error as error:
            return replies.of_error(error, Reply())
        return await self._rest(scope, receive)

    async def _metrics_page(self, scope: Scope) -> Answer:
        await self._methods.admit_to_metrics(_headers(scope))
        return Answer(200, await self._metrics(), _METRICS)

    async def _readiness(self) -> Answer:
        await self._database.write(_touch)
        parts = {"database": True, **await self._ready()}
        return replies.of_json(200 if all(parts.values()) else 503, parts, Reply())

    async def _rest(self, _scope: Scope, _receive: Receive) -> Answer:
        """The reply to a request for anything else."""
        return Answer(404, _NOT_FOUND_PAGE, replies.HTML, [(b"connection", b"close")])


class App(Pages):
    """The ASGI app of a service: the same pages, and the methods as REST."""

    def __init__(
        self, methods: Methods, database: Database, ready: Ready, metrics: Metrics
    ) -> None:
        super().__init__(methods, database, ready, metrics)
        self._transcoder = Transcoder(wire.methods())
        self._received = Room(RECEIVED_MAX_BYTES)
        self._parsed = Room(PARSED_MAX_BYTES)

    async def _rest(self, scope: Scope, receive: Receive) -> Answer:
        """The reply of the method that the request calls, or of the discovery document."""
        headers = _headers(scope)
        body = Body(headers, receive)
        reply = Reply()
        try:
            query = parameters.read(scope["query_string"].decode("latin-1"))
            reply = query.reply(headers)
            verb = _verb(scope, headers)
            if scope["path"] in discovery.PATHS:
                document = _discovery(scope, verb, headers, query)
                return replies.of_json(200, document, reply, _unread(body))
            found = self._transcoder.find(verb, _path(scope))
            # Who calls is asked before anything is read: nobody else can make us keep a body.
            caller = await self._methods.authenticate(found.method, query.with_headers(headers))
            wanted = _Wanted(found, query, reply, headers)
            try:
                call, reply = await self._call(wanted, body)
            except ClientGone:
                self._methods.gave_up(found.method, found.variables, caller)
                raise
            message = await self._methods.perform(call.method, call.request, caller)
            by_size = self._methods.by_size
            return await by_size.run(
                message.ByteSize(), replies.of_message, message, reply, call.mask
            )
        except NoSuchPath:
            return Answer(404, _NOT_FOUND_PAGE, replies.HTML, _unread(body))
        except (Error, Refusal) as error:
            return replies.of_error(error, reply, _unread(body))

    async def _call(self, wanted: _Wanted, body: Body) -> tuple[Call, Reply]:
        by_size = self._methods.by_size
        if await body.read(SMALL_MAX_BYTES):
            return await by_size.run(len(body.data), wanted.called, body.data)
        async with self._received.hold(body.expected_bytes):
            await body.read_all()
            data = body.data
            async with self._parsed.hold(len(data)):
                return await by_size.run(len(data), wanted.called, data)


def _touch(connection: Connection) -> None:
    """Nothing: to have got a write transaction is the proof."""


class _Wanted(NamedTuple):
    """A request but for its body."""

    found: Found
    query: Query
    reply: Reply
    headers: Mapping[str, str]

    def called(self, data: bytes) -> tuple[Call, Reply]:
        """What it calls with this body, and how to reply; a form has more parameters in it."""
        query, reply = self.query, self.reply
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == _FORM and data:
            query = query.joined(parameters.read(data.decode("latin-1")))
            reply = query.reply(self.headers)
            data = b""
        query.check()
        content = Content(data, content_type in _PROTO)
        return self.found.call(query, content, reply.fields), reply


def _verb(scope: Scope, headers: Mapping[str, str]) -> str:
    """A POST can stand for any other method, as where a URL would be too long."""
    verb: str = scope["method"]
    if verb == "POST" and "x-http-method-override" in headers:
        return headers["x-http-method-override"].strip().upper()
    return verb


def _unread(body: Body) -> Headers:
    """The rest of a body may be endless: only a small one is skipped."""
    return () if body.may_be_left else [(b"connection", b"close")]


def _discovery(scope: Scope, verb: str, headers: Mapping[str, str], query: Query) -> Any:
    """The discovery document, in which the API is where the client has found it."""
    if verb != "GET":
        raise WrongVerb(verb, ["GET"])
    version = dict(query.parameters).get("version", discovery.VERSION)
    if version != discovery.VERSION:
        raise NotFound(f"There is no version {version[:100]!r}, only {discovery.VERSION!r}.")
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise InvalidArgument(f"The Host header is no host: {host[:100]!r}.")
    return discovery.document(f"{scope['scheme']}://{host}/")


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _path(scope: Scope) -> str:
    raw: bytes = scope["raw_path"]
    return raw.decode("latin-1")
