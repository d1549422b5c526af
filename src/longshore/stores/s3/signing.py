"""Signatures of requests: AWS's version 4, as S3 wants it, at a few microseconds each.

What does not change from request to request is computed once: the key of a day, with the states of
the hash that begin with it, and for each second the texts that all of its requests sign.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.stores.s3.credentials import Credentials
from longshore.transport.http import Header, Request

_ALGORITHM = "AWS4-HMAC-SHA256"
_NOTHING = hashlib.sha256(b"").hexdigest()
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_MAX_SHAPES = 256
_sha256 = hashlib.sha256


class _Shape(NamedTuple):
    """What requests of one second with the same names of headers share.

    ``lines`` wants what ``ordered`` makes of the values of the headers and, last, the content's
    hash.
    """

    lines: str
    ordered: Callable[[tuple[str, ...]], object]
    added: tuple[Header, ...]
    authorization: str


class Signer:
    """Signs the requests to one host, which must be what the transport's header ``host`` says."""

    def __init__(
        self, host: str, region: str, *, service: str = "s3", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._host = host
        self._region = region
        self._service = service
        self._clock = clock
        self._credentials = Credentials()
        self._second = -1
        self._day = ""
        self._time = ""
        self._scope = ""
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._key_states: tuple[Any, Any] = (_sha256(), _sha256())
        self._inner, self._outer = self._key_states

    def sign(self, request: Request, credentials: Credentials) -> Request:
        """The request with the headers that sign it: its method, target, headers and body.

        The target must be encoded as ``targets`` does, and no header stand twice. What is not ASCII
        is signed as UTF-8.
        """
        second = self._clock.now_us() // 1_000_000
        if second != self._second or credentials is not self._credentials:
            self._begin(second, credentials)
        method, target, headers, body = request
        content = _sha256(body).hexdigest() if body else _NOTHING
        if headers:
            names, values = zip(*headers, strict=True)
            shape = self._shapes.get(names) or self._shape(names)
            lines = shape.lines % shape.ordered((*values, content))
            # Few values have spaces at all, and one character is found sooner than two.
            if " " in lines and ("  " in lines or " \n" in lines or ": " in lines):
                trimmed = [" ".join(filter(None, value.split(" "))) for value in values]
                lines = shape.lines % shape.ordered((*trimmed, content))
        else:
            shape = self._shapes.get(()) or self._shape(())
            lines = shape.lines % content
        path, _, query = target.partition("?")
        if "&" in query:
            query = _canonical(query)
        elif query and "=" not in query:
            query += "="
        text = f"{method}\n{path}\n{query}\n{lines}\n{content}"
        inner = self._inner.copy()
        inner.update(_sha256(text.encode()).hexdigest().encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        signed = (
            *headers,
            *shape.added,
            ("x-amz-content-sha256", content),
            ("authorization", shape.authorization + outer.hexdigest()),
        )
        return Request(method, target, signed, body)

    def _begin(self, second: int, credentials: Credentials) -> None:
        """Get ready for the requests of a second, and of a day or other credentials first."""
        self._time = f"{datetime.fromtimestamp(second, UTC):%Y%m%dT%H%M%SZ}"
        day = self._time[:8]
        if day != self._day or credentials is not self._credentials:
            self._scope = f"{day}/{self._region}/{self._service}/aws4_request"
            key = f"AWS4{credentials.secret_key}".encode()
            for part in self._scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            block = key.ljust(_BLOCK_BYTES, b"\0")
            self._key_states = (
                _sha256(block.translate(_INNER)),
                _sha256(block.translate(_OUTER)),
            )
        inner, self._outer = self._key_states
        self._inner = inner.copy()
        self._inner.update(f"{_ALGORITHM}\n{self._time}\n{self._scope}\n".encode())
        self._shapes.clear()
        self._second, self._day, self._credentials = second, day, credentials

    def _shape(self, names: tuple[str, ...]) -> _Shape:
        """The shape of requests with these headers, kept for the rest of the second."""
        added = [("x-amz-date", self._time)]
        if self._credentials.session_token:
            added.append(("x-amz-security-token", self._credentials.session_token))
        fixed = dict([("host", self._host), *added])
        open_names = [*names, "x-amz-content-sha256"]
        signed = sorted({*fixed, *open_names})
        if len(signed) != len(fixed) + len(open_names):
            raise ValueError(f"A header stands twice, or is the signer's own: {', '.join(names)}.")
        shape = _Shape(
            lines="".join(
                f"{name}:{fixed[name].replace('%', '%%') if name in fixed else '%s'}\n"
                for name in signed
            )
            + f"\n{';'.join(signed)}",
            ordered=itemgetter(*(open_names.index(name) for name in signed if name not in fixed)),
            added=tuple(added),
            authorization=f"{_ALGORITHM} Credential={self._credentials.access_key}/{self._scope},"
            f" SignedHeaders={';'.join(signed)}, Signature=",
        )
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        self._shapes[names] = shape
        return shape


def _canonical(query: str) -> str:
    """A query in the order of names, then values, each with its ``=``."""
    pairs: Sequence[tuple[str, str, str]] = sorted(part.partition("=") for part in query.split("&"))
    return "&".join(f"{name}={value}" for name, _, value in pairs)
