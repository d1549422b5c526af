"""Both transports, with TLS and without; our own on both event loops, since it is close to them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trustme
import uvloop

from longshore.transport import KINDS, open_transport
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.http import Transport
from tests.transport.server import Script, Server, serving


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not {"aiohttp", "uvloop"} <= {*_words(item)}]


def _words(item: pytest.Item) -> list[str]:
    """The ids of the parameters of a test."""
    return item.name.partition("[")[2].removesuffix("]").split("-")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


PATIENT = Limits(connect_seconds=60, reply_seconds=60, idle_seconds=60)
"""For tests that are not about time, on machines that have much else to do."""

Wired = Callable[..., AbstractAsyncContextManager[tuple[Transport, Server]]]


@pytest.fixture(params=["plain", "tls"])
def wired(
    request: pytest.FixtureRequest, kind: str, ca_file: Path, server_tls: ssl.SSLContext
) -> Wired:
    """``wired(script, max_connections=…, limits=…)``: a server of that script, and a transport to
    it that is closed at the end."""
    secure = request.param == "tls"

    @asynccontextmanager
    async def wired(
        script: Script, max_connections: int = 64, limits: Limits | None = None
    ) -> AsyncIterator[tuple[Transport, Server]]:
        async with serving(script, server_tls if secure else None) as server:
            url = f"{'https' if secure else 'http'}://127.0.0.1:{server.port}"
            transport = open_transport(
                Endpoint.parse(url, ca_file=ca_file),
                kind=kind,
                max_connections=max_connections,
                limits=limits or PATIENT,
            )
            try:
                yield transport, server
            finally:
                await transport.close()
                await asyncio.wait_for(server.quiet(), 30)

    return wired
