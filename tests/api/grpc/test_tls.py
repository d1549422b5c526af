"""TLS of both transports, with certificates that are made here and replaced while they serve."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc

from longshore.api.certificates import Certificates
from longshore.cli.client import Client
from longshore.errors import FailedPrecondition, Unavailable
from longshore.settings import TlsSettings
from tests.api.grpc.conftest import Both


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other() -> trustme.CA:
    return trustme.CA()


class Files:
    """What ``[tls]`` names, written as tools write it: whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        self.client_ca = directory / "clients.pem"

    def write(self, path: Path, content: bytes) -> None:
        fresh = self.directory / "fresh"
        fresh.write_bytes(content)
        fresh.replace(path)

    def issue(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.write(self.certificate, b"".join(one.bytes() for one in issued.cert_chain_pems))
        self.write(self.key, issued.private_key_pem.bytes())

    def trust(self, clients: trustme.CA) -> None:
        self.write(self.client_ca, clients.cert_pem.bytes())

    def settings(self, *, mutual: bool = False) -> TlsSettings:
        client_ca = self.client_ca if mutual else None
        return TlsSettings(certificate=self.certificate, key=self.key, client_ca=client_ca)


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    made = Files(tmp_path)
    made.issue(authority)
    made.trust(authority)
    return made


@pytest.fixture
def serve(files: Files) -> Iterator[Callable[..., Both]]:
    running = []

    def start(*, mutual: bool = False) -> Both:
        certificates = Certificates.of(files.settings(mutual=mutual))
        both = Both(files.directory / "longshore.sqlite", certificates)
        both.start()
        running.append(both)
        return both

    yield start
    for both in running:
        both.stop()


def ask_rest(both: Both, trusted: trustme.CA, client: trustme.LeafCert | None = None) -> None:
    """Raises httpx.TransportError where the two do not trust each other."""
    context = ssl.create_default_context(cadata=trusted.cert_pem.bytes().decode())
    if client is not None:
        client.configure_cert(context)
    url = f"https://127.0.0.1:{both.rest.port}/healthz"
    assert httpx.get(url, verify=context, trust_env=False, timeout=30).text == "ok\n"


def ask_grpc(both: Both, trusted: trustme.CA, client: trustme.LeafCert | None = None) -> None:
    """Raises grpc.RpcError where the two do not trust each other."""
    pair = () if client is None else _pair(client)
    credentials = grpc.ssl_channel_credentials(trusted.cert_pem.bytes(), *pair)
    with grpc.secure_channel(both.target, credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def _pair(client: trustme.LeafCert) -> tuple[bytes, bytes]:
    chain = b"".join(one.bytes() for one in client.cert_chain_pems)
    return client.private_key_pem.bytes(), chain


ASK = pytest.mark.parametrize("ask", [ask_rest, ask_grpc])
REFUSALS = (httpx.TransportError, grpc.RpcError)


@ASK
def test_tls(serve: Callable[..., Both], authority: trustme.CA, other: trustme.CA, ask) -> None:
    both = serve()
    ask(both, authority)
    with pytest.raises(REFUSALS):
        ask(both, other)


@ASK
def test_a_certificate_is_replaced_while_it_serves(
    serve: Callable[..., Both], files: Files, authority: trustme.CA, other: trustme.CA, ask
) -> None:
    both = serve()
    ask(both, authority)
    files.issue(other)
    ask(both, other)
    with pytest.raises(REFUSALS):
        ask(both, authority)


@ASK
def test_a_client_needs_a_certificate_of_its_authority(
    serve: Callable[..., Both], files: Files, authority: trustme.CA, other: trustme.CA, ask
) -> None:
    both = serve(mutual=True)
    ours, theirs = (ca.issue_cert("client@example.org") for ca in (authority, other))
    ask(both, authority, ours)
    for client in (None, theirs):
        with pytest.raises(REFUSALS):
            ask(both, authority, client)
    files.trust(other)
    ask(both, authority, theirs)
    with pytest.raises(REFUSALS):
        ask(both, authority, ours)


def test_files_that_do_not_fit_are_told_of_once_and_the_last_that_did_are_kept(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates.of(files.settings())
    assert certificates is not None
    first = certificates.current()
    assert certificates.current() is first
    new = authority.issue_cert("127.0.0.1")
    with caplog.at_level(logging.INFO, "longshore"):
        files.write(files.certificate, new.cert_chain_pems[0].bytes())
        assert certificates.current() is first
        assert certificates.current() is first
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert str(files.certificate) in record.getMessage()
        files.certificate.unlink()
        assert certificates.current() is first
        files.write(files.certificate, new.cert_chain_pems[0].bytes())
        files.write(files.key, new.private_key_pem.bytes())
        assert certificates.current().key == new.private_key_pem.bytes()
    assert caplog.records[-1].levelname == "INFO"
    assert "PRIVATE" not in caplog.text


def test_without_settings_there_is_no_tls() -> None:
    assert Certificates.of(TlsSettings()) is None


@pytest.mark.parametrize("given", ["certificate", "key", "client_ca"])
def test_half_of_the_settings_is_refused(files: Files, given: str) -> None:
    """Else a listener would go without TLS by a slip of the pen."""
    with pytest.raises(FailedPrecondition, match="needs both"):
        Certificates.of(TlsSettings(**{given: files.certificate}))


def test_files_that_cannot_be_used_are_refused(files: Files, other: trustme.CA) -> None:
    def refusal() -> str:
        with pytest.raises(FailedPrecondition) as refused:
            Certificates.of(files.settings(mutual=True))
        return str(refused.value)

    files.write(files.client_ca, b"nothing")
    assert str(files.client_ca) in refusal()
    files.trust(other)
    files.write(files.key, other.issue_cert("x").private_key_pem.bytes())
    assert "KEY_VALUES_MISMATCH" in refusal()
    files.key.unlink()
    assert "No such file" in refusal()


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(files: Files) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    files.write(files.key, locked)
    with pytest.raises(FailedPrecondition, match="Cannot use the files"):
        Certificates.of(files.settings())


def test_the_command_line_trusts_whom_the_environment_says(
    serve: Callable[..., Both], authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on this machine, for which it asks no proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    server = f"https://127.0.0.1:{serve().rest.port}"
    with Client(server, "p") as client, pytest.raises(Unavailable, match="CERTIFICATE_VERIFY"):
        client.get("projects/p/locations/global")
    with authority.cert_pem.tempfile() as file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
        with Client(server, "p") as client:
            assert client.get("projects/p/locations/global")["locationId"] == "global"
