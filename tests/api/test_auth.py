"""Who may call what (reference 8.3 and 6.2), for every method, by REST and as gRPC calls it."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from google.protobuf.descriptor import MethodDescriptor
from sqlalchemy import select

from longshore.api import status, wire
from longshore.api.auth import Auth
from longshore.api.auth.caller import Caller
from longshore.api.auth.tokens import TokensFile, line_of, new_token
from longshore.api.auth.watched import LOOK_SECONDS
from longshore.database import Database
from longshore.database.tables import jobs
from longshore.errors import Error, InvalidArgument
from longshore.settings import CLOUD_PLATFORM, AuthSettings, ProjectSettings, Settings, load
from tests.api.conftest import Clock, Project, Server, delete_job, details

HARBOUR = "projects/harbour/locations/global"
PREFIX = "storagebatchoperations."
REALM = 'Bearer realm="https://accounts.google.com/"'


class Case(NamedTuple):
    """A method, what it is asked about, and what its caller must be permitted."""

    permission: str
    resource: str
    verb: str = "GET"
    path: str = ""
    field: str = "name"


JOB, OPERATION = f"{HARBOUR}/jobs/none", f"{HARBOUR}/operations/none"
CASES = {
    "CreateJob": Case("jobs.create", HARBOUR, "POST", "/jobs?jobId=one", "parent"),
    "ListJobs": Case("jobs.list", HARBOUR, path="/jobs", field="parent"),
    "GetJob": Case("jobs.get", JOB),
    "CancelJob": Case("jobs.cancel", JOB, "POST", ":cancel"),
    "DeleteJob": Case("jobs.delete", JOB, "DELETE", "?force=true"),
    "ListBucketOperations": Case(
        "bucketOperations.list", JOB, path="/bucketOperations", field="parent"
    ),
    "GetBucketOperation": Case("bucketOperations.get", f"{JOB}/bucketOperations/none"),
    "ListOperations": Case("operations.list", HARBOUR, path="/operations"),
    "GetOperation": Case("operations.get", OPERATION),
    "CancelOperation": Case("operations.cancel", OPERATION, "POST", ":cancel"),
    "DeleteOperation": Case("operations.delete", OPERATION, "DELETE"),
    "WaitOperation": Case("operations.get", OPERATION),
    "ListLocations": Case("locations.list", "projects/harbour", path="/locations"),
    "GetLocation": Case("locations.get", HARBOUR),
}
METHODS = {method.name: method for method in wire.methods()}
OVER_REST = [name for name, method in METHODS.items() if wire.rule_of(method)]
PERMISSIONS = sorted({case.permission for case in CASES.values()})

REFUSED = {
    "no credentials": (401, "CREDENTIALS_MISSING", REALM),
    "bad": (401, "ACCESS_TOKEN_TYPE_UNSUPPORTED", f'{REALM}, error="invalid_token"'),
    "basic": (401, "ACCESS_TOKEN_TYPE_UNSUPPORTED", f'{REALM}, error="invalid_token"'),
    "expired": (401, "ACCESS_TOKEN_EXPIRED", f'{REALM}, error="invalid_token"'),
    "wrong-scope": (
        403,
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        f'{REALM}, error="insufficient_scope",'
        ' scope="https://www.googleapis.com/auth/cloud-platform"',
    ),
    "nobody": (403, "IAM_PERMISSION_DENIED", None),
    "elsewhere": (403, "IAM_PERMISSION_DENIED", None),
    "all-but-one": (403, "IAM_PERMISSION_DENIED", None),
}


class Gate:
    """A server with authentication, and the tokens of those who know it."""

    def __init__(self, directory: Path, new_database: Callable[[], str | None]) -> None:
        self.tokens = {}
        lines = []
        for name in self._principals():
            self.tokens[name] = new_token()
            expires = datetime(2026, 8, 31, tzinfo=UTC) if name == "expired" else None
            scopes = ["https://www.googleapis.com/auth/devstorage"] if name == "wrong-scope" else []
            lines.append(line_of(self.tokens[name], name, expires, scopes))
        file = directory / "tokens"
        file.touch(0o600)
        file.write_text("# who may call\n\n" + "\n".join(lines))
        admin = {"harbour": ("admin",)}
        only = {name: {"harbour": (PREFIX + name,)} for name in PERMISSIONS}
        rest = {
            f"not-{name}": {"harbour": tuple(PREFIX + one for one in PERMISSIONS if one != name)}
            for name in PERMISSIONS
        }
        settings = Settings(
            auth=AuthSettings(
                mode=("tokens",),
                tokens_file=file,
                roles={
                    "expired": admin,
                    "wrong-scope": admin,
                    "admin": admin,
                    "elsewhere": {"quay": ("admin",)},
                    "everywhere": {"*": ("viewer",)},
                    **only,
                    **rest,
                },
            ),
            projects={"harbour": ProjectSettings(buckets=("bucket-*",))},
        )
        clock = Clock()
        where = new_database() or directory / "longshore.sqlite"
        self.server = Server(Database(where), clock, Auth.fixed(settings, clock))
        self.client = httpx.Client(base_url=self.server.url, trust_env=False)

    @staticmethod
    def _principals() -> Iterator[str]:
        yield from ("admin", "nobody", "elsewhere", "everywhere", "expired", "wrong-scope")
        yield from PERMISSIONS
        yield from (f"not-{name}" for name in PERMISSIONS)

    def headers(self, who: str, case: Case) -> dict[str, str]:
        """What a caller of that kind sends."""
        if who == "no credentials":
            return {}
        if who == "basic":
            return {"authorization": "Basic YTpi"}
        if who == "bad":
            return {"authorization": f"Bearer {new_token()}"}
        principal = f"not-{case.permission}" if who == "all-but-one" else who
        return {"authorization": f"Bearer {self.tokens[principal]}"}

    def ask(self, name: str, headers: Mapping[str, str], **options: Any) -> httpx.Response:
        """Call a method over REST."""
        case = CASES[name]
        if name == "CreateJob":
            options.setdefault("json", delete_job())
        url = f"/v1/{case.resource}{case.path}"
        return self.client.request(case.verb, url, headers=headers, **options)

    def call(self, name: str, headers: Mapping[str, str]) -> Any:
        """Call a method as the gRPC server does."""
        case, method = CASES[name], METHODS[name]
        request = wire.message_class(method.input_type.full_name)(**{case.field: case.resource})

        async def call() -> Any:
            methods = self.server.methods
            caller = await methods.authenticate(method, headers)
            return await methods.perform(method, request, caller)

        return self.server.do(call())


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str | None]
) -> Iterator[Gate]:
    gate = Gate(tmp_path_factory.mktemp("auth"), new_database)
    gate.server.start()
    yield gate
    gate.client.close()
    gate.server.stop()


def _metadata(method: MethodDescriptor, code: int, reason: str) -> dict[str, str]:
    case = CASES[method.name]
    if reason == "IAM_PERMISSION_DENIED":
        return {"permission": PREFIX + case.permission, "resource": case.resource}
    return {"service": "storagebatchoperations.googleapis.com", "method": method.full_name}


def test_the_table_has_every_method() -> None:
    assert set(CASES) == set(METHODS)


@pytest.mark.parametrize("who", REFUSED)
@pytest.mark.parametrize("name", CASES)
def test_who_may_not_call(gate: Gate, name: str, who: str) -> None:
    http, reason, challenge = REFUSED[who]
    headers = gate.headers(who, CASES[name])
    metadata = _metadata(METHODS[name], http, reason)
    with pytest.raises(Error) as caught:
        gate.call(name, headers)
    error = caught.value
    assert (status.HTTP[error.code], error.reason, error.metadata) == (http, reason, metadata)
    if name not in OVER_REST:
        return
    response = gate.ask(name, headers)
    answer = response.json()["error"]
    assert (response.status_code, answer["message"]) == (http, error.message)
    assert answer["status"] == error.code.name
    assert details(answer)["ErrorInfo"] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    }
    assert response.headers.get("www-authenticate") == challenge


@pytest.mark.parametrize("name", OVER_REST)
def test_who_has_just_the_permission_may_call(gate: Gate, name: str) -> None:
    headers = gate.headers(CASES[name].permission, CASES[name])
    there = name in ("CreateJob", "ListJobs", "ListOperations", "ListLocations", "GetLocation")
    assert gate.ask(name, headers).status_code == (200 if there else 404)


def test_every_project_is_one_rule(gate: Gate) -> None:
    headers = gate.headers("everywhere", CASES["ListJobs"])
    assert gate.ask("ListJobs", headers).status_code == 200
    assert gate.ask("CreateJob", headers).status_code == 403
    location = "/v1/projects/any.org:other/locations/global"
    assert gate.client.get(location, headers=headers).status_code == 200


def test_the_messages_are_google_s(gate: Gate) -> None:
    missing = gate.ask("GetJob", {}).json()["error"]["message"]
    assert missing.startswith("Request is missing required authentication credential.")
    bad = gate.ask("GetJob", {"authorization": "Bearer x"}).json()["error"]["message"]
    assert bad.startswith("Request had invalid authentication credentials.")
    key = gate.ask("GetJob", {"x-goog-api-key": "K"}).json()["error"]
    assert key["message"].startswith("API keys are not supported by this API.")
    assert key["code"] == 401


@pytest.mark.parametrize(
    "token", ["", "x" * 20_000, "a b", "\xe9", "a.b.c", "longshore_", "x" * 43, "null"]
)
def test_what_is_no_token(gate: Gate, token: str) -> None:
    header = f"Bearer {token}".strip().encode("latin-1")
    response = gate.client.get(f"/v1/{JOB}", headers={b"authorization": header})
    assert response.status_code == 401


def test_what_comes_first(gate: Gate) -> None:
    admin = gate.headers("admin", CASES["CreateJob"])
    no_job = {"content": b"{", "headers": {}}
    client = gate.client
    assert client.get("/v1/nothing").status_code == 404  # there is nothing to be let in to
    assert client.put(f"/v1/{HARBOUR}/jobs").status_code == 405
    assert client.post(f"/v1/{HARBOUR}/jobs?x=1", **no_job).status_code == 401
    viewer = gate.headers("everywhere", CASES["CreateJob"])
    empty = client.post(f"/v1/{HARBOUR}/jobs?jobId=NO", json={}, headers=viewer)
    assert empty.status_code == 403
    empty = client.post(f"/v1/{HARBOUR}/jobs?jobId=NO", json={}, headers=admin)
    assert empty.status_code == 400
    # What may not be seen looks the same whether it is there or not.
    there = gate.ask("CreateJob", admin, json=delete_job())
    assert there.status_code in (200, 409)
    nobody = gate.headers("nobody", CASES["GetJob"])
    for job in ("one", "none"):
        answer = client.get(f"/v1/{HARBOUR}/jobs/{job}", headers=nobody)
        assert answer.status_code == 403
    elsewhere = client.get("/v1/projects/quay/locations/mars", headers=nobody)
    assert elsewhere.status_code == 403


@pytest.mark.parametrize(
    ("body", "bucket"),
    [
        (delete_job("bucket-1", "other"), "other"),
        (
            {
                "bucketList": {
                    "buckets": [
                        {
                            "bucket": "bucket-1",
                            "manifest": {"manifestLocation": "gs://secret/list.csv"},
                        }
                    ]
                },
                "deleteObject": {},
            },
            "secret",
        ),
    ],
)
def test_buckets_that_the_project_may_not_use(gate: Gate, body: Any, bucket: str) -> None:
    admin = gate.headers("admin", CASES["CreateJob"])
    response = gate.ask("CreateJob", admin, json=body)
    error = response.json()["error"]
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    info = details(error)["ErrorInfo"]
    assert info["reason"] == "BUCKET_NOT_ALLOWED"
    assert info["metadata"] == {"bucket": bucket, "project": "harbour"}
    assert info["domain"] == "storagebatchoperations.googleapis.com"


@pytest.mark.parametrize(
    ("who", "code"),
    {
        "no credentials": 401,
        "bad": 401,
        "wrong-scope": 403,
        "admin": 403,
        "everywhere": 200,
    }.items(),
)
def test_metrics_are_for_those_who_see_every_project(gate: Gate, who: str, code: int) -> None:
    headers = gate.headers(who, CASES["ListJobs"])
    response = gate.client.get("/metrics", headers=headers)
    assert response.status_code == code
    for path in ("/healthz", "/readyz"):
        assert gate.client.get(path).status_code == 200


def _audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    lines = [record.getMessage() for record in caplog.records]
    words = [line.split() for line in lines if line.startswith("audit ")]
    return [dict(word.split("=", 1) for word in line[1:]) for line in words]


@pytest.mark.parametrize("name", OVER_REST)
def test_a_call_leaves_one_record(gate: Gate, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "longshore")
    for who in ("admin", "nobody", "bad"):
        gate.ask(name, gate.headers(who, CASES[name]))
    records = _audited(caplog)
    if name in ("ListLocations", "GetLocation"):
        assert records == []
        return
    allowed, denied, unknown = records
    assert {one["method"] for one in records} == {METHODS[name].full_name}
    assert (allowed["principal"], allowed["resource"]) == ("admin", CASES[name].resource)
    assert allowed["status"] in ("OK", "NOT_FOUND", "ALREADY_EXISTS")
    assert (denied["principal"], denied["resource"]) == ("nobody", CASES[name].resource)
    assert denied["status"] == "PERMISSION_DENIED"
    assert (unknown["principal"], unknown["status"]) == ('""', "UNAUTHENTICATED")
    for token in gate.tokens.values():
        assert token not in caplog.text


def test_a_creation_begins_an_operation_that_is_its_creator_s(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longshore")
    url = f"/v1/{HARBOUR}/jobs?jobId=audited"
    headers = gate.headers("admin", CASES["CreateJob"])
    operation = gate.client.post(url, json=delete_job(), headers=headers).json()["name"]
    [record] = _audited(caplog)
    assert (record["status"], record["operation"], record["first"]) == ("OK", operation, "true")
    creator = select(jobs.c.creator).where(jobs.c.job_id == "audited")
    assert gate.server.write(lambda one: one.execute(creator).scalar_one()) == "admin"


def test_without_authentication_no_header_matters(rest: httpx.Client) -> None:
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}):
        response = rest.get("/v1/projects/p/locations/global/jobs", headers=headers)
        assert response.status_code == 200


async def test_tokens_are_compared_by_their_digests_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked up is a part of a digest; the rest is left to hmac.compare_digest, which is
    the only one to say yes, and to say no where that part is the same."""
    token, twin = new_token(), new_token()
    file = tmp_path / "tokens"
    file.touch(0o600)
    line = line_of(token, "ann", None, [])
    other = hashlib.sha256(twin.encode()).digest()
    similar = other[:-1] + bytes([other[-1] ^ 1])
    file.write_text(f"{line}\nsha256:{similar.hex()} bob\n")
    tokens = TokensFile(file, Clock())
    compared: list[tuple[bytes, bytes]] = []

    def compare(ours: bytes, theirs: bytes) -> bool:
        compared.append((ours, theirs))
        return not mute and compare_digest(ours, theirs)

    compare_digest, mute = hmac.compare_digest, False
    monkeypatch.setattr(hmac, "compare_digest", compare)
    digest = hashlib.sha256(token.encode()).digest()
    assert await tokens.identify(token, "m") == Caller("ann", frozenset({CLOUD_PLATFORM}))
    assert await tokens.identify(twin, "m") is None
    assert await tokens.identify(new_token(), "m") is None
    assert compared == [(digest, digest), (similar, other)]
    mute = True
    assert await tokens.identify(token, "m") is None
    assert {len(key) for key in tokens._tokens.now()} == {8}


SETTINGS = """
[auth]
mode = "tokens"
tokens_file = "{tokens}"
[auth.roles.ann]
harbour = "{role}"
"""


async def test_rules_and_tokens_are_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longshore")
    clock, file, tokens = Clock(), tmp_path / "longshore.toml", tmp_path / "tokens"
    token, second = new_token(), new_token()
    tokens.touch(0o600)
    tokens.write_text(line_of(token, "ann", None, []))
    file.write_text(SETTINGS.format(tokens=tokens, role="viewer"))
    auth = Auth.of(load(file, {}, {}), clock, file=file, read=lambda: load(file, {}, {}))
    caller = await auth.identify({"authorization": f"Bearer {token}"}, "m")

    def may(permission: str) -> bool:
        clock._monotonic += LOOK_SECONDS
        try:
            auth.authorize(caller, PREFIX + permission, "harbour", "r")
        except Error:
            return False
        return True

    assert may("jobs.get")
    assert not may("jobs.create")
    file.write_text(SETTINGS.format(tokens=tokens, role="operator"))
    assert may("jobs.create")
    for broken in (SETTINGS.format(tokens=tokens, role="amdin"), "[auth", "x = 1"):
        file.write_text(broken)
        assert may("jobs.create")
        assert "rules not read again" in caplog.records[-1].getMessage()
    file.unlink()
    assert may("jobs.create")
    new = tmp_path / "new.toml"
    new.write_text(SETTINGS.format(tokens=tokens, role="viewer"))
    new.rename(file)
    assert not may("jobs.create")

    tokens.write_text(line_of(second, "ann", None, []))
    clock._monotonic += LOOK_SECONDS
    with pytest.raises(Error):
        await auth.identify({"authorization": f"Bearer {token}"}, "m")
    assert await auth.identify({"authorization": f"Bearer {second}"}, "m") == caller


@pytest.mark.parametrize(
    ("role", "nearest"), [("amdin", "admin"), (f"{PREFIX}jobs.creat", f"{PREFIX}jobs.create")]
)
def test_a_role_that_is_none(role: str, nearest: str) -> None:
    settings = Settings(auth=AuthSettings(roles={"ann": {"harbour": (role,)}}))
    with pytest.raises(InvalidArgument, match="Unknown role or permission") as caught:
        Auth.fixed(settings, Clock())
    assert caught.value.message.endswith(f"{nearest!r}.")


@pytest.mark.parametrize(
    "line",
    ["longshore_abc ann", "sha256:ab ann", f"sha256:{'0' * 64}", f"sha256:{'0' * 64} ann x=1"]
    + [f"sha256:{'0' * 64} ann expires={time}" for time in ("soon", "2026-09-01T00:00:00")],
)
def test_a_line_that_is_no_token_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# one\n{line}\n")
    settings = Settings(auth=AuthSettings(mode=("tokens",), tokens_file=file))
    with pytest.raises(InvalidArgument) as caught:
        Auth.fixed(settings, Clock())
    assert f"{file}, line 2: this is no line of tokens" in caught.value.message
    assert line not in caught.value.message


def test_a_file_of_tokens_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    settings = Settings(auth=AuthSettings(mode=("tokens",), tokens_file=file))
    with pytest.raises(InvalidArgument, match="Cannot read the file of tokens"):
        Auth.fixed(settings, Clock())
    file.touch(0o600)
    Auth.fixed(settings, Clock())
    assert not caplog.records
    file.chmod(0o644)
    Auth.fixed(settings, Clock())
    assert "tokens open to others" in caplog.text


def test_a_page_of_another_site_gets_nothing_where_nobody_needs_a_token(project: Project) -> None:
    for origin, code in [("https://evil.example", 403), ("null", 403)]:
        assert project.call("GET", "/jobs", headers={"Origin": origin}).status_code == code
    here = str(project.call("GET", "/jobs").url).partition("/v1")[0]
    assert project.call("GET", "/jobs", headers={"Origin": here}).status_code == 200
