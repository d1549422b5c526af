"""What servers and networks do wrong, and callers who go away."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from longshore.errors import DeadlineExceeded, Unavailable
from longshore.transport import open_transport
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.http import Request, Transport, Unreached
from tests.transport.conftest import PATIENT, Wired
from tests.transport.server import OK, Peer, Script, always, serving

GET = Request("GET", "/bucket/name")
PUT = Request("PUT", "/bucket/name?legal-hold", (), b"<LegalHold/>")
SHORT = Limits(connect_seconds=0.3, reply_seconds=0.3)
PATIENCE_SECONDS = 60


def first(bad: Script) -> Script:
    """The first connection goes by ``bad``, and those after it are all right."""

    async def script(peer: Peer) -> None:
        await (bad if peer.number == 1 else always(OK))(peer)

    return script


async def all_right(transport: Transport) -> None:
    assert (await transport.send(GET)).body == b"ok"


HALVES = {
    "nothing": b"",
    "half a status": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n<a/>",
    "half a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n<a/>",
    "no last chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n<a/>\r\n",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("name", HALVES)
async def test_half_a_reply_is_none_and_nothing_is_sent_twice(
    wired: Wired, name: str, reset: bool
) -> None:
    """On a new connection, and on those that were used before."""
    received = []

    async def script(peer: Peer) -> None:
        if peer.number > 1:
            received.append((await peer.request()).line.split()[0])
            await peer.send(OK)
        received.append((await peer.request()).line.split()[0])
        await peer.send(HALVES[name])
        if reset:
            peer.reset()

    async with wired(script) as (transport, _):
        with pytest.raises(Unavailable) as failed:
            await transport.send(PUT)
        assert not isinstance(failed.value, Unreached)  # it may have been done
        for again in (GET, PUT):
            await all_right(transport)
            with pytest.raises(Unavailable):
                await transport.send(again)
    assert received == ["PUT", "GET", "GET", "GET", "PUT"]


GARBAGE = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
    "another version": b"HTTP/9.7 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a status that is none": b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a header that is none": b"HTTP/1.1 200 OK\r\n\x00\x01\r\ncontent-length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
    b"upgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_is_no_reply(wired: Wired, name: str) -> None:
    async def bad(peer: Peer) -> None:
        await peer.request()
        await peer.send(GARBAGE[name])
        await peer.until_gone()

    async with wired(first(bad)) as (transport, _):
        with pytest.raises(Unavailable):
            await transport.send(GET)
        await all_right(transport)


OTHER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"
AFTER = {
    "with it": (OK + OTHER,),
    "later": (OK, OTHER),
    "half a head": (OK + OTHER[:20],),
    "half a body": (OK + OTHER[:-1],),
    "of none": (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nwrong",),
}


@pytest.mark.parametrize("name", AFTER)
async def test_what_comes_after_a_reply_is_not_the_next_one(
    wired: Wired, kind: str, name: str
) -> None:
    said = asyncio.Event()

    async def bad(peer: Peer) -> None:
        await peer.request()
        for piece in AFTER[name]:
            await peer.send(piece)
            await settled()
        said.set()
        await peer.until_gone()

    async def ask() -> bytes:
        try:
            return (await transport.send(GET)).body
        except (Unavailable, DeadlineExceeded):
            assert kind == "aiohttp"  # which may find that out too late
            return b"ok"

    limits = SHORT if (kind, name) == ("aiohttp", "half a head") else None
    async with wired(first(bad), limits=limits) as (transport, server):
        for _ in range(3):
            assert await ask() in (b"ok", b"")
            await said.wait()
            await settled()
        assert server.opened == 2


async def settled() -> None:
    """Return when what was sent has been read: both ends are in this event loop."""
    for _ in range(10):
        await asyncio.sleep(0.001)


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("pause_seconds", [0.01, 1000])
async def test_a_reply_that_takes_too_long_is_given_up(wired: Wired, pause_seconds: float) -> None:
    async def slow(peer: Peer) -> None:
        await peer.request()
        gone = asyncio.create_task(peer.until_gone())
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not gone.done():
            await peer.send(b"x")
            await asyncio.wait([gone], timeout=pause_seconds)

    async with wired(first(slow), limits=SHORT) as (transport, server):
        with pytest.raises(DeadlineExceeded):
            await transport.send(PUT)
        await server.quiet()  # it does not wait for the rest


async def test_no_reply_at_all_is_given_up(wired: Wired) -> None:
    async def bad(peer: Peer) -> None:
        await peer.request()
        await peer.until_gone()

    async with wired(first(bad), limits=SHORT) as (transport, server):
        with pytest.raises(DeadlineExceeded):
            await transport.send(PUT)
        await server.quiet()


async def test_who_waits_for_a_connection_does_not_wait_for_ever(wired: Wired) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.until_gone()

    async with wired(script, max_connections=1, limits=SHORT) as (transport, server):
        results = await asyncio.gather(
            *(transport.send(GET) for _ in range(3)), return_exceptions=True
        )
        kinds = {type(each) for each in results}
        assert kinds <= {DeadlineExceeded, Unreached, Unavailable}
        assert len(results) == 3
        assert server.opened <= 3  # each that was given up made room


async def test_over_tls_an_end_without_a_farewell_is_no_end_of_a_body(
    kind: str, ca_file: Path, server_tls: ssl.SSLContext
) -> None:
    """Anybody between could have cut it; without TLS nobody can tell."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n<Key>abc</Key>")
        await settled()
        raw = peer.writer.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(raw)) as connection:
            connection.shutdown(socket.SHUT_WR)
        await peer.until_gone()

    async with serving(script, server_tls) as server:
        endpoint = Endpoint.parse(f"https://127.0.0.1:{server.port}", ca_file=ca_file)
        transport = open_transport(endpoint, kind=kind, limits=PATIENT)
        if kind == "lean":
            with pytest.raises(Unavailable):
                await transport.send(GET)
        else:
            assert (await transport.send(GET)).body == b"<Key>abc</Key>"
        await transport.close()
        await server.quiet()


BOMBS = {
    "one header": (b"HTTP/1.1 200 OK\r\nx-a: ", b"a" * 4096),
    "one name": (b"HTTP/1.1 200 OK\r\n", b"a" * 4096),
    "many headers": (b"HTTP/1.1 200 OK\r\n", b"x-a: %b\r\n" % (b"a" * 1000)),
    "status": (b"HTTP/1.1 200 ", b"a" * 4096),
    "body": (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", b"a" * 65536),
    "endless body": (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65536),
    "chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"10000\r\n%b\r\n" % (b"a" * 65536),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_reply_without_end_is_given_up_long_before_memory_is(
    wired: Wired, name: str
) -> None:
    begin, again = BOMBS[name]
    sent = 0

    async def bad(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(begin)
        while True:
            await peer.send(again)
            await asyncio.sleep(0)
            sent += len(again)

    async with wired(first(bad)) as (transport, server):
        with pytest.raises(Unavailable):
            await transport.send(GET)
        await server.quiet()
        most = PATIENT.body_bytes if name.startswith(("body", "endless", "chunks")) else 0
        assert sent < most + (8 << 20)  # which is what the buffers of both ends may hold
        await all_right(transport)


async def test_a_reply_as_large_as_it_may_be_is_read(wired: Wired) -> None:
    body = b"a" * (1 << 20)
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    async with wired(always(reply), limits=replace(PATIENT, body_bytes=1 << 20)) as (
        transport,
        server,
    ):
        assert (await transport.send(GET)).body == body
        assert (await transport.send(GET)).body == body
        assert server.opened == 1


async def test_a_reply_before_the_request_was_sent_is_read_and_ends_the_connection(
    wired: Wired,
) -> None:
    """The rest of the request is not sent: the server would take it for another one."""
    refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 8\r\n\r\n<Error/>"
    rest = []

    async def bad(peer: Peer) -> None:
        await peer.head()
        await peer.send(refusal)
        await asyncio.sleep(0.05)
        count = 0
        while data := await peer.reader.read(1 << 16):
            count += len(data)
        rest.append(count)

    body = bytes(16 << 20)
    async with wired(first(bad)) as (transport, server):
        reply = await transport.send(Request("PUT", "/b/a", (), body))
        assert (reply.status, reply.body) == (403, b"<Error/>")
        await all_right(transport)
        await until(lambda: len(server.peers) == 1)
        assert server.opened == 2
    assert all(count < len(body) for count in rest)


async def test_a_connection_that_ended_while_idle_is_not_used(wired: Wired) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)

    async with wired(script) as (transport, server):
        for count in (1, 2, 3):
            await all_right(transport)
            await server.quiet()
            await settled()
            assert server.opened == count


async def test_connections_that_are_not_needed_are_closed(wired: Wired) -> None:
    async with wired(always(OK), limits=replace(PATIENT, idle_seconds=0.1)) as (transport, server):
        await asyncio.gather(*(all_right(transport) for _ in range(5)))
        assert 1 <= server.opened <= 5
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.quiet()
        await all_right(transport)


async def test_a_thousand_requests_over_64_connections(wired: Wired) -> None:
    """Each gets its own reply, and nobody makes a connection where one is idle."""
    together = peak = 0

    async def script(peer: Peer) -> None:
        nonlocal together, peak
        while True:
            request = await peer.request()
            together += 1
            peak = max(peak, together)
            if hash(request.target) % 3 == 0:
                await asyncio.sleep(0)
            body = request.target.encode()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            together -= 1

    async def lane(numbers: range) -> None:
        for number in numbers:
            reply = await transport.send(Request("GET", f"/{number}"))
            assert reply.body == b"/%d" % number

    async with wired(script) as (transport, server):
        await asyncio.gather(*(lane(range(start, 1000, 100)) for start in range(100)))
        assert server.opened <= 64
        assert peak > 1


async def test_who_is_cancelled_leaves_nothing_for_the_next(wired: Wired) -> None:
    """Its reply goes to nobody, and its connection is free for another."""
    come = asyncio.Event()

    async def bad(peer: Peer) -> None:
        await peer.request()
        come.set()
        await peer.until_gone()

    async with wired(first(bad), max_connections=1) as (transport, server):
        holding = asyncio.create_task(transport.send(GET))
        await come.wait()
        waiting = [asyncio.create_task(transport.send(GET)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        holding.cancel()
        for task in (holding, waiting[0]):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [(await task).body for task in waiting[1:]] == [b"ok", b"ok"]
        assert server.opened == 2


async def test_cancelled_at_any_moment_no_connection_is_lost_or_confused(wired: Wired) -> None:
    async def script(peer: Peer) -> None:
        while True:
            body = (await peer.request()).target.encode()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with wired(script, max_connections=2) as (transport, _):
        for moment in range(60):
            tasks = [
                asyncio.create_task(transport.send(Request("GET", f"/{moment}/{number}")))
                for number in range(4)
            ]
            for _ in range(moment % 30):
                await asyncio.sleep(0)
            tasks[moment % 4].cancel()
            async with asyncio.timeout(PATIENCE_SECONDS):
                results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if isinstance(result, BaseException):
                    assert number == moment % 4
                    assert isinstance(result, asyncio.CancelledError)
                else:
                    assert result.body == b"/%d/%d" % (moment, number)


async def test_closing_ends_what_is_under_way(wired: Wired) -> None:
    """Who waits for a reply, and who waits for a connection; and nothing is sent after it."""
    come = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        come.set()
        await peer.until_gone()

    async with wired(script, max_connections=1) as (transport, server):
        tasks = [asyncio.create_task(transport.send(GET)) for _ in range(3)]
        await come.wait()
        await transport.close()
        await server.quiet()
        sent, *waiting = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in waiting)
        assert type(sent) is Unavailable  # it may have been done
        with pytest.raises(Unreached):
            await transport.send(GET)
        assert server.opened == 1


async def test_a_transport_that_was_not_used_can_be_closed(wired: Wired) -> None:
    async with wired(always(OK)) as (transport, server):
        await transport.close()
        assert server.opened == 0
