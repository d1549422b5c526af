"""What a client may cost: on real sockets, with clients that are slow, huge, many or gone."""

from __future__ import annotations

import asyncio
import gzip
import select
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import orjson
import pytest

from longshore.api import bodies
from longshore.api import server as rest_server
from longshore.api.bodies import BODY_MAX_BYTES, SMALL_MAX_BYTES, Room
from longshore.api.rest import RECEIVED_MAX_BYTES
from longshore.errors import ResourceExhausted
from tests.api.conftest import Project, Server, delete_job

JOBS = "/v1/projects/p/locations/global/jobs"


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.rest.port), timeout=60)


def head(verb: str, path: str, *headers: str) -> bytes:
    lines = [f"{verb} {path} HTTP/1.1", "host: h", *headers, "", ""]
    return "\r\n".join(lines).encode()


def received(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            data += more
    return data


def trickle(connection: socket.socket, piece: bytes) -> bytes:
    """Send ``piece`` again and again until the server ends it; gives what it says."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while not select.select([connection], [], [], 0.01)[0]:
            connection.sendall(piece)
    return received(connection)


def one_reply(connection: socket.socket) -> tuple[int, bytes]:
    """The next reply on a kept connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    top, _, body = data.partition(b"\r\n\r\n")
    [length] = [
        int(line.partition(b":")[2])
        for line in top.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    while len(body) < length:
        body += connection.recv(65536)
    return int(top.split()[1]), body


def test_a_header_of_60_megabytes(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head("GET", "/healthz")[:-2])
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError):
            while sent < 60_000_000:
                sent += connection.send(b"x: " + b"y" * 65_000 + b"\r\n")
        assert sent < 20_000_000  # what the kernel's buffers take, and no more
        assert not received(connection).startswith(b"HTTP/1.1 200")


def test_a_header_that_trickles(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_server, "HEADER_SECONDS", 0.2)
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        assert trickle(connection, b"y") == b""


def test_a_kept_connection_that_is_idle(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.rest.config, "timeout_keep_alive", 0.1)
    with connect(server) as connection:
        connection.sendall(head("GET", JOBS))
        assert one_reply(connection)[0] == 200
        assert received(connection) == b""


def test_a_body_that_trickles(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    for start in (b"{", b" " * (SMALL_MAX_BYTES + 1)):
        with connect(server) as connection:
            connection.sendall(head("POST", JOBS, f"content-length: {BODY_MAX_BYTES}") + start)
            reply = trickle(connection, b" ")
            assert reply.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in reply


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /heal",
        head("POST", JOBS, "content-length: 9") + b"{",
        head("POST", JOBS, f"content-length: {BODY_MAX_BYTES}") + b" " * (SMALL_MAX_BYTES + 1),
        head("POST", JOBS, "transfer-encoding: chunked") + b"5\r\n{",
    ],
)
def test_a_client_that_is_half_gone(server: Server, sent: bytes) -> None:
    """It has closed its side within a request: nothing of it stays."""
    with connect(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == b""


def test_a_reply_that_nobody_reads(
    server: Server, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept in memory for as long as it is being read, and then no longer."""
    monkeypatch.setattr(rest_server, "UNREAD_SECONDS", 0.2)
    prefixes = [f"{number:04}" + "x" * 900 for number in range(1000)]
    body = delete_job()
    body["bucketList"]["buckets"][0]["prefixList"]["includedObjectPrefixes"] = prefixes
    for job_id in "abcdefgh":
        project.create(job_id, body)
    before = len(server.rest.server_state.connections)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.rest.port))
        connection.settimeout(60)
        connection.sendall(head("GET", f"/v1/{project.parent}/jobs"))
        assert connection.recv(12) == b"HTTP/1.1 200"
        deadline = time.monotonic() + 60
        while len(server.rest.server_state.connections) > before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # No more comes than the kernel had taken: the reply is cut off.
        assert len(received(connection)) < 7_000_000


def test_a_body_of_the_largest_size(project: Project) -> None:
    job = orjson.dumps(delete_job())
    body = job + b" " * (BODY_MAX_BYTES - len(job))
    assert project.call("POST", "/jobs?jobId=j", content=body).status_code == 200
    packed = {"content-encoding": "gzip"}
    done = project.call("POST", "/jobs?jobId=k", content=gzip.compress(body, 1), headers=packed)
    assert done.status_code == 200


@pytest.mark.parametrize(
    ("length", "kept"),
    [(f"content-length: {SMALL_MAX_BYTES}", True), ("transfer-encoding: chunked", False)],
)
@pytest.mark.parametrize("path", [f"{JOBS}?x=%FF", f"{JOBS}/j", "/none", "/$discovery/rest"])
def test_a_small_body_that_is_not_read_costs_no_connection(
    server: Server, path: str, length: str, kept: bool
) -> None:
    with connect(server) as connection:
        connection.sendall(head("POST", path, length))
        assert one_reply(connection)[0] in (400, 404, 405)
        if kept:
            connection.sendall(b" " * SMALL_MAX_BYTES + head("GET", JOBS))
            assert one_reply(connection)[0] == 200
        else:
            assert received(connection) == b""


def test_a_gzip_that_grows_too_large(project: Project) -> None:
    bomb = gzip.compress(b" " * (BODY_MAX_BYTES + 1), 1)
    response = project.call("POST", "/jobs", content=bomb, headers={"content-encoding": "gzip"})
    assert response.status_code == 413
    assert response.json()["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_small_requests_wait_for_no_large_one(server: Server, project: Project) -> None:
    """All the room for large bodies is taken by clients that do not go on."""
    large = head("POST", JOBS, f"content-length: {BODY_MAX_BYTES}") + b" " * (SMALL_MAX_BYTES + 1)
    stuck = [connect(server) for _ in range(RECEIVED_MAX_BYTES // BODY_MAX_BYTES)]
    for connection in stuck:
        connection.sendall(large)
    app: Any = server.rest.config.loaded_app
    deadline = time.monotonic() + 60
    while app._received._free:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with connect(server) as late:
        body = orjson.dumps(delete_job()) + b" " * SMALL_MAX_BYTES
        url = f"/v1/{project.parent}/jobs?jobId=late"
        late.sendall(head("POST", url, f"content-length: {len(body)}") + body)
        for number in range(20):
            project.create(f"small-{number}")
        assert not select.select([late], [], [], 0)[0]
        stuck[0].close()
        assert one_reply(late)[0] == 200
    for connection in stuck:
        connection.close()


async def test_room_is_had_in_turn() -> None:
    room = Room(10)
    order = []

    async def want(name: str, size: int) -> None:
        async with room.hold(size):
            order.append(name)
            await asyncio.sleep(0)

    async with room.hold(8):
        waiting = [asyncio.create_task(want(*one)) for one in (("big", 10), ("small", 1))]
        await asyncio.sleep(0.01)
        assert order == []  # the small one would fit, but came later
    await asyncio.gather(*waiting)
    assert order == ["big", "small"]


async def test_room_comes_back_from_who_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(10)
    async with room.hold(10):
        waiting = asyncio.create_task(AsyncExitStack().enter_async_context(room.hold(1)))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
        with pytest.raises(ResourceExhausted):
            async with room.hold(1):
                pass
    async with room.hold(10):
        pass


@pytest.fixture
def many(server: Server) -> Iterator[list[socket.socket]]:
    connections = [connect(server) for _ in range(200)]
    yield connections
    for connection in connections:
        connection.close()


def test_connections_that_send_nothing_hinder_nobody(
    many: list[socket.socket], rest: httpx.Client, project: Project
) -> None:
    assert len(many) == 200
    assert project.ok("GET", "/jobs") == {}
    assert rest.get("/healthz").status_code == 200
