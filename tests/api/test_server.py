"""HTTP itself: health, limits, and what a bug looks like from outside."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import orjson
import pytest
from sqlalchemy import update

from longshore.api import bodies
from longshore.api import server as rest_server
from longshore.database import Database
from longshore.database.tables import jobs
from tests.api.conftest import Clock, Project, Server, delete_job


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.rest.port), timeout=30)


def received(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def test_healthz(rest: httpx.Client) -> None:
    response = rest.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


def test_readyz_says_which_part_is_not(server: Server, rest: httpx.Client) -> None:
    response = rest.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"database": True, "workers": True})
    server.parts["workers"] = False
    response = rest.get("/readyz")
    server.parts["workers"] = True
    assert (response.status_code, response.json()) == (503, {"database": True, "workers": False})


class Waiting(Server):
    """A server whose workers are never done with saying whether they are ready."""

    asked = threading.Event()

    async def _ready(self) -> Mapping[str, bool]:
        self.asked.set()
        return await asyncio.Future()


def test_a_call_that_outlasts_its_server_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that waits for a database which is down; a client asks another server then."""
    monkeypatch.setattr(rest_server, "SHUTDOWN_SECONDS", 1)
    ending = Waiting(Database(tmp_path / "longshore.sqlite"), Clock())
    ending.start()
    with ThreadPoolExecutor() as beside:
        waiting = beside.submit(httpx.get, f"{ending.url}/readyz", timeout=30, trust_env=False)
        assert ending.asked.wait(30)
        ending.stop()
        reply = waiting.result()
    assert reply.status_code == 503
    assert reply.json()["error"]["status"] == "UNAVAILABLE"


def test_headers_of_a_reply(project: Project) -> None:
    headers = project.call("GET", "/jobs").headers
    assert headers["content-type"] == "application/json; charset=UTF-8"
    assert headers["cache-control"] == "private"
    assert headers["x-content-type-options"] == "nosniff"


def test_pretty_print_is_the_default(project: Project) -> None:
    assert project.call("GET", "/jobs").text == "{}\n"
    plain = project.call("GET", project.parent).text
    assert plain.startswith('{\n  "name": ')
    assert project.call("GET", f"{project.parent}?prettyPrint=false").text.startswith('{"name":')


def test_any_credentials_are_ignored(project: Project) -> None:
    headers = {"authorization": "Bearer nothing", "x-goog-api-key": "k", "x-goog-api-client": "c"}
    assert project.ok("GET", "/jobs", headers=headers) == {}


def test_a_body_that_is_announced_too_large(server: Server) -> None:
    with connect(server) as connection:
        length = bodies.BODY_MAX_BYTES + 1
        head = ["POST /v1/projects/p/locations/global/jobs HTTP/1.1", "host: h"]
        head.append(f"content-length: {length}")
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        reply = received(connection)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert orjson.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == 413


def test_a_body_that_grows_too_large(server: Server, project: Project) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * (1 << 20)

    # The reply may come with the connection's end, while the client still writes.
    try:
        response = project.call("POST", "/jobs", content=endless())
    except httpx.TransportError:
        pass
    else:
        assert response.status_code == 413
    assert project.ok("GET", "/jobs") == {}


def test_a_body_that_does_not_arrive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    with connect(server) as connection:
        head = ["POST /v1/projects/p/locations/global/jobs HTTP/1.1", "host: h"]
        connection.sendall("\r\n".join([*head, "content-length: 9", "", "{"]).encode())
        assert received(connection).startswith(b"HTTP/1.1 408 ")


def test_a_large_body_is_read(project: Project) -> None:
    prefixes = [f"{n:04}" + "x" * 900 for n in range(1000)]
    body = delete_job()
    body["bucketList"]["buckets"][0]["prefixList"]["includedObjectPrefixes"] = prefixes
    project.create("j", body)
    assert project.ok("GET", "/jobs/j")["bucketList"] == body["bucketList"]


def test_a_header_that_never_ends(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        try:
            for _ in range(100):
                connection.sendall(b"x-filler: " + b"y" * 4000 + b"\r\n")
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert not received(connection).startswith(b"HTTP/1.1 200")


def test_a_connection_that_sends_nothing_is_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_server, "HEADER_SECONDS", 0.05)
    for start in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\n\r\nGET /he"):
        with connect(server) as connection:
            connection.sendall(start)
            received(connection)  # ends, or the socket's timeout fails the test


def test_what_is_no_http(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01nonsense\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_an_internal_error_is_logged_once_and_tells_the_client_nothing(
    server: Server, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """The bug here is a job's row that nobody could have written."""
    project.create("j")
    broken = update(jobs).where(jobs.c.project == project.id).values(message=b"no zstd")
    server.write(lambda connection: connection.execute(broken))
    with caplog.at_level(logging.ERROR, "longshore"):
        headers = {"authorization": "Bearer secret"}
        error = project.error("GET", "/jobs/j?access_token=secret", headers=headers)
    assert (error["code"], error["status"]) == (500, "INTERNAL")
    assert "zstd" not in error["message"].lower()
    (record,) = [one for one in caplog.records if one.name == "longshore"]
    assert record.exc_info is not None
    assert project.job_name("j") in record.getMessage()
    assert "secret" not in caplog.text


def test_replies_on_a_kept_connection_are_not_held_back(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        accepted = [one.transport for one in server.rest.server_state.connections]
        assert accepted
        for transport in accepted:
            peer = transport.get_extra_info("socket")
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_an_error(server: Server) -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    with pytest.raises(OSError, match="in use"):
        rest_server.make_server(app, "127.0.0.1", server.rest.port)
