"""A server that does to each connection what a script says, byte for byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it came."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


class Peer:
    """The server's end of a connection. Whatever waits for a client that is gone raises EOFError
    or ConnectionError, which end the script."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def head(self) -> Received:
        """The next request without its body."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        headers = [(name, value) for name, _, value in (each.partition(": ") for each in lines)]
        return Received(line=line, headers=headers, body=b"")

    async def request(self) -> Received:
        """The next request."""
        head = await self.head()
        length = {name.lower(): value for name, value in head.headers}.get("content-length", "0")
        body = await self.reader.readexactly(int(length))
        return Received(line=head.line, headers=head.headers, body=body)

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise EOFError  # uvloop would call it an error of its user
        self.writer.write(data)
        await self.writer.drain()

    async def dribble(self, data: bytes, pause_seconds: float = 0) -> None:
        """Send byte by byte."""
        for position in range(len(data)):
            await self.send(data[position : position + 1])
            await asyncio.sleep(pause_seconds)

    async def until_gone(self) -> None:
        """Return when the client has ended the connection."""
        with suppress(ConnectionError, EOFError):
            while await self.reader.read(1 << 16):
                pass

    def reset(self) -> None:
        """End the connection so that the client sees a reset."""
        linger = struct.pack("ii", 1, 0)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Server:
    port: int = 0
    opened: int = 0
    """How many connections there were."""
    peers: set[asyncio.Task[None]] = field(default_factory=set)
    """Scripts that run."""

    async def quiet(self) -> None:
        """Return when every connection has ended."""
        while self.peers:
            await asyncio.wait([*self.peers])


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on 127.0.0.1; ends a connection where its script ends. What a script raises, other
    than that the client is gone, is raised at the end."""
    server = Server()
    failures: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        server.peers.add(task)
        server.opened += 1
        try:
            await script(Peer(server.opened, reader, writer))
        except (ConnectionError, EOFError):
            pass
        except Exception as error:
            failures.append(error)
        finally:
            server.peers.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    listener = await asyncio.start_server(
        serve, "127.0.0.1", ssl=tls, **({"ssl_shutdown_timeout": 1} if tls else {})
    )
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in [*server.peers]:
            task.cancel()
        if server.peers:
            await asyncio.wait([*server.peers])
    if failures:
        raise failures[0]


def always(*replies: bytes) -> Script:
    """Answers every request by the same reply, in these pieces."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for piece in replies:
                await peer.send(piece)
                await asyncio.sleep(0)

    return script
