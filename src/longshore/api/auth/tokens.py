"""Tokens in a file: of each only a digest, so that whoever reads the file can't use it.

The digest is plain SHA-256. What makes the digests of passwords slow, and salted, is that passwords
can be guessed; a token is 256 random bits, which nobody can guess even at a trillion a second, and
no two are equal.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from longshore import telemetry
from longshore.api.auth import refusals
from longshore.api.auth.caller import Caller, is_principal
from longshore.api.auth.watched import Watched
from longshore.clock import Clock
from longshore.errors import InvalidArgument
from longshore.settings import CLOUD_PLATFORM

PREFIX = "longshore_"
"""Of every token, so that those who look for leaked secrets know one."""
_HEAD = "sha256:"


class Token(NamedTuple):
    """A line of the file. ``expire_us``: microseconds since 1970; None: never."""

    digest: bytes
    caller: Caller
    expire_us: int | None = None


def new_token() -> str:
    """A token that nobody has had before."""
    return PREFIX + secrets.token_urlsafe(32)


def line_of(token: str, principal: str, expires: datetime | None, scopes: Sequence[str]) -> str:
    """What the file must say of a token; raises InvalidArgument for what could not be read back."""
    if not is_principal(principal):
        raise InvalidArgument(
            f"{principal!r} is no principal: expected one word of printable characters."
        )
    words = [f"{_HEAD}{_digest(token).hex()}", principal]
    if expires is not None:
        words.append(f"expires={expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    if scopes:
        words.append(f"scopes={','.join(scopes)}")
    line = " ".join(words)
    _parse_line(line)
    return line


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class TokensFile:
    """The tokens of a file, which is read again when it changes.

    Raises InvalidArgument if it can't be read or a line is wrong.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        self._clock = clock
        self._tokens = Watched("tokens", file, lambda: _read(file), clock)

    async def identify(self, token: str, method: str) -> Caller | None:
        """Whose token it is; None: nobody's. Raises Unauthenticated if it has expired."""
        digest = _digest(token)
        found = self._tokens.now().get(_slot(digest))
        # The slot is found in a time that tells a little of a digest, which leads to no token; the
        # digests are compared in a time that tells nothing.
        if found is None or not hmac.compare_digest(found.digest, digest):
            return None
        if found.expire_us is not None and found.expire_us <= self._clock.now_us():
            raise refusals.bad_credentials(method, expired=True)
        return found.caller


def _slot(digest: bytes) -> bytes:
    return digest[:8]


def _read(file: Path) -> Mapping[bytes, Token]:
    try:
        text = file.read_text(encoding="utf-8")
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"Cannot read the file of tokens {file}: {error}.") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        telemetry.warning(
            "tokens open to others", file=file, mode=oct(stat.S_IMODE(mode)), wanted="0o600"
        )
    tokens = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = _parse_line(line)
        except InvalidArgument as error:
            raise InvalidArgument(f"{file}, line {number}: {error.message}") from error
        tokens[_slot(token.digest)] = token
    return tokens


def _parse_line(line: str) -> Token:
    head, *rest = line.split()
    principal = rest.pop(0) if rest else ""
    options = dict(word.partition("=")[::2] for word in rest)
    try:
        digest = bytes.fromhex(head.removeprefix(_HEAD))
        expires = options.pop("expires", None)
        expire_us = None if expires is None else _micros(expires)
    except ValueError as error:
        raise _no_line() from error
    if len(digest) != hashlib.sha256().digest_size or not head.startswith(_HEAD):
        raise _no_line()
    scopes = frozenset(options.pop("scopes", CLOUD_PLATFORM).split(","))
    if options or not is_principal(principal):
        raise _no_line()
    return Token(digest, Caller(principal, scopes), expire_us)


def _micros(text: str) -> int:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return int(time.timestamp()) * 1_000_000


def _no_line() -> InvalidArgument:
    # The line is not shown: somebody may have put the token itself into it.
    return InvalidArgument(
        "this is no line of tokens: expected sha256:DIGEST PRINCIPAL [expires=TIME]"
        " [scopes=SCOPE,…], as `longshore auth token` prints it."
    )
