"""Finding a server, and being sure that it is the one."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from longshore.errors import DeadlineExceeded, InvalidArgument, Unavailable
from longshore.settings import Settings, StoreSettings
from longshore.store import Stores
from longshore.transport import open_transport
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.http import Reply, Request, Unreached
from tests.transport.conftest import PATIENT
from tests.transport.server import OK, Peer, always, serving

GET = Request("GET", "/bucket/name")


async def ask(endpoint: Endpoint, kind: str, limits: Limits | None = None) -> Reply:
    transport = open_transport(endpoint, kind=kind, limits=limits or PATIENT)
    try:
        return await transport.send(GET)
    finally:
        await transport.close()


def secure(port: int, host: str = "127.0.0.1", **options: Any) -> Endpoint:
    return Endpoint.parse(f"https://{host}:{port}", **options)


@pytest.mark.parametrize("lease_seconds", [2.0, 21.0, 30.0, 3600.0])
def test_no_call_has_an_effect_after_the_engine_takes_it_for_ended(lease_seconds: float) -> None:
    call_seconds = Settings(lease_seconds=lease_seconds).call_seconds
    limits = Limits.within(call_seconds)
    assert limits.reply_seconds * 1.1 <= call_seconds <= lease_seconds / 3
    assert limits.connect_seconds < limits.reply_seconds
    assert limits == Limits() or lease_seconds < 30


@pytest.mark.parametrize("service", ["s3", "gs"])
async def test_a_store_waits_no_longer_than_leases_allow(service: str, tmp_path: Path) -> None:
    options = {"s3": {"access_key": "a", "secret_key": "b"}, "gs": {"anonymous": True}}[service]

    async def script(peer: Peer) -> None:
        await peer.until_gone()

    async with serving(script) as server:
        given = {"endpoint": f"http://127.0.0.1:{server.port}", **options}
        main = StoreSettings(name="main", kind=service, options=given)
        settings = Settings(data_dir=tmp_path, lease_seconds=2, stores={"main": main})
        stores = Stores(settings)
        try:
            with pytest.raises(DeadlineExceeded, match=r"no whole reply within 0\.6 s"):
                await stores.open("main").get_bucket("bucket")
        finally:
            await stores.close()


async def test_a_server_that_is_not_trusted_gets_nothing(
    kind: str, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        received.append(await peer.reader.read(100))

    async with serving(script, server_tls) as server:
        for ca_file in (other, None):
            with pytest.raises(Unreached, match="certificate verify failed"):
                await ask(secure(server.port, ca_file=ca_file), kind)
    assert b"".join(received) == b""


async def test_a_server_of_another_name_gets_nothing(
    kind: str, authority: trustme.CA, ca_file: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    async with serving(always(OK), context) as server:
        with pytest.raises(Unreached, match="certificate verify failed"):
            await ask(secure(server.port, ca_file=ca_file), kind)


async def test_the_frightening_flag_takes_every_server(
    kind: str, server_tls: ssl.SSLContext
) -> None:
    async with serving(always(OK), server_tls) as server:
        endpoint = secure(server.port, dangerously_skip_tls_verification=True)
        assert (await ask(endpoint, kind)).body == b"ok"


def test_a_context_is_made_once(ca_file: Path) -> None:
    contexts = {secure(port, ca_file=ca_file).tls() for port in (1, 2, 1)}
    assert len(contexts) == 1
    assert contexts != {secure(1).tls()}
    assert Endpoint.parse("http://127.0.0.1").tls() is None


def test_a_ca_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    for _ in range(2):
        with pytest.raises(InvalidArgument, match=r"none\.pem"):
            open_transport(secure(1, ca_file=path))
        path.write_text("no certificate")


async def test_nobody_listens(kind: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Unreached):
            await ask(Endpoint.parse(f"http://127.0.0.1:{port}"), kind)


async def test_a_server_that_does_not_shake_hands_is_given_up(kind: str, ca_file: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_gone()

    limits = replace(PATIENT, connect_seconds=0.3)
    async with serving(script) as server:
        with pytest.raises(Unreached):
            await ask(secure(server.port, ca_file=ca_file), kind, limits)
        await server.quiet()


async def test_a_server_that_hangs_up_instead_of_shaking_hands(kind: str, ca_file: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)

    async with serving(script) as server:
        with pytest.raises(Unreached):
            await ask(secure(server.port, ca_file=ca_file), kind)


async def test_connecting_ends_when_the_transport_is_closed(kind: str, ca_file: Path) -> None:
    come = asyncio.Event()

    async def script(peer: Peer) -> None:
        come.set()
        await peer.until_gone()

    async with serving(script) as server:
        transport = open_transport(secure(server.port, ca_file=ca_file), kind=kind, limits=PATIENT)
        task = asyncio.create_task(transport.send(GET))
        await come.wait()
        await transport.close()
        with pytest.raises(Unavailable):
            await task
        await server.quiet()


async def test_every_address_is_tried(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a name that has three, of which only one takes connections."""
    loop = asyncio.get_running_loop()
    lookups = []
    real = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> list[Any]:
        if host not in ("three.example", b"three.example"):
            return await real(host, port, **options)
        lookups.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1", "127.0.0.3")
        ]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with serving(always(OK)) as server:
        endpoint = Endpoint.parse(f"http://three.example:{server.port}")
        transport = open_transport(endpoint, kind=kind, limits=PATIENT)
        replies = await asyncio.gather(*(transport.send(GET) for _ in range(8)))
        assert [reply.body for reply in replies] == [b"ok"] * 8
        await transport.close()
        await server.quiet()
    assert len(lookups) == 1


async def test_a_name_without_an_address(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(Unreached):
        await ask(Endpoint.parse("http://none.example:1"), kind)


async def test_aiohttp_goes_through_a_proxy_and_only_through_the_one_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = []

    async def script(peer: Peer) -> None:
        lines.append((await peer.request()).line)
        await peer.send(OK)

    far = Endpoint.parse("http://far.example")
    async with serving(script) as server, serving(always(OK)) as other:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{other.port}")
        proxy = f"http://127.0.0.1:{server.port}"
        transport = open_transport(far, kind="aiohttp", limits=PATIENT, proxy=proxy)
        assert (await transport.send(GET)).body == b"ok"
        await transport.close()
        assert other.opened == 0
    assert lines == ["GET http://far.example/bucket/name HTTP/1.1"]
    with pytest.raises(InvalidArgument, match="proxy"):
        open_transport(far, proxy=proxy)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://rgw.example", "rgw.example"),
        ("https://rgw.example:443/", "rgw.example"),
        ("http://rgw.example:443", "rgw.example:443"),
        ("http://RGW.example:80", "rgw.example"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_endpoint_says_what_is_signed_as_host(url: str, authority: str) -> None:
    assert Endpoint.parse(url).authority == authority


@pytest.mark.parametrize(
    "url",
    [
        *("", "rgw.example", "rgw.example:443", "ftp://rgw.example", "https://", "https://:443"),
        *("https://a@rgw.example", "https://rgw.example/s3", "https://rgw.example?a=b"),
        *("https://rgw.example:port", "https://rgw.example:99999", "https://[::1"),
    ],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="endpoint"):
        Endpoint.parse(url)


def test_a_transport_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="lean, aiohttp"):
        open_transport(Endpoint.parse("http://127.0.0.1"), kind="curl")


def test_our_own_connections_need_no_aiohttp() -> None:
    code = """
import sys
from longshore.transport.endpoint import Endpoint
from longshore.transport import open_transport
open_transport(Endpoint.parse("http://127.0.0.1"))
print("aiohttp" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
