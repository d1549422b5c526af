"""A bad wire before an S3 service: a proxy that spoils some of the requests that change objects.

What is signed stays as it was: the ``host`` header is passed on unchanged, and a service that is
addressed by paths does not mind whose name is in it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.transport.server import Peer, serving

SHARE = 0.15
"""Of the requests that change objects, how many are spoilt after the first, which always is,"""
TIMES = 2
"""and how often the same one at most, so that no object runs out of tries."""
DELAY_SECONDS = 0.4
DRAG_SECONDS = 10.5
"""A second and a half longer than anybody waits for a reply."""


class Fault(Enum):
    """What befalls a request."""

    DELAYS = "the reply comes late"
    STALLS = "the reply does not come before nobody waits for it any more"
    DRAGS = "the service begins so late that it is done after nobody waits for it any more"
    CUTS_BEFORE = "the connection ends before the request is passed on"
    CUTS_AFTER = "the connection ends with the request done and no reply"
    ABANDONS = "the connection ends while the request is being done"
    HALVES = "the connection ends within the reply"
    RESETS = "the connection is reset with the request done and no reply"
    DOUBLES = "the whole request is sent twice, and the reply to either comes"


LATE = (Fault.STALLS, Fault.DRAGS)
"""Nobody gives up waiting sooner than after nine seconds."""


class Message(NamedTuple):
    """A request or a reply, byte for byte."""

    head: bytes
    body: bytes

    @property
    def first_line(self) -> str:
        return self.head.partition(b"\r\n")[0].decode()

    @property
    def whole(self) -> bytes:
        return self.head + self.body


class Late:
    """A request that the service is still at although its client is gone. One more about the same
    path may overtake it, which finds it undone; any other has to wait, however slow the machine."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self._overtaken = False

    async def pass_by(self) -> None:
        if self._overtaken:
            await self.done.wait()
        self._overtaken = True


class Wire:
    """The proxy. ``fault`` None: it does no harm."""

    def __init__(self, endpoint: str, prefix: str, seed: int) -> None:
        """``prefix``: of the names of the objects whose changes may be spoilt."""
        there = urlsplit(endpoint)
        self._host, self._port = there.hostname, there.port
        self._prefix = prefix
        self._random = Random(seed)
        self._met: Counter[tuple[str, bytes]] = Counter()
        self._late: dict[str, Late] = {}
        self.fault: Fault | None = None
        self.endpoint = ""
        self.spoilt = 0
        """How many requests were."""

    async def serve(self, peer: Peer) -> None:
        """Pass on what comes by one connection, by another one of its own."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        there = Peer(peer.number, reader, writer)
        try:
            while True:
                await self._carry(peer, there)
        finally:
            writer.close()

    async def _carry(self, peer: Peer, there: Peer) -> None:
        request = await _receive(peer)
        path = request.first_line.split(" ")[1].partition("?")[0]
        if (late := self._late.get(path)) is not None:
            await late.pass_by()
        fault = self._fault_of(request)
        if fault is Fault.CUTS_BEFORE:
            raise EOFError
        if fault is Fault.DRAGS:
            await asyncio.sleep(DRAG_SECONDS)
        if fault is Fault.ABANDONS:
            late = self._late[path] = Late()
            await there.send(request.whole)
            peer.reset()
            try:
                await _reply(there, request)
            finally:
                late.done.set()
            raise EOFError
        reply = await _exchange(there, request)
        if fault is Fault.DOUBLES:
            reply = self._random.choice((reply, await _exchange(there, request)))
        if fault is Fault.DELAYS:
            await asyncio.sleep(DELAY_SECONDS)
        elif fault is Fault.STALLS:
            await peer.until_gone()
        elif fault is Fault.CUTS_AFTER:
            raise EOFError
        elif fault is Fault.RESETS:
            peer.reset()
            raise EOFError
        elif fault is Fault.HALVES:
            await peer.send(reply.whole[: len(reply.whole) // 2])
            raise EOFError
        await peer.send(self._passed(request, reply).whole)

    def _passed(self, request: Message, reply: Message) -> Message:
        """What comes of a reply that no fault has befallen."""
        return reply

    def _fault_of(self, request: Message) -> Fault | None:
        method, target, _ = request.first_line.split(" ")
        path = target.partition("?")[0]
        if method in ("GET", "HEAD"):
            return None
        whose = path.partition("/")[2].partition("/")[2]
        named = f"<Key>{self._prefix}".encode() in request.body
        if not (named or whose.startswith(self._prefix)):
            return None
        which = target, request.body
        # One that is so late is enough: everybody waits for it.
        often = self.fault not in LATE and self._random.random() < SHARE
        drawn = often or not self.spoilt
        spoil = drawn and self._met[which] < TIMES
        if self.fault is None or not spoil:
            return None
        self._met[which] += 1
        self.spoilt += 1
        return self.fault


@asynccontextmanager
async def bad_wire(endpoint: str, prefix: str, seed: int) -> AsyncIterator[Wire]:
    """A wire on 127.0.0.1 before the service at ``endpoint``."""
    wire = Wire(endpoint, prefix, seed)
    async with serving(wire.serve) as server:
        wire.endpoint = f"http://127.0.0.1:{server.port}"
        yield wire


async def _receive(peer: Peer, *, bare: bool = False) -> Message:
    """The next message whole; ``bare``: a reply that has no body, whatever its head says."""
    head = await peer.reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    if bare:
        return Message(head, b"")
    if fields.get(b"transfer-encoding") == b"chunked":
        return Message(head, await _chunks(peer))
    return Message(head, await peer.reader.readexactly(int(fields.get(b"content-length", b"0"))))


async def _chunks(peer: Peer) -> bytes:
    """A body in chunks, as it comes."""
    taken = []
    while True:
        line = await peer.reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        taken += [line, await peer.reader.readexactly(size + 2)]
        if not size:
            return b"".join(taken)


async def _exchange(there: Peer, request: Message) -> Message:
    await there.send(request.whole)
    return await _reply(there, request)


async def _reply(there: Peer, request: Message) -> Message:
    bare = request.first_line.startswith("HEAD ")
    while True:
        reply = await _receive(there, bare=bare)
        if " 100 " not in reply.first_line:
            return reply
