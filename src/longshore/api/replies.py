"""What is sent back: a message, an error or a page, in the form that the caller wants it in."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from longshore.api import partial, status, wire
from longshore.api.json_messages import to_json
from longshore.api.parameters import Reply
from longshore.api.partial import Mask
from longshore.api.status import Headers, Refusal
from longshore.errors import Error

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
TEXT = "text/plain; charset=UTF-8"
PROTO = "application/x-protobuf"

GZIP_MIN_BYTES = 14 << 10
"""Less is not worth the processor's time: it fits into the packets that a new connection may send
without waiting for an acknowledgement."""
_GZIP_LEVEL = 1

_HEADERS = [
    (b"cache-control", b"private"),
    (b"vary", b"Accept-Encoding, Origin, X-Origin, Referer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-xss-protection", b"0"),
]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Answer:
    """An HTTP reply that is yet to be sent."""

    def __init__(
        self, http: int, body: bytes, content_type: str = JSON, headers: Headers = ()
    ) -> None:
        self.http = http
        self.body = body
        self.headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *_HEADERS,
            *headers,
        ]

    async def send(self, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.http, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def of_message(message: Any, reply: Reply, mask: Mask | None) -> Answer:
    """The reply of a method; what ``mask`` leaves of it. May change ``message``."""
    if reply.proto:
        partial.of_message(message, mask)
        return _proto(200, message, reply, ())
    value = partial.of_json(to_json(message, enum_numbers=reply.enum_numbers), mask)
    return _packed(200, _dumped(value, reply.pretty), JSON, reply, ())


def of_error(error: Error | Refusal, reply: Reply, headers: Headers = ()) -> Answer:
    """An error, as a google.rpc.Status or in Google's envelope."""
    if isinstance(error, Refusal):
        http, error_status = error.http, error.status
        headers = [*error.headers, *headers]
    else:
        http, error_status = status.HTTP[error.code], status.to_status(error)
        if challenge := status.challenge(error):
            headers = [(b"www-authenticate", challenge.encode()), *headers]
    if reply.proto:
        return _proto(http, error_status, reply, headers)
    value = status.envelope(http, error_status, legacy=reply.legacy_errors)
    return _packed(http, _dumped(value, reply.pretty), JSON, reply, headers)


def of_json(http: int, value: Any, reply: Reply, headers: Headers = ()) -> Answer:
    """Plain data."""
    return _packed(http, _dumped(value, reply.pretty), JSON, reply, headers)


def _dumped(value: Any, pretty: bool) -> bytes:
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(value, option=option)


def _proto(http: int, message: Any, reply: Reply, headers: Headers) -> Answer:
    return _packed(http, wire.to_published(message), PROTO, reply, headers)


def _packed(http: int, body: bytes, content_type: str, reply: Reply, headers: Headers) -> Answer:
    if reply.gzip and len(body) >= GZIP_MIN_BYTES:
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers = [*headers, (b"content-encoding", b"gzip")]
    return Answer(http, body, content_type, headers)
