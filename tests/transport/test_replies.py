"""Requests are sent as they are, and replies come back as they were sent, in whatever pieces."""

from __future__ import annotations

import pytest

from longshore.errors import InvalidArgument
from longshore.transport.http import Reply, Request
from tests.transport.conftest import Wired
from tests.transport.server import OK, Peer, Received, always

GET = Request("GET", "/bucket/name")


async def test_a_request_is_sent_as_it_is(wired: Wired) -> None:
    received: list[Received] = []

    async def script(peer: Peer) -> None:
        while True:
            received.append(await peer.request())
            await peer.send(OK)

    target = "/b//./../a%20b%2F+%C3%BC~?list-type=2&prefix=&legal-hold&x=%7E"
    headers = [("x-amz-meta-a", "ü, \t b"), ("authorization", "AWS4 a=b"), ("content-type", "t/x")]
    async with wired(script) as (transport, server):
        await transport.send(Request("PUT", target, headers, b"<a/>"))
        await transport.send(Request("PUT", "/", headers))
        await transport.send(Request("GET", target, headers))
    framed = [("host", f"127.0.0.1:{server.port}"), *headers]
    put, empty, get = received
    assert put.line == f"PUT {target} HTTP/1.1"
    assert put.body == b"<a/>"
    assert _sorted(put) == sorted([*framed, ("content-length", "4")])
    assert _sorted(empty) == sorted([*framed, ("content-length", "0")])
    assert get.line == f"GET {target} HTTP/1.1"
    assert _sorted(get) == sorted(framed)


def _sorted(request: Received) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in request.headers)


@pytest.mark.parametrize(
    "request_",
    [
        Request("PUT", "/b/a", [("x-amz-meta-a", "1\r\nx-evil: 2")]),
        Request("PUT", "/b/a", [("x-amz-meta-a", "1\n x")]),
        Request("PUT", "/b/a", [("x-amz-meta-a", "1\rx")]),
        Request("PUT", "/b/a", [("x-amz-meta-a", "1\0")]),
        Request("PUT", "/b/a", [("x-amz-meta-a\r\nx-evil: 2\r\na", "1")]),
        Request("PUT", "/b/a", [("x-amz-meta-a", "\ud800")]),
        Request("GET", "/b/a HTTP/1.1\r\nx-evil: 2\r\n\r\nGET /b"),
        Request("GET", "/b/a b"),
    ],
)
async def test_nothing_becomes_a_line_of_its_own(wired: Wired, request_: Request) -> None:
    async with wired(always(OK)) as (transport, server):
        with pytest.raises(InvalidArgument):
            await transport.send(request_)
        assert server.opened == 0


REPLIES = {
    "length": (OK, 200, [("content-length", "2")], b"ok"),
    "headers": (
        b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nx-a:2\r\nX-B:  \xc3\xbc  \r\nX-C:\r\n"
        b"Content-Length: 0\r\n\r\n",
        404,
        [("x-a", "1"), ("x-a", "2"), ("x-b", "Ã¼"), ("x-c", ""), ("content-length", "0")],
        b"",
    ),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n1;extension=1\r\nd\r\n00\r\nx-trailer: 1\r\n\r\n",
        200,
        [("transfer-encoding", "chunked")],
        b"abcd",
    ),
    "compressed": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        200,
        [("content-encoding", "gzip"), ("content-length", "3")],
        b"abc",
    ),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, None, b""),
    "no content": (b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n", 204, [("x-a", "1")], b""),
    "not modified": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        304,
        [("content-length", "5")],
        b"",
    ),
    "another region": (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/b/a\r\n"
        b"x-amz-bucket-region: eu-west-1\r\nContent-Length: 8\r\n\r\n<Error/>",
        307,
        [
            ("location", "http://127.0.0.1:1/b/a"),
            ("x-amz-bucket-region", "eu-west-1"),
            ("content-length", "8"),
        ],
        b"<Error/>",
    ),
    "an error that says 200": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n<Error/>",
        200,
        None,
        b"<Error/>",
    ),
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, [("content-length", "2")], b"ok"),
    "102 and 103": (
        b"HTTP/1.1 102 Processing\r\nx-a: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-b: 1\r\n\r\n" + OK,
        200,
        [("content-length", "2")],
        b"ok",
    ),
    "too busy": (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", 503, None, b""),
}


@pytest.mark.parametrize("name", REPLIES)
async def test_a_reply_comes_as_it_was_sent(wired: Wired, name: str) -> None:
    """Whole, byte by byte, and in two pieces; always on the one connection."""
    data, status, headers, body = REPLIES[name]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await peer.request()
        await peer.dribble(data)
        for cut in range(1, len(data), 7):
            await peer.request()
            await peer.send(data[:cut])
            await peer.dribble(data[cut : cut + 1])
            await peer.send(data[cut + 1 :])
        await peer.request()
        await peer.send(OK)

    async with wired(script) as (transport, server):
        for _ in range(2 + len(range(1, len(data), 7))):
            assert_reply(await transport.send(GET), status, headers, body)
        assert (await transport.send(GET)).body == b"ok"
        assert server.opened == 1


def assert_reply(
    reply: Reply, status: int, headers: list[tuple[str, str]] | None, body: bytes
) -> None:
    assert reply.status == status
    assert reply.body == body
    if headers is not None:
        assert [*reply.headers] == headers


HEADS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: 1\r\n\r\n",
    "none": b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: 1\r\n\r\n",
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nx-a: 1\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_has_no_body_whatever_it_says(wired: Wired, name: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if not request.line.startswith("HEAD"):
                await peer.send(OK)
            elif request.target == "/slow":
                await peer.dribble(HEADS[name])
            else:
                await peer.send(HEADS[name])

    async with wired(script) as (transport, _):
        for target in ("/", "/slow", "/"):
            reply = await transport.send(Request("HEAD", target))
            assert (reply.header("x-a"), reply.body) == ("1", b"")
            assert (await transport.send(GET)).body == b"ok"


CLOSING = {
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "close, capital": b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 2\r\n\r\nok",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", CLOSING)
async def test_a_connection_that_is_to_be_closed_is_not_used_again(wired: Wired, name: str) -> None:
    """Though the server leaves it to the client to end it."""
    async with wired(always(CLOSING[name])) as (transport, server):
        for count in (1, 2, 3):
            assert (await transport.send(GET)).body == b"ok"
            assert server.opened == count
        await transport.send(Request("PUT", "/b/a"))
        assert server.opened == 4


async def test_a_head_that_is_to_be_closed_is_closed(wired: Wired) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    async with wired(always(head)) as (transport, server):
        await transport.send(Request("HEAD", "/"))
        await transport.send(Request("HEAD", "/"))
        assert server.opened == 2


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_without_a_length_lasts_until_the_end(wired: Wired, version: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(f"HTTP/{version} 200 OK\r\nx-a: 1\r\n\r\n<a>".encode())
        await peer.dribble(b"bc</a>")

    async with wired(script) as (transport, server):
        for count in (1, 2):
            reply = await transport.send(GET)
            assert (reply.header("x-a"), reply.body) == ("1", b"<a>bc</a>")
            assert server.opened == count


async def test_large_bodies_both_ways(wired: Wired) -> None:
    body = bytes(range(256)) * (8 << 12)  # 8 MiB

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            length = len(request.body)
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
            await peer.send(request.body)

    async with wired(script) as (transport, server):
        for _ in range(2):
            reply = await transport.send(Request("PUT", "/b/a", (), body))
            assert reply.body == body
        assert server.opened == 1
