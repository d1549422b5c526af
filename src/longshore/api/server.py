"""REST over HTTP: one ASGI app, and the server that runs it.

The limits of the body are kept here, those of the header and of idle connections by a subclass of
uvicorn's protocol, which has none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, ParamSpec, TypeVar

import orjson
import uvicorn
from sqlalchemy import Connection
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from longshore import telemetry
from longshore.api import status, wire
from longshore.api.jobs import Jobs
from longshore.api.json_messages import to_json
from longshore.api.locations import Locations
from longshore.api.operations import Operations
from longshore.api.transcoding import Call, NoSuchPath, Reply, Transcoder, WrongVerb
from longshore.clock import Clock
from longshore.database import Database
from longshore.errors import Code, Error, Internal

P = ParamSpec("P")
T = TypeVar("T")

BODY_MAX_BYTES = 32 << 20
BODY_SECONDS = 60.0
HEADER_MAX_BYTES = 64 << 10
HEADER_SECONDS = 10.0
IDLE_SECONDS = 75
SHUTDOWN_SECONDS = 3
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
    """The ASGI app. Methods are looked up by the names on their descriptors."""

    def __init__(self, database: Database, clock: Clock, ready: Ready, metrics: Metrics) -> None:
        self._database = database
        self._ready = ready
        self._metrics = metrics
        self._transcoder = Transcoder(wire.methods())
        self._servicers: Mapping[str, Any] = {
            wire.SERVICE: Jobs(database, clock),
            wire.OPERATIONS: Operations(database, clock),
            wire.LOCATIONS: Locations(),
        }

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
            return _Answer(200, await self._metrics(), _METRICS)
        try:
            body = await _body(scope, receive)
            return await self._rest(scope, body)
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

    async def _rest(self, scope: Scope, body: bytes) -> _Answer:
        arguments = (scope["method"], _path(scope), scope["query_string"].decode("latin-1"), body)
        call = await _work(len(body), self._transcoder.call, *arguments)
        message = await self.invoke(call)
        return await _work(message.ByteSize(), _printed, message, call.reply)

    async def invoke(self, call: Call) -> Any:
        """The reply message of a method; raises errors.Error."""
        servicer = self._servicers[call.method.containing_service.full_name]
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", call.method.name).lower()
        return await getattr(servicer, name)(call.request)

    async def _readiness(self) -> _Answer:
        await self._database.write(_touch)
        parts = {"database": True, **await self._ready()}
        return _json(200 if all(parts.values()) else 503, parts)


def make_app(database: Database, clock: Clock, ready: Ready, metrics: Metrics) -> AsgiApp:
    """The REST API on ``database``, with ``/healthz``, ``/readyz`` and ``/metrics``.

    ``/healthz`` says that the listener serves and the database can be written, so that jobs can be
    created; ``/readyz`` adds what ``ready()`` says of the parts that run them; ``metrics()`` is in
    the text format of Prometheus.
    """
    return App(database, clock, ready, metrics)


def _touch(connection: Connection) -> None:
    """Nothing: to have got a write transaction is the proof."""


async def _work(size_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``function(*args, **kwargs)``, in a thread if it works on much."""
    if size_bytes > _IN_LOOP_MAX_BYTES:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _printed(message: Any, reply: Reply) -> _Answer:
    return _json(200, to_json(message, enum_numbers=reply.enum_numbers), pretty=reply.pretty)


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
    return _json(*status.http_error(error))


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for no header longer than HEADER_SECONDS and takes none of
    more than HEADER_MAX_BYTES."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is not None:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_MAX_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The header has more than {HEADER_MAX_BYTES} bytes.")

    def _arm(self) -> None:
        self._disarm()
        self._header_bytes = 0
        self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class RestServer(uvicorn.Server):
    """A server on a socket that is bound already; leaves signals alone."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until ``should_exit`` is set."""
        await super().serve(sockets or [self._listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: AsgiApp, host: str, port: int) -> RestServer:
    """A server of ``app`` that listens on ``host``:``port`` (0: a free one, see ``port``).

    Raises OSError if the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is: else each
    # reply on a kept connection waits 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    config = uvicorn.Config(
        app,
        http=_LimitedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return RestServer(config, listener)
