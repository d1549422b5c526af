"""Page tokens: where a page ended, so that only this service can have said it.

A token is a version, a code that authenticates the rest, and the position, as base64 that is safe
in URLs. The code is an HMAC of the position and of every argument but the page's size, so a token
goes with no other list, filter or order.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Any

import orjson

from longshore.database import Database, keys
from longshore.errors import invalid_field

_KEY = "page tokens"
_VERSION = b"\x01"
_CODE_BYTES = 16


class TokenKey:
    """The key of all servers of one database, which is made when it is first asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key: bytes | None = None

    async def get(self) -> bytes:
        """The key; from memory but for the first time."""
        key = self._key or await self._database.read(keys.find_key, _KEY)
        if key is None:
            key = await self._database.write(keys.make_key, _KEY)
        self._key = key
        return key


def seal(position: Sequence[Any], arguments: bytes, key: bytes) -> str:
    """The token of ``position`` in the list that ``arguments`` ask for."""
    text = orjson.dumps(list(position))
    return _encode(_VERSION + _code(text, arguments, key) + text)


INVALID = "PAGE_TOKEN_INVALID"


def unseal(token: str, arguments: bytes, key: bytes) -> Sequence[Any]:
    """The position of a token; raises InvalidArgument if ``seal`` did not make it so."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    version, code, text = data[:1], data[1 : 1 + _CODE_BYTES], data[1 + _CODE_BYTES :]
    genuine = hmac.compare_digest(code, _code(text, arguments, key))
    # Base64 has several spellings of the same bytes; one of them is ours.
    if not genuine or version != _VERSION or _encode(data) != token:
        raise invalid_field(
            "page_token",
            "Invalid page_token: it is not one of this list, or parent, filter or order_by are not"
            " those of the request that it came from. Start again without a token.",
            reason=INVALID,
        )
    position: Sequence[Any] = orjson.loads(text)
    return position


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _code(text: bytes, arguments: bytes, key: bytes) -> bytes:
    size = len(arguments).to_bytes(8, "big")
    return hmac.digest(key, _VERSION + size + arguments + text, "sha256")[:_CODE_BYTES]
