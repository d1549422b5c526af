"""Each client once per session, when a test first asks for it, against both transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import grpc
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storagebatchoperations_v1 as sbo

from tests.api.clients import drivers, programs
from tests.api.clients.drivers import METHODS, OVER_HTTP, Client
from tests.api.grpc.conftest import Both, channel, client, project, rest, server
from tests.conftest import need

__all__ = ["channel", "client", "project", "rest", "server"]

CLIENTS = {
    "gcloud": programs.GCLOUD_METHODS,
    "Python REST": OVER_HTTP,
    "Python gRPC": OVER_HTTP,
    "Python asyncio": OVER_HTTP,
    "google-api-python-client": OVER_HTTP,
    "Node": OVER_HTTP,
    "curl": OVER_HTTP,
    "reflection": frozenset(METHODS),
}
"""Who calls, and the methods that it has."""

PROGRAMS = {"gcloud", "Node"}
"""What pip does not install."""


def clients_of(method: str, *, without: str = "") -> pytest.MarkDecorator:
    """Runs a test with each client that has ``method``."""
    having = [name for name, methods in CLIENTS.items() if method in methods and name != without]
    marks = dict.fromkeys(PROGRAMS, pytest.mark.services)
    return pytest.mark.parametrize(
        "caller", [pytest.param(name, marks=marks.get(name, ())) for name in having], indirect=True
    )


@pytest.fixture(scope="session")
def callers(
    server: Both,
    rest: httpx.Client,
    channel: grpc.Channel,
    client: sbo.StorageBatchOperationsClient,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Client]]:
    stack = ExitStack()
    known: dict[str, Client] = {}

    def over_rest() -> Client:
        made = sbo.StorageBatchOperationsClient(
            transport="rest",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": server.url},
        )
        return drivers.Library(stack.enter_context(made))

    def node() -> Client:
        need("node", "npm")
        cache = pytestconfig.cache.mkdir("node")
        return stack.enter_context(programs.node(cache, server.url))

    def gcloud() -> Client:
        need("gcloud")
        return programs.Gcloud(server.url, tmp_path_factory.mktemp("gcloud"))

    def curl() -> Client:
        need("curl")
        return drivers.Curl(server.url)

    make: dict[str, Callable[[], Client]] = {
        "gcloud": gcloud,
        "Python REST": over_rest,
        "Python gRPC": lambda: drivers.Library(client),
        "Python asyncio": lambda: stack.enter_context(
            closing(drivers.AsyncLibrary(server.target, server.grpc.loop))
        ),
        "google-api-python-client": lambda: stack.enter_context(
            closing(drivers.Built(rest.get("/$discovery/rest?version=v1").text))
        ),
        "Node": node,
        "curl": curl,
        "reflection": lambda: drivers.Reflection(channel),
    }

    def get(name: str) -> Client:
        if name not in known:
            known[name] = make[name]()
        return known[name]

    with stack:
        yield get


@pytest.fixture
def caller(request: pytest.FixtureRequest, callers: Callable[[str], Client]) -> Client:
    return callers(request.param)
