"""Both transports over one database, with the machine's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storagebatchoperations_v1 as sbo

from longshore.api.auth import Auth
from longshore.api.certificates import Certificates
from longshore.api.grpc_server import GrpcServer
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database
from tests.api.conftest import Project, Server


class Both(Server):
    """The REST server, and the gRPC server of the same methods."""

    def __init__(
        self,
        where: Path | str,
        certificates: Certificates | None = None,
        auth: Auth | None = None,
    ) -> None:
        super().__init__(Database(where), SYSTEM_CLOCK, auth, certificates)
        self.where = where
        self.grpc = GrpcServer(self.methods, "127.0.0.1", 0, certificates)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc.port}"

    def start(self) -> None:
        super().start()
        self.grpc.start()

    def stop(self) -> None:
        self.grpc.stop()
        super().stop()


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str | None]
) -> Iterator[Both]:
    where = new_database() or tmp_path_factory.mktemp("grpc") / "longshore.sqlite"
    running = Both(where)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def rest(server: Both) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def project(server: Both, rest: httpx.Client) -> Project:
    return Project(server, rest)


@pytest.fixture(scope="session")
def channel(server: Both) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(
        server.target, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield channel


@pytest.fixture(scope="session")
def client(channel: grpc.Channel) -> sbo.StorageBatchOperationsClient:
    transport = sbo.StorageBatchOperationsClient.get_transport_class("grpc")
    return sbo.StorageBatchOperationsClient(
        transport=transport(channel=channel, credentials=AnonymousCredentials())
    )


def raw(channel: grpc.Channel, method: str) -> Callable[..., Any]:
    """Calls ``SERVICE/METHOD`` with the bytes that are given."""
    return channel.unary_unary(f"/{method}")
