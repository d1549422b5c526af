"""The server of the REST app.

uvicorn limits neither a header nor how long a connection may take to send one or to read a reply: a
subclass of its protocol does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from longshore.api.certificates import Certificates
from longshore.api.rest import AsgiApp

HEADER_MAX_BYTES = 64 << 10
HEADER_SECONDS = 10.0
IDLE_SECONDS = 75
UNREAD_SECONDS = 60.0
SHUTDOWN_SECONDS = 3
LAST_SECONDS = 0.5
"""What calls have that were not done by then, to say so."""


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for no header longer than HEADER_SECONDS, takes none of more
    than HEADER_MAX_BYTES, and keeps no reply of which nothing is read for UNREAD_SECONDS."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._stop_watching()
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

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def _watch_reader(self, unread_bytes: int) -> None:
        self._reader_timer = self.loop.call_later(UNREAD_SECONDS, self._look, unread_bytes)

    def _look(self, unread_before_bytes: int) -> None:
        """Abort where nothing has been read since; a mere close would wait for the reader."""
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes < unread_before_bytes:
            self._watch_reader(unread_bytes)
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

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
        if unanswered := set(self.server_state.tasks):
            await asyncio.wait(unanswered, timeout=LAST_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(
    app: AsgiApp, host: str, port: int, certificates: Certificates | None = None
) -> RestServer:
    """A server of ``app`` that listens on ``host``:``port`` (0: a free one, see ``port``), with TLS
    where there are certificates.

    Raises OSError if the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is: else each
    # reply on a kept connection waits 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # who is told the port may connect at once; the server listens anew
    except OSError:
        listener.close()
        raise
    context = certificates and certificates.context()
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
        ssl_context_factory=(lambda *_: context) if context else None,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return RestServer(config, listener)
