"""TLS between a transport and the connection over it.

An event loop's own TLS tries to read once more after each record, which costs an exception, and
does so into a quarter of a megabyte; a connection that waits for one reply needs neither. Nor does
it say farewell and wait for the answer.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

_RECORD_BYTES = 16 << 10
"""The most that one record carries, so that reading so much empties it."""


class Tls(asyncio.Protocol):
    """The protocol of a transport, and the transport of ``upper``, which is told of the connection
    when the server has proven who it is."""

    __slots__ = (
        *("_error", "_incoming", "_open", "_outgoing", "_session", "_transport", "_upper"),
        "shaken",
    )

    def __init__(self, context: ssl.SSLContext, host: str, upper: asyncio.Protocol) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._upper = upper
        self._transport: asyncio.Transport  # from the first, see connection_made
        self._error: Exception | None = None
        self._open = False
        self.shaken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when ``upper`` is connected; raises OSError if it never will be."""

    # For the connection above.

    def write(self, data: bytes) -> None:
        try:
            sent = self._session.write(data)
            while sent < len(data):
                sent += self._session.write(memoryview(data)[sent:])
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._transport.write(self._outgoing.read())

    def abort(self) -> None:
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._shake()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._open:
            self._shake()
            if not self._open:
                return
        try:
            while self._incoming.pending:
                plain = self._session.read(_RECORD_BYTES)
                if not plain:
                    self._upper.eof_received()
                    self.abort()
                    return
                self._upper.data_received(plain)
        except ssl.SSLWantReadError:
            pass  # half a record, or one that is not for us
        except ssl.SSLError as error:
            self._fail(error)
        self._flush()

    def eof_received(self) -> None:
        """An end without the farewell of TLS may be of somebody between: a body that lasts until
        the end is then not whole."""
        if self._open:
            self._open = False
            self._upper.connection_lost(self._error)

    def connection_lost(self, error: Exception | None) -> None:
        error = self._error or error
        if self._open:
            self._open = False
            self._upper.connection_lost(error)
        elif not self.shaken.done():
            self.shaken.set_exception(error or ConnectionError("it ended while shaking hands"))
            self.shaken.exception()  # who was cancelled does not ask for it any more

    def _shake(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # says why
            self._fail(error)
        else:
            self._flush()
            if not self.shaken.done():
                self._open = True
                self._upper.connection_made(cast("asyncio.Transport", self))
                self.shaken.set_result(None)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._transport.close()
