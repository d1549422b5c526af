"""Tokens: had once however many ask, renewed before they end, and only sent where they may be."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from longshore.errors import Code, Error, Unauthenticated, Unavailable
from longshore.settings import StoreSettings
from longshore.stores.gs import credentials
from longshore.stores.gs.credentials import (
    NOT_RENEWED,
    GoogleTokens,
    NoToken,
    Tokens,
    token_source,
)
from longshore.stores.gs.options import read_options
from longshore.stores.gs.store import GsStore
from longshore.transport.renewal import CHECK_SECONDS, Renewed
from tests.gs.asking import BUCKET, parts_of, refused, said, store_at, together
from tests.gs.recorder import Answered, Recorder, Request, recording
from tests.gs.test_changes import HOLD, Turning, many
from tests.s3.instant import Instant

TOKENS = "/token"
BATCHES = "/batch/storage/v1"


class Bank:
    """Gives tokens for signed assertions, as Google's does, and has a bucket."""

    def __init__(self) -> None:
        self.given = 0
        self.lasting_seconds = 3600
        self.refusal: Answered | None = None
        self.taken: set[str] | None = None
        """The tokens that the bucket takes; None: any."""
        self.slow_seconds = 0.0

    def __call__(self, request: Request) -> Answered:
        if request.path != TOKENS:
            return self.bucket(request)
        time.sleep(self.slow_seconds)
        if self.refusal is not None:
            return self.refusal
        self.given += 1
        token = {"access_token": f"T{self.given}", "expires_in": self.lasting_seconds}
        return said(token | {"token_type": "Bearer"})

    def bucket(self, request: Request) -> Answered:
        if self.taken is not None and request.headers["authorization"] not in self.taken:
            return refused(401, "authError", "Invalid Credentials")
        if request.path == BATCHES:
            return together(request, *[(200, {})] * len(parts_of(request)))
        return said({"items": []})


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_file(directory: Path, recorder: Recorder, private_key: str) -> Path:
    path = directory / "key.json"
    described = {
        "type": "service_account",
        "client_email": "crane@port.iam.example",
        "private_key": private_key,
        "token_uri": recorder.url + TOKENS,
    }
    path.write_bytes(orjson.dumps(described))
    return path


def settings(url: str, **options: Any) -> Any:
    return read_options(
        StoreSettings(name="main", kind="gs", options={"endpoint": url, **options}), {}
    )


async def test_a_key_file_gives_the_token_of_every_request(
    tmp_path: Path, private_key: str
) -> None:
    bank = Bank()
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        async with store_at(recorder.url, anonymous=False, key_file=path) as store:

            async def look() -> None:
                async for _ in store.list_objects(BUCKET):
                    raise AssertionError

            await asyncio.gather(*[look() for _ in range(20)])
        asked = [one for one in recorder.taken() if one.path != TOKENS]
    assert bank.given == 1
    assert [one.headers["authorization"] for one in asked] == ["Bearer T1"] * 20


async def test_no_token_is_had_before_it_is_needed_or_sent_to_an_emulator() -> None:
    assert isinstance(token_source(settings("http://127.0.0.1:1", anonymous=True)), NoToken)
    with recording(Bank()) as recorder:
        async with store_at(recorder.url) as store:
            assert [page async for page in store.list_objects(BUCKET)] == []
        (one,) = recorder.taken()
    assert "authorization" not in one.headers


async def test_a_token_is_renewed_while_it_is_still_good(tmp_path: Path, private_key: str) -> None:
    bank, clock = Bank(), Instant(0)
    bank.lasting_seconds = 60  # google-auth has another within the last four minutes
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        source = Renewed(GoogleTokens(settings(recorder.url, key_file=path)), NOT_RENEWED, clock)
        assert await source.get() == "Bearer T1"
        bank.lasting_seconds = 3600
        clock.second += int(CHECK_SECONDS) + 1
        assert await source.get() == "Bearer T1"  # nobody waits
        until = time.monotonic() + 30
        while await source.get() == "Bearer T1":
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        clock.second += int(CHECK_SECONDS) + 1
        assert await source.get() == "Bearer T2"
    assert bank.given == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (said({"error": "invalid_grant", "error_description": "s3cret"}, 400), Unauthenticated),
        (said({"error": "internal_failure"}, 500), Unavailable),
    ],
)
async def test_a_refused_token_is_an_error_without_what_was_said(
    tmp_path: Path,
    private_key: str,
    answer: Answered,
    kind: type[Error],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    bank = Bank()
    bank.refusal = answer
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        source = token_source(settings(recorder.url, key_file=path))
        with pytest.raises(kind) as refused:
            await source.get()
    assert "s3cret" not in refused.value.message
    assert path in refused.value.message


@pytest.mark.parametrize("text", [None, "", "{}", '{"type": "external_account"}'])
async def test_a_file_without_a_key_is_said_to_be_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "key.json"
    if text is not None:
        path.write_text(text)
    source = token_source(settings("https://storage.example", key_file=str(path)))
    with pytest.raises(Unauthenticated) as refused:
        await source.get()
    assert str(path) in refused.value.message


# ── Refused ──────────────────────────────────────────────────────────────────────────────────────


def authorised(recorder: Recorder) -> list[str]:
    """The tokens of the requests to the bucket."""
    return [one.headers["authorization"] for one in recorder.taken() if one.path != TOKENS]


async def look(store: GsStore) -> None:
    async for _ in store.list_objects(BUCKET):
        raise AssertionError


async def test_a_thousand_requests_whose_token_is_refused_have_one_other(
    tmp_path: Path, private_key: str
) -> None:
    bank = Bank()
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        tokens = Tokens(settings(recorder.url, key_file=path))
        refused = await tokens.get()
        others = await asyncio.gather(*[tokens.instead_of(refused) for _ in range(1000)])
        assert set(others) == {"Bearer T2"}
        assert bank.given == 2
        async with store_at(recorder.url, anonymous=False, key_file=path) as store:
            await look(store)
            bank.taken = {"Bearer T4"}
            recorder.taken()
            await asyncio.gather(*[look(store) for _ in range(20)])
    assert bank.given == 4
    assert authorised(recorder).count("Bearer T4") == 20


async def test_a_change_whose_token_is_refused_is_made_again(
    tmp_path: Path, private_key: str
) -> None:
    bank, turns = Bank(), Turning()
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        async with store_at(recorder.url, anonymous=False, key_file=path) as store:
            await look(store)
            await store.by_turns(turns).patch_objects(BUCKET, many(3), HOLD)
            bank.taken = {"Bearer T2"}
            outcome = await store.by_turns(turns).patch_objects(BUCKET, many(3), HOLD)
    assert outcome.failures == {}
    assert bank.given == 2
    assert turns.given[-2:] == [("objects.patch", 3)] * 2
    assert turns.ended == []


async def test_calls_whose_token_is_refused_one_by_one_are_made_again(
    tmp_path: Path, private_key: str
) -> None:
    class Strict(Bank):
        def bucket(self, request: Request) -> Answered:
            if request.headers["authorization"] == "Bearer T1" and request.path == BATCHES:
                no = {"error": {"errors": [{"reason": "authError"}], "message": "Who?"}}
                return together(request, *[(401, no)] * len(parts_of(request)))
            return super().bucket(request)

    bank = Strict()
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        async with store_at(recorder.url, anonymous=False, key_file=path) as store:
            outcome = await store.patch_objects(BUCKET, many(3), HOLD)
            assert outcome.failures == {}
            assert (await store.patch_objects(BUCKET, many(3), HOLD)).failures == {}
    assert bank.given == 2


async def test_where_no_token_is_taken_that_is_the_answer_and_no_storm(
    tmp_path: Path, private_key: str
) -> None:
    bank = Bank()
    bank.taken = set()
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        async with store_at(recorder.url, anonymous=False, key_file=path) as store:
            for _ in range(5):
                with pytest.raises(Unauthenticated, match="Check key_file"):
                    await look(store)
            outcome = await store.patch_objects(BUCKET, many(1), HOLD)
    assert {failure.code for failure in outcome.failures.values()} == {Code.UNAUTHENTICATED}
    assert bank.given == 2


async def test_another_token_may_be_had_a_minute_later(tmp_path: Path, private_key: str) -> None:
    bank, clock = Bank(), Instant(0)
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        tokens = Tokens(settings(recorder.url, key_file=path), clock)
        assert await tokens.get() == "Bearer T1"
        assert await tokens.instead_of("Bearer T1") == "Bearer T2"
        assert await tokens.instead_of("Bearer T1") == "Bearer T2"
        assert await tokens.instead_of("Bearer T2") is None
        clock.second += int(CHECK_SECONDS)
        assert await tokens.instead_of("Bearer T2") == "Bearer T3"
    assert bank.given == 3


async def test_a_token_that_comes_late_is_waited_for_by_the_next(
    tmp_path: Path, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "WAIT_SECONDS", 0.05)
    bank = Bank()
    bank.slow_seconds = 0.5
    with recording(bank) as recorder:
        path = str(key_file(tmp_path, recorder, private_key))
        tokens = token_source(settings(recorder.url, key_file=path))
        with pytest.raises(Unavailable, match="the server of tokens gives none"):
            await tokens.get()
        monkeypatch.setattr(credentials, "WAIT_SECONDS", 30.0)
        assert await tokens.get() == "Bearer T1"
    assert bank.given == 1


# ── Workload identity ───────────────────────────────────────────────────────────────────────────


async def test_workload_identity_takes_nothing_but_an_exchange_of_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that ``gcloud iam workload-identity-pools create-cred-config`` writes; whatever else
    is asked on the way meets the recorder as a proxy."""
    bank = Bank()
    with recording(bank) as recorder:
        (tmp_path / "subject").write_text("of another issuer")
        described = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/7/locations/global/workloadIdentityPools"
            "/harbour/providers/crane",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": recorder.url + TOKENS,
            "credential_source": {"file": str(tmp_path / "subject")},
        }
        (tmp_path / "adc.json").write_bytes(orjson.dumps(described))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
        for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", recorder.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with store_at(recorder.url, anonymous=False) as store:
            await look(store)
        exchange, asked = recorder.taken()
    assert asked.headers["authorization"] == "Bearer T1"
    sent = dict(parse_qsl(exchange.body.decode()))
    assert sent["subject_token"] == "of another issuer"
    assert sent["scope"] == "https://www.googleapis.com/auth/devstorage.full_control"


# ── The metadata server ──────────────────────────────────────────────────────────────────────────


class Metadata:
    """The metadata server of a machine of Google's, which gives tokens to whoever asks."""

    def __init__(self) -> None:
        self.given = 0
        self.away = False
        self.missing = False

    def __call__(self, request: Request) -> Answered:
        google = {"Metadata-Flavor": "Google"}
        if self.away:
            return Answered(503, b"", "text/plain", google)
        if self.missing:
            return Answered(404, b"", "text/plain", google)
        if request.path.endswith("/token"):
            self.given += 1
            token = {"access_token": f"M{self.given}", "expires_in": 3600, "token_type": "Bearer"}
            return said(token)._replace(headers=google)
        if request.path.endswith("/"):
            found = {"email": "crane@port.example", "scopes": [], "aliases": ["default"]}
            return said(found)._replace(headers=google)
        return Answered(200, b"port", "application/text", google)


async def test_a_machine_of_google_s_gives_tokens_and_is_named_when_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "APPDATA", "NO_GCE_CHECK"):
        monkeypatch.delenv(name, raising=False)
    server, clock = Metadata(), Instant(0)
    with recording(server) as recorder:
        here = recorder.url.removeprefix("http://")
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", here)
        monkeypatch.setenv("GCE_METADATA_IP", here)
        tokens = Tokens(settings("https://storage.example"), clock)
        assert await tokens.get() == "Bearer M1"
        server.away = True
        with pytest.raises(Unavailable, match="the metadata server gives none"):
            await tokens.instead_of("Bearer M1")
        server.away, server.missing = False, True
        clock.second += int(CHECK_SECONDS)
        with pytest.raises(Unauthenticated, match="can't be had: RefreshError"):
            await tokens.get()
        server.missing = False
        clock.second += int(CHECK_SECONDS)
        assert await tokens.get() == "Bearer M2"
