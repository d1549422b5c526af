"""One HTTP/1.1 connection: a request, its reply, and then the next."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import cast

import httptools

from longshore.errors import Error, Unavailable
from longshore.transport.endpoint import Limits
from longshore.transport.http import Reply

_SMALL_BYTES = 16 << 10
"""A request of this size is in the socket's buffer before its reply can come."""

_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)

_names: dict[bytes, str] = {}
"""Names of headers as servers write them → in lower case; bounded by ``_lower``."""


def _lower(name: bytes) -> str:
    text = name.decode("latin-1").lower()
    if len(_names) < 1000:
        _names[name] = text
    return text


class Connection(asyncio.Protocol):
    """Carries one request at a time. What ends it ends the request on it with Unavailable.

    ``ready`` is called when it can take another request, ``gone`` once when it never will again.
    """

    __slots__ = (
        *("deadline", "idle_since", "ended", "_url", "_limits", "_ready", "_gone"),
        *("_loop", "_transport", "_socket", "_future", "_head_only", "_large", "_parser"),
        "_status",
        *("_headers", "_pieces", "_read_bytes", "_body_begun", "_complete", "_reusable"),
    )

    def __init__(
        self,
        url: str,
        limits: Limits,
        ready: Callable[[Connection], None],
        gone: Callable[[Connection], None],
    ) -> None:
        self.deadline = 0.0
        self.idle_since = 0.0
        self.ended = asyncio.Event()
        self._ready = ready
        self._gone: Callable[[Connection], None] | None = gone
        self._url = url
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport  # from the first, see connection_made
        self._future: asyncio.Future[Reply] | None = None
        self._head_only = self._large = False
        self._parser = httptools.HttpResponseParser(self)
        self._rewind()

    def _rewind(self) -> None:
        """Be ready for the next reply."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._read_bytes = 0
        self._body_begun = self._complete = False
        self._reusable = True
        self._status = 0

    # For the pool.

    def start(self, request: bytes, *, head_only: bool, deadline: float) -> asyncio.Future[Reply]:
        """Send; the future of the reply. One that is waited for no more is to be ``abandon``ed."""
        self.deadline = deadline
        self._head_only = head_only
        self._large = len(request) > _SMALL_BYTES
        future = self._future = self._loop.create_future()
        self._transport.write(request)
        return future

    def abandon(self, future: asyncio.Future[Reply]) -> None:
        """Nobody waits for this reply: where it has not come, the connection is of no more use."""
        if self._future is future:
            self._future = None
            self.drop()

    @property
    def busy(self) -> bool:
        return self._future is not None

    @property
    def alive(self) -> bool:
        return self._gone is not None

    def quiet(self) -> bool:
        """Whether nothing has come that the event loop has not told yet, such as the end."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def fail(self, error: Error) -> None:
        """End the connection, and with this error what is under way."""
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_exception(error)
        self.drop()

    def drop(self) -> None:
        """End the connection at once; a farewell of TLS would have to be waited for."""
        self._transport.abort()
        self._leave()

    def _leave(self) -> None:
        gone, self._gone = self._gone, None
        if gone is not None:
            gone(self)

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        if self._future is None:
            self.drop()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._reusable = False
            if not self._complete:
                self._broken(f"a reply that is not HTTP: {error}")
                return
        if self._complete:
            self._finish()
            return
        if _QUICK_ACK is not None:
            # Ceph sends a head, and its body only once that is acknowledged (Nagle), for which a
            # kernel otherwise takes 40 ms. It has to be said each time anew.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        self._read_bytes += len(data)
        limits = self._limits
        if self._read_bytes > limits.head_bytes and not self._body_begun:
            self._broken(f"a reply with a head of more than {limits.head_bytes} bytes")
        elif self._read_bytes > limits.head_bytes + limits.body_bytes:
            self._broken(f"a reply of more than {limits.body_bytes} bytes")

    def eof_received(self) -> None:
        if self._future is not None and self._body_begun and self._until_eof():
            self._reusable = False
            self._finish()
        else:
            self._ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(error)
        self.ended.set()

    def _ended(self, error: Exception | None) -> None:
        why = f" ({error})" if error else ""
        when = "within the reply" if self._read_bytes else "before a reply"
        self._broken(f"the connection ended {when}{why}")

    # For the parser.

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False  # two replies to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._body_begun:  # else it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        self._body_begun = True
        if self._head_only:
            self._complete = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._reusable = False
        else:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if not self._body_begun:
            self._headers = []  # of a 1xx: the reply is still to come
        elif not self._complete:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()

    def _until_eof(self) -> bool:
        return not any(
            name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers
        )

    def _finish(self) -> None:
        """The reply is whole."""
        future, self._future = self._future, None
        pieces = self._pieces
        headers = [
            (_names.get(name) or _lower(name), value.rstrip().decode("latin-1"))
            for name, value in self._headers
        ]
        if self._head_only and self._reusable:
            # The parser says nothing of this before a body, of which there is none.
            self._reusable = self._parser.get_http_version() == "1.1" and not any(
                name == "connection" and "close" in value.lower() for name, value in headers
            )
        body = b"" if not pieces else pieces[0] if len(pieces) == 1 else b"".join(pieces)
        reply = Reply(self._status, headers, body)
        if not self._reusable or (self._large and self._transport.get_write_buffer_size()):
            self.drop()  # also what replied before it had the request, whose rest is not wanted
        else:
            self._next()
            self._ready(self)
        if future is not None and not future.done():
            future.set_result(reply)

    def _next(self) -> None:
        if self._head_only:  # the parser waits for a body
            self._parser = httptools.HttpResponseParser(self)
        self._rewind()

    def _broken(self, how: str) -> None:
        self.fail(Unavailable(f"{self._url}: {how}."))
