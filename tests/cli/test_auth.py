"""A token from its making to the last record of the audit log, with a real service."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.cloud import storagebatchoperations_v1 as sbo

from longshore.api import wire
from longshore.api.auth.tokens import line_of, new_token
from longshore.app import require_authentication
from longshore.errors import FailedPrecondition
from longshore.settings import AuthSettings, ListenSettings, Settings, TlsSettings
from tests.cli.conftest import Cli
from tests.service import Service

ANYWHERE = ListenSettings(listen="0.0.0.0:0")
RULES = """
[auth]
mode = "tokens"
tokens_file = "{tokens}"
[auth.roles."ann@example.com"]
quay = "{role}"
[projects.quay]
buckets = ["bucket-*"]
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Service]:
    """A service with authentication that is yet to be started."""
    service = Service(tmp_path)
    yield service
    service.close()


def test_a_token_from_its_making_to_the_audit_log(
    guarded: Service, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_CONFIG", str(guarded.config))
    monkeypatch.setenv("LONGSHORE_SERVER", f"http://127.0.0.1:{guarded.port}")
    monkeypatch.setenv("LONGSHORE_PROJECT", "quay")
    made = cli("auth", "token", "ann@example.com", "--days", "1")
    (label, token), (_, line) = (row.split(maxsplit=1) for row in made.out.splitlines())
    assert label == "token"
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"{line}\n")
    plain = guarded.config.read_text()
    guarded.config.write_text(plain + RULES.format(tokens=tokens, role="operator"))
    guarded.start()

    refused = cli("jobs", "list")
    assert refused.code == 1
    assert "UNAUTHENTICATED: Request is missing required authentication" in refused.err
    monkeypatch.setenv("LONGSHORE_TOKEN", "two words")
    assert "is no bearer token" in cli("jobs", "list").err
    monkeypatch.setenv("LONGSHORE_TOKEN", token)
    assert cli("jobs", "list").code == 0
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    monkeypatch.setenv("LONGSHORE_TOKEN_FILE", str(file))
    monkeypatch.delenv("LONGSHORE_TOKEN")

    assert cli("buckets", "create", "bucket-1").code == 0
    create = ("jobs", "create", "sweep", "--delete-object", "--included-object-prefixes=x")
    foreign = cli(*create, "--bucket=other")
    assert "PERMISSION_DENIED: Jobs of the project 'quay' may not use the bucket" in foreign.err
    assert cli(*create, "--bucket=bucket-1").code == 0
    assert "PERMISSION_DENIED: Permission 'storagebatchoperations.jobs.delete' denied on" in (
        cli("jobs", "delete", "sweep").err
    )
    guarded.until(lambda: " last=true" in guarded.log(), 30, "record the operation's end")
    first, last = (line for line in guarded.log().splitlines() if " operation=" in line)
    for record in (first, last):
        assert "audit principal=ann@example.com method=google.cloud" in record
    assert " first=true" in first
    assert first.partition("operation=")[2].split()[0] == last.partition("operation=")[2].split()[0]

    guarded.config.write_text(plain + RULES.format(tokens=tokens, role="viewer"))
    again = (*create, "--bucket=bucket-1")
    guarded.until(lambda: "jobs.create' denied" in cli(*again).err, 30, "see the new rules")
    assert "rules read again" in guarded.log()
    assert cli("jobs", "list").code == 0
    tokens.write_text("")
    guarded.until(lambda: cli("jobs", "list").code == 1, 30, "forget the token")
    assert guarded.stop() == 0
    assert token not in guarded.log()
    assert token.encode() not in b"".join(
        path.read_bytes() for path in guarded.data_dir.glob("longshore.sqlite*")
    )


def _spellings(token: str) -> dict[str, bytes]:
    """How ``token`` may stand in a file: as it is, and within base64 that begins anywhere."""
    spelt = {"plain": token.encode(), "hex": token.encode().hex().encode()}
    for before in range(3):
        whole = base64.b64encode(b"." * before + token.encode())
        spelt[f"base64 after {before}"] = whole[4:-4]  # what does not depend on the neighbours
        spelt[f"urlsafe base64 after {before}"] = whole[4:-4].translate(
            bytes.maketrans(b"+/", b"-_")
        )
    return spelt


def _present(service: Service, token: str, bucket: str) -> tuple[list[int], bytes]:
    """Show ``token`` to ``service`` in every way there is, in good requests and in bad ones; gives
    the HTTP statuses and whatever was answered."""
    jobs = "/v1/projects/quay/locations/global/jobs"
    header = {"Authorization": f"Bearer {token}"}
    body = {"bucketList": {"buckets": [{"bucket": bucket, "prefixList": {}}]}, "deleteObject": {}}
    form = {"access_token": token}
    http = service.http
    replies = [
        http.post(jobs, json=body, headers=header),
        http.get(jobs, params={"access_token": token}),
        http.get(jobs, params={"$.oauth_token": token}),
        http.get(jobs, params={"key": token}),
        http.get(jobs, headers={"X-Goog-Api-Key": token}),
        http.get(jobs, params={"access_token": token, "filter": "("}),
        http.get(jobs, params={"access_token": token, "nothing": "1"}),
        http.get("/v1/nothing", params=form, headers=header),
        http.put(jobs, params=form, headers=header),
        http.post(jobs, data=form, headers={**header, "X-HTTP-Method-Override": "GET"}),
        http.post(jobs, content=b"{", params=form),
        http.get("/metrics", headers=header),
        http.get(jobs, headers={"Authorization": f"Basic {token}"}),
        http.get(jobs, headers={"Authorization": f"Bearer {token}:{token}"}),
        http.get(jobs, headers={"Cookie": token, "User-Agent": token, "Referer": token}),
    ]
    seen = [b"".join((reply.content, str(reply.headers).encode())) for reply in replies]
    with socket.create_connection(("127.0.0.1", service.port), 10) as raw:
        raw.sendall(f"GET {jobs}?access_token={token}\r\nAuthorization: {token}\r\n\r\n".encode())
        seen.append(raw.recv(1 << 16))
    request = sbo.ListJobsRequest(parent="projects/quay/locations/global", filter="(")
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port()}") as channel:
        call = channel.unary_unary(f"/{wire.SERVICE}/ListJobs")
        for value in (f"Bearer {token}", f"Bearer {token}:{token}", token):
            with pytest.raises(grpc.RpcError) as refused:
                call(
                    sbo.ListJobsRequest.serialize(request),
                    metadata=[("authorization", value), ("x-goog-api-key", token)],
                    timeout=30,
                )
            error = refused.value
            seen.append(f"{error.details()} {error.trailing_metadata()}".encode())
    return [reply.status_code for reply in replies], b"\n".join(seen)


def test_tokens_are_in_no_log_no_error_and_no_file(guarded: Service, tmp_path: Path) -> None:
    good, late, bad = new_token(), new_token(), new_token()
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    expired = line_of(late, "ann@example.com", datetime(2020, 1, 1, tzinfo=UTC), [])
    tokens.write_text(f"{line_of(good, 'ann@example.com', None, [])}\n{expired}\n")
    rules = RULES.format(tokens=tokens, role="operator")
    guarded.config.write_text(guarded.config.read_text() + rules)
    guarded.start()
    statuses, answered = _present(guarded, good, "bucket-1")
    assert statuses == [200, 200, 200, 401, 401, 400, 400, 404, 405, 200, 400, 403, 401, 401, 401]
    for other in (late, bad):
        refused, more = _present(guarded, other, "bucket-1")
        assert set(refused) == {401, 404, 405}
        answered += more
    guarded.until(lambda: " last=true" in guarded.log(), 30, "run the job to its end")
    assert guarded.stop() == 0
    places = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in tmp_path.iterdir()} >= {"data", "serve-1.log", "tokens"}
    assert any(path.endswith(".sqlite") for path in places)
    places["answers"] = answered
    for token in (good, late, bad):
        for how, spelling in _spellings(token).items():
            assert [name for name, data in places.items() if spelling in data] == [], how


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (Settings(), False),
        (Settings(rest=ANYWHERE), True),
        (Settings(grpc=ANYWHERE), True),
        (Settings(rest=ANYWHERE, auth=AuthSettings(dangerously_serve_anyone=True)), False),
        (Settings(rest=ANYWHERE, auth=AuthSettings(mode=("oidc",))), False),
    ],
)
def test_only_a_frightening_word_opens_the_door(settings: Settings, refused: bool) -> None:
    with pytest.raises(FailedPrecondition) if refused else nullcontext():
        require_authentication(settings)


def test_the_frightening_word_is_a_flag_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()  # a service that would start can't, and says another thing
    words = ("serve", "--listen=0.0.0.0:0", f"--data-dir={tmp_path / 'taken'}")
    ended = cli.process(*words, "--dangerously-serve-anyone")
    assert ended.code == 1
    assert "authentication" not in ended.err


@pytest.mark.parametrize(
    ("listen", "tls", "warned"),
    [
        (ANYWHERE, TlsSettings(), True),
        (ListenSettings(listen="127.0.0.1:0"), TlsSettings(), False),
        (ANYWHERE, TlsSettings(certificate=Path("a.pem"), key=Path("a.key")), False),
    ],
)
def test_tokens_that_can_be_read_on_their_way_are_warned_of(
    listen: ListenSettings, tls: TlsSettings, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    auth = AuthSettings(mode=("tokens",))
    settings = Settings(rest=listen, tls=tls, auth=auth)
    with caplog.at_level("WARNING", "longshore"):
        require_authentication(settings)
    assert ("tokens can be read on their way" in caplog.text) is warned
