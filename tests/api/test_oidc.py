"""Tokens of an OpenID provider: what is taken, what is refused, and how its keys are had."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from longshore.api.auth import Auth, jwks
from longshore.api.auth.caller import Caller
from longshore.api.auth.oidc import Oidc
from longshore.api.auth.tokens import line_of, new_token
from longshore.api.auth.watched import LOOK_SECONDS
from longshore.errors import InvalidArgument, Unauthenticated, Unavailable
from longshore.settings import CLOUD_PLATFORM, AuthSettings, OidcSettings, Settings
from tests.api.conftest import Clock

ISSUER = "https://login.example"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def _jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    named = {} if kid is None else {"kid": kid}
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **named, **more}


def _claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": "longshore",
        "sub": "ann",
        "iat": now,
        "exp": now + 300,
        "scope": f"openid {CLOUD_PLATFORM}",
    }
    return {key: value for key, value in (claims | changes).items() if value is not None}


def _token(
    key: Any = RSA,
    kid: str | None = "one",
    algorithm: str = "RS256",
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    headers = {} if kid is None else {"kid": kid}
    headers.update(header or {})
    return jwt.encode(_claims(**changes), key, algorithm, headers)


def _by_hand(header: dict[str, Any], secret: bytes | None) -> str:
    """A token that no library would make."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(_claims()).encode())}"
    if secret is None:
        return f"{signed}."
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _settings(**more: Any) -> OidcSettings:
    return OidcSettings(issuer=ISSUER, audience=("longshore", "other"), **more)


def _file(tmp_path: Path, *keys: dict[str, Any]) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": keys}))
    return file


KEYS = (_jwk(RSA, "one"), _jwk(EC, "two"), _jwk(OTHER_RSA, None))


@pytest.fixture
def oidc(tmp_path: Path) -> Oidc:
    return Oidc(_settings(jwks_file=_file(tmp_path, *KEYS)), Clock())


async def test_both_modes_together(tmp_path: Path) -> None:
    """A token is asked of each issuer, and refused where it is neither's."""
    mine, file = new_token(), tmp_path / "tokens"
    file.touch(0o600)
    file.write_text(line_of(mine, "bob", None, []))
    oidc = _settings(jwks_file=_file(tmp_path, *KEYS))
    both = AuthSettings(mode=("tokens", "oidc"), tokens_file=file, oidc=oidc)
    auth = Auth.fixed(Settings(auth=both), Clock())
    principals = {}
    for token in (mine, _token()):
        caller = await auth.identify({"authorization": f"Bearer {token}"}, "m")
        principals[token] = caller.principal
    assert list(principals.values()) == ["bob", "ann"]
    for token in (new_token(), _token(OTHER_RSA)):
        with pytest.raises(Unauthenticated):
            await auth.identify({"authorization": f"Bearer {token}"}, "m")


@pytest.mark.parametrize(
    "make",
    [
        lambda: _token(),
        lambda: _token(EC, "two", "ES256"),
        lambda: _token(aud=["x", "other"]),
        lambda: _token(exp=int(time.time()) - 30),
        lambda: _token(scope=None, scp=[CLOUD_PLATFORM]),
        lambda: _token(header={"typ": "at+jwt"}),
    ],
)
async def test_tokens_that_are_taken(oidc: Oidc, make: Callable[[], str]) -> None:
    caller = await oidc.identify(make(), "m")
    assert caller is not None
    assert (caller.principal, CLOUD_PLATFORM in caller.scopes) == ("ann", True)


PUBLIC = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(make, reason, id=name)
        for name, make, reason in [
            ("expired", lambda: _token(exp=int(time.time()) - 120), "ACCESS_TOKEN_EXPIRED"),
            ("no exp", lambda: _token(exp=None), ""),
            ("no iss", lambda: _token(iss=None), ""),
            ("no aud", lambda: _token(aud=None), ""),
            ("not yet", lambda: _token(nbf=int(time.time()) + 120), ""),
            ("from the future", lambda: _token(iat=int(time.time()) + 120), ""),
            ("another issuer", lambda: _token(iss=ISSUER + "/"), ""),
            ("another audience", lambda: _token(aud="longshore2"), ""),
            ("infinite", lambda: _token(exp=float("inf")), ""),
            ("no sub", lambda: _token(sub=None), ""),
            ("blank sub", lambda: _token(sub="a b"), ""),
            ("another's signature", lambda: _token(OTHER_RSA), ""),
            ("no kid", lambda: _token(kid=None), ""),
            ("a key without a kid", lambda: _token(OTHER_RSA, kid=None), ""),
            ("unknown kid", lambda: _token(kid="three"), ""),
            ("an algorithm not allowed", lambda: _token(algorithm="RS512"), ""),
            ("a key of another kind", lambda: _token(RSA, "two"), ""),
            ("critical", lambda: _token(header={"crit": ["exp"], "exp": 1}), ""),
            (
                "the public key as a secret",
                lambda: _by_hand({"alg": "HS256", "kid": "one"}, PUBLIC),
                "",
            ),
            ("none", lambda: _by_hand({"alg": "none", "kid": "one"}, None), ""),
            ("None", lambda: _by_hand({"alg": "None", "kid": "one"}, None), ""),
            ("no alg", lambda: _by_hand({"kid": "one"}, None), ""),
            ("a number as kid", lambda: _by_hand({"alg": "RS256", "kid": 1}, None), ""),
            (
                "a key of its own",
                lambda: _by_hand({"alg": "HS256", "jwk": _jwk(RSA, "x")}, b"k"),
                "",
            ),
            ("empty", lambda: "..", ""),
            ("deep", lambda: base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.x", ""),
        ]
    ],
)
async def test_tokens_that_are_refused(oidc: Oidc, make: Callable[[], str], reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await oidc.identify(make(), "m")
    assert caught.value.reason == (reason or "ACCESS_TOKEN_TYPE_UNSUPPORTED")
    assert caught.value.message.startswith("Request had invalid authentication credentials.")


async def test_a_word_is_no_token_of_a_provider(oidc: Oidc) -> None:
    assert await oidc.identify("longshore_abc", "m") is None


@pytest.mark.parametrize(
    ("more", "claims", "caller"),
    [
        ({}, {"scope": "openid"}, Caller("ann", frozenset({"openid"}))),
        ({"scope": "jobs"}, {"scope": "jobs"}, Caller("ann", frozenset({"jobs", CLOUD_PLATFORM}))),
        ({"scope": "jobs"}, {"scope": CLOUD_PLATFORM}, Caller("ann", frozenset())),
        ({"scope": ""}, {"scope": None}, Caller("ann", frozenset({CLOUD_PLATFORM}))),
        (
            {"principal": "email", "scope": ""},
            {"email": "ann@example.com", "email_verified": True, "scope": None},
            Caller("ann@example.com", frozenset({CLOUD_PLATFORM})),
        ),
        ({"principal": "email"}, {"email": "ann@example.com"}, None),
        ({"principal": "email"}, {"email": "a@example.com", "email_verified": "false"}, None),
    ],
)
async def test_who_it_is_and_for_what(
    tmp_path: Path, more: Any, claims: Any, caller: Caller | None
) -> None:
    oidc = Oidc(_settings(jwks_file=_file(tmp_path, *KEYS), **more), Clock())
    if caller is None:
        with pytest.raises(Unauthenticated):
            await oidc.identify(_token(**claims), "m")
    else:
        assert await oidc.identify(_token(**claims), "m") == caller


@pytest.mark.parametrize(
    ("key", "usable"),
    [
        (_jwk(RSA, "k"), True),
        (_jwk(RSA, "k", use="sig", alg="RS256", key_ops=["verify"]), True),
        (_jwk(RSA, "k", use="enc"), False),
        (_jwk(RSA, "k", key_ops=["encrypt"]), False),
        (_jwk(RSA, "k", alg="RSA-OAEP"), False),
        (_jwk(RSA, "k", d="AQAB"), False),
        (_jwk(RSA, ""), False),
        (_jwk(RSA, "k", n="AQAB"), False),
        (_jwk(RSA, "k", n=5), False),
        (_jwk(EC, "k", crv="P-384"), False),
        (_jwk(EC, "k", crv=["P-256"]), False),
        ({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}, False),
        ({"kty": "oct", "kid": "k", "k": "c2VjcmV0", "alg": "RS256"}, False),
        ({"kty": "RSA", "kid": "k"}, False),
        ({"kid": "k"}, False),
        ("text", False),
    ],
)
def test_keys_that_are_used(key: Any, usable: bool) -> None:
    assert list(jwks.parse(json.dumps({"keys": [key]}).encode())) == ["k"] * usable


def test_a_key_that_is_too_short_is_not_used() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    assert not jwks.parse(json.dumps({"keys": [_jwk(short, "k")]}).encode())


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS257"])
def test_algorithms_that_can_not_be_allowed(tmp_path: Path, algorithm: str) -> None:
    settings = _settings(jwks_file=_file(tmp_path), algorithms=("RS256", algorithm))
    with pytest.raises(InvalidArgument, match=algorithm):
        Oidc(settings, Clock())


@pytest.mark.parametrize("text", ["{", "[]", '{"keys": {}}', None])
def test_a_file_that_has_no_keys(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "jwks.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidArgument, match=r"jwks\.json"):
        Oidc(_settings(jwks_file=file), Clock())


async def test_a_file_of_keys_is_read_again(tmp_path: Path) -> None:
    clock = Clock()
    oidc = Oidc(_settings(jwks_file=_file(tmp_path, *KEYS)), clock)
    assert await oidc.identify(_token(), "m")
    _file(tmp_path, _jwk(EC, "two"))
    clock._monotonic += LOOK_SECONDS
    with pytest.raises(Unauthenticated):
        await oidc.identify(_token(), "m")


class Provider(ThreadingHTTPServer):
    """Serves keys, or what a test has it do instead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/keys"
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.give(*KEYS)

    def give(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.gate.wait(30)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def _refused(oidc: Oidc, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await oidc.identify(token, "m")


async def _until_asked(provider: Provider, times: int) -> None:
    async with asyncio.timeout(30):
        while len(provider.asked) < times:
            await asyncio.sleep(0.005)


async def test_one_fetch_serves_all_who_wait(provider: Provider) -> None:
    oidc = Oidc(_settings(jwks_url=provider.url), Clock())
    provider.gate.clear()
    waiting = [asyncio.create_task(oidc.identify(_token(), "m")) for _ in range(20)]
    await _until_asked(provider, 1)
    waiting[0].cancel()  # takes the fetch away from nobody
    provider.gate.set()
    callers = await asyncio.gather(*waiting[1:])
    assert {caller.principal for caller in callers if caller} == {"ann"}
    assert len(provider.asked) == 1


async def test_loops_of_two_threads_share_the_keys(provider: Provider) -> None:
    oidc = Oidc(_settings(jwks_url=provider.url), Clock())
    provider.gate.clear()
    here = asyncio.create_task(oidc.identify(_token(), "m"))
    await _until_asked(provider, 1)
    there = asyncio.create_task(
        asyncio.to_thread(lambda: asyncio.run(oidc.identify(_token(), "m")))
    )
    provider.gate.set()
    assert await here == await there != None  # noqa: E711
    assert len(provider.asked) == 1


async def test_a_storm_of_unknown_keys_is_one_fetch(provider: Provider) -> None:
    clock = Clock()
    oidc = Oidc(_settings(jwks_url=provider.url), clock)
    for number in range(50):
        await _refused(oidc, _token(kid=f"k{number}"))
    assert len(provider.asked) == 1
    assert await oidc.identify(_token(), "m")
    clock._monotonic += jwks.BETWEEN_SECONDS
    await asyncio.gather(*(_refused(oidc, _token(kid=f"k{number}")) for number in range(50)))
    assert len(provider.asked) == 2


async def test_keys_rotate(provider: Provider) -> None:
    clock = Clock()
    oidc = Oidc(_settings(jwks_url=provider.url), clock)
    assert await oidc.identify(_token(), "m")
    provider.give(*KEYS, _jwk(OTHER_RSA, "new"))
    clock._monotonic += jwks.BETWEEN_SECONDS
    assert await oidc.identify(_token(OTHER_RSA, "new"), "m")
    assert await oidc.identify(_token(), "m")
    provider.give(_jwk(OTHER_RSA, "new"))
    clock._monotonic += jwks.FRESH_SECONDS + 1
    assert await oidc.identify(_token(), "m")  # nobody waits for a key that is known
    await _until_asked(provider, 3)
    async with asyncio.timeout(30):
        while oidc._keys._fetching is not None:
            await asyncio.sleep(0.005)
    await _refused(oidc, _token())
    assert await oidc.identify(_token(OTHER_RSA, "new"), "m")


async def test_keys_outlive_their_provider_for_a_while(provider: Provider) -> None:
    clock = Clock()
    oidc = Oidc(_settings(jwks_url=provider.url), clock)
    assert await oidc.identify(_token(), "m")
    provider.status = 500
    clock._monotonic += jwks.KEPT_SECONDS
    assert await oidc.identify(_token(), "m")
    clock._monotonic += 1
    with pytest.raises(Unavailable):
        await oidc.identify(_token(), "m")
    provider.status = 200
    clock._monotonic += jwks.RETRY_SECONDS
    assert await oidc.identify(_token(), "m")


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (302, {"location": "/elsewhere"}, b""),
        (500, {}, None),
        (200, {}, b"x" * (jwks.MAX_BYTES + 1)),
        (200, {}, b"<html>"),
        (200, {"content-encoding": "gzip"}, None),
    ],
)
async def test_answers_that_are_no_keys(
    provider: Provider, status: int, headers: dict[str, str], body: bytes | None
) -> None:
    provider.status, provider.headers = status, headers
    provider.body = provider.body if body is None else body
    oidc = Oidc(_settings(jwks_url=provider.url), Clock())
    for _ in range(3):
        with pytest.raises(Unavailable):
            await oidc.identify(_token(), "m")
    assert provider.asked == ["/keys"]


@pytest.mark.parametrize("url", ["http://login.example/keys", "file:///etc/passwd", "keys"])
def test_keys_come_by_a_safe_way_only(url: str) -> None:
    with pytest.raises(InvalidArgument, match="https://"):
        Oidc(_settings(jwks_url=url), Clock())
