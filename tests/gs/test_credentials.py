"""Tokens: had once however many ask, renewed before they end, and only sent where they may be."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from longshore.errors import Error, Unauthenticated, Unavailable
from longshore.settings import StoreSettings
from longshore.stores.gs.credentials import NOT_RENEWED, GoogleTokens, NoToken, token_source
from longshore.stores.gs.options import read_options
from longshore.transport.renewal import CHECK_SECONDS, Renewed
from tests.gs.asking import BUCKET, said, store_at
from tests.gs.recorder import Answered, Recorder, Request, recording
from tests.s3.instant import Instant

TOKENS = "/token"


class Bank:
    """Gives tokens for signed assertions, as Google's does, and has a bucket."""

    def __init__(self) -> None:
        self.given = 0
        self.lasting_seconds = 3600
        self.refusal: Answered | None = None

    def __call__(self, request: Request) -> Answered:
        if request.path != TOKENS:
            return said({"items": []})
        if self.refusal is not None:
            return self.refusal
        self.given += 1
        token = {"access_token": f"T{self.given}", "expires_in": self.lasting_seconds}
        return said(token | {"token_type": "Bearer"})


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
