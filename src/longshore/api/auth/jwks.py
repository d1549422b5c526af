"""The keys of an OpenID provider, as a JSON Web Key Set from its server or from a file.

PyJWT's own client would hold up the loop, follow redirects and fetch as often as it is asked to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx
import jwt
import orjson
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from longshore import telemetry
from longshore.api.auth.watched import Watched
from longshore.clock import Clock
from longshore.errors import InvalidArgument, Unavailable

FRESH_SECONDS = 600.0
"""Keys are fetched anew so often, and a key that its owner took back is good for so long."""
KEPT_SECONDS = 3600.0
"""How long keys are good for while none can be fetched."""
BETWEEN_SECONDS = 30.0
"""Between two fetches, however many tokens name keys that nobody knows."""
RETRY_SECONDS = 5.0
"""The same after a fetch that failed."""
FETCH_SECONDS = 10.0
MAX_BYTES = 256 << 10
RSA_MIN_BITS = 2048

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA"}),
}
ALGORITHMS = _RSA.union(*_CURVES.values())
"""What may be allowed: signatures, and nothing whose key a verifier could sign with."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Key(NamedTuple):
    """A public key, and the algorithms that it fits."""

    public: Any
    algorithms: frozenset[str]


class KeySource(Protocol):
    """Where keys come from."""

    async def find(self, kid: str) -> Key | None:
        """The key of that id; None: there is none. Raises Unavailable if nobody knows now."""


class FileKeys:
    """The keys of a file, which is read again when it changes."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._keys = Watched("jwks", file, lambda: _read(file), clock)

    async def find(self, kid: str) -> Key | None:
        """The key of that id; None: there is none."""
        return self._keys.now().get(kid)


def _read(file: Path) -> Mapping[str, Key]:
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"Cannot read the keys {file}: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidArgument(f"{file} is no JSON Web Key Set: {error}.") from error


class FetchedKeys:
    """The keys that a server gives, fetched when somebody needs one.

    One fetch at a time is under way, in a thread of its own: it serves all who wait, whichever
    loop they are in, and holds up none who know their key.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise InvalidArgument(
                f"auth.oidc.jwks_url is {url!r}: it must begin with https://, or anybody on the way"
                " could put in keys."
            )
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, Key] = {}
        self._fetched: float | None = None
        self._not_before = clock.monotonic()
        self._fetching: Future[None] | None = None

    async def find(self, kid: str) -> Key | None:
        """The key of that id, after a fetch if it is not known yet; None: there is none.

        Raises Unavailable if there are no keys and none can be fetched.
        """
        key = self._known(kid)
        fetch = self._fetch_if_due(wanted=key is None)
        if key is None and fetch is not None:
            # One who gives up waiting must not take the fetch away from the others.
            await asyncio.shield(asyncio.wrap_future(fetch))
            key = self._known(kid)
        if key is None and self._age() > KEPT_SECONDS:
            raise Unavailable("The keys of the token's issuer can't be had just now.")
        return key

    def _known(self, kid: str) -> Key | None:
        return self._keys.get(kid) if self._age() <= KEPT_SECONDS else None

    def _age(self) -> float:
        if self._fetched is None:
            return float("inf")
        return self._clock.monotonic() - self._fetched

    def _fetch_if_due(self, *, wanted: bool) -> Future[None] | None:
        """The fetch that is under way, or that begins: because a key is ``wanted`` or all are
        old, unless the last one was a moment ago."""
        with self._lock:
            if self._fetching is None:
                due = wanted or self._age() > FRESH_SECONDS
                if not due or self._clock.monotonic() < self._not_before:
                    return None
                self._fetching = Future()
                threading.Thread(target=self._fetch, args=(self._fetching,), daemon=True).start()
            return self._fetching

    def _fetch(self, done: Future[None]) -> None:
        pause = RETRY_SECONDS
        try:
            self._keys = parse(_download(self._url))
            self._fetched = self._clock.monotonic()
            pause = BETWEEN_SECONDS
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            telemetry.warning("jwks not fetched", url=self._url, why=error, again_seconds=pause)
        finally:
            with self._lock:
                self._not_before = self._clock.monotonic() + pause
                self._fetching = None
            done.set_result(None)


def _download(url: str) -> bytes:
    """Raises httpx.HTTPError, and ValueError for what is no plain and small enough answer."""
    deadline = time.monotonic() + FETCH_SECONDS
    body = bytearray()
    with (
        httpx.Client(
            timeout=FETCH_SECONDS,
            follow_redirects=False,
            trust_env=urlsplit(url).hostname not in _LOOPBACK,
        ) as client,
        # Nothing compressed: a small answer could become a large one.
        client.stream("GET", url, headers={"accept-encoding": "identity"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"the server answered {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("the server answered with a compressed body")
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"the answer has more than {MAX_BYTES} bytes")
            if time.monotonic() > deadline:
                raise ValueError(f"the answer took more than {FETCH_SECONDS:g} seconds")
    return bytes(body)


def parse(data: bytes) -> Mapping[str, Key]:
    """The usable keys of a JSON Web Key Set by their ids; raises ValueError if it is none.

    Keys without an id, for encryption, secret ones, and those that are too weak are left out.
    """
    document = orjson.loads(data)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it has no list of keys")  # noqa: TRY004 - of the text, not of a type
    keys: dict[str, Key] = {}
    for entry in entries:
        if isinstance(entry, dict) and (key := _key(entry)):
            keys.setdefault(entry["kid"], key)
    return keys


def _key(entry: Mapping[str, Any]) -> Key | None:
    try:
        public, fits = _public(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        telemetry.warning("key not read", kid=entry.get("kid"), why=error)
        return None
    return Key(public, fits) if fits else None


def _public(entry: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """The key, and the algorithms that it may be used for: none if it is not for signatures."""
    named = isinstance(entry.get("kid"), str) and entry["kid"]
    signs = entry.get("use", "sig") == "sig" and "verify" in entry.get("key_ops", ["verify"])
    # "d" is the private part: whoever publishes that has no secret any more.
    if not named or not signs or "d" in entry:
        return None, frozenset()
    public: Any = None
    fits: frozenset[str] = frozenset()
    match entry.get("kty"):
        case "RSA":
            public = RSAAlgorithm.from_jwk(dict(entry))
            fits = _RSA if public.key_size >= RSA_MIN_BITS else frozenset()
        case "EC":
            public, fits = ECAlgorithm.from_jwk(dict(entry)), _CURVES[entry["crv"]]
        case "OKP":
            public, fits = OKPAlgorithm.from_jwk(dict(entry)), _CURVES[entry["crv"]]
    return public, fits & {entry["alg"]} if "alg" in entry else fits
