"""The query string: what belongs to the method, and the system parameters, which say how to reply
and who asks.

Each system parameter is known with and without a "$" in front
(cloud.google.com/apis/docs/system-parameters).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl

from longshore.errors import InvalidArgument

QUERY_PARAMETERS_MAX = 200
_SYSTEM_PARAMETERS = frozenset(
    {
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "userProject",
        "xgafv",
    }
)
_ENUM_NUMBERS = "json;enum-encoding=int"
_FALSE = frozenset({"false", "f", "no", "n", "0"})
_HEADERS_OF = {
    "key": "x-goog-api-key",
    "quotaUser": "x-goog-quota-user",
    "userProject": "x-goog-user-project",
}
_TOKENS = ("access_token", "oauth_token")


class Reply(NamedTuple):
    """How the caller wants the reply printed, errors included.

    ``fields`` is the mask as sent, "" for everything. ``legacy_errors``: with the list ``errors``
    of error format 1.
    """

    enum_numbers: bool = False
    pretty: bool = True
    proto: bool = False
    legacy_errors: bool = False
    gzip: bool = False
    fields: str = ""


class Query(NamedTuple):
    """A query string, read."""

    parameters: tuple[tuple[str, str], ...]
    system: Mapping[str, str]

    def reply(self, headers: Mapping[str, str]) -> Reply:
        """How to reply, by the system parameters and the ``headers`` that mean the same.

        What can't be had counts as not asked for here, so that it can be refused in a readable way.
        """
        system = self.system
        alt = system.get("alt", "")
        return Reply(
            enum_numbers=alt == _ENUM_NUMBERS,
            pretty=system.get("prettyPrint", "").lower() not in _FALSE,
            proto=alt == "proto",
            legacy_errors=system.get("xgafv") == "1",
            gzip=accepts_gzip(headers.get("accept-encoding", "")),
            fields=system.get("fields") or headers.get("x-goog-fieldmask", ""),
        )

    def check(self) -> None:
        """Raises InvalidArgument for what no method's reply can be had in."""
        alt = self.system.get("alt", "")
        if alt not in ("", "json", "proto", _ENUM_NUMBERS):
            raise InvalidArgument(
                f"Unsupported output format {alt[:100]!r}: alt must be json, proto or"
                f" {_ENUM_NUMBERS}."
            )
        if self.system.get("callback"):
            raise InvalidArgument("JSONP is not supported: send no `callback` parameter.")

    def with_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """``headers``, and those that system parameters stand for where they are missing."""
        system = self.system
        if not system:
            return headers
        implied = {header: system[name] for name, header in _HEADERS_OF.items() if system.get(name)}
        for name in _TOKENS:
            if system.get(name):
                implied.setdefault("authorization", f"Bearer {system[name]}")
        return {**implied, **headers} if implied else headers

    def joined(self, other: Query) -> Query:
        """Both; the ``other`` one's count where there can only be one."""
        return Query((*self.parameters, *other.parameters), {**self.system, **other.system})


_NOTHING = Query((), {})


def read(raw_query: str) -> Query:
    """The query string (or the form) as sent, percent-encoded; raises InvalidArgument.

    Bytes above 127, which should have been escaped, are there as Latin-1.
    """
    if not raw_query:
        return _NOTHING
    try:
        pairs = parse_qsl(
            raw_query if raw_query.isascii() else raw_query.encode("latin-1").decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_PARAMETERS_MAX,
        )
    except ValueError as error:
        raise InvalidArgument(
            "The query string is not valid UTF-8 or has more than"
            f" {QUERY_PARAMETERS_MAX} parameters."
        ) from error
    system: dict[str, str] = {}
    own = []
    for name, value in pairs:
        refuse_nul(name + value)
        plain = name.removeprefix("$").removeprefix(".")
        if plain in _SYSTEM_PARAMETERS:
            system[plain] = value
        else:
            own.append((name, value))
    return Query(tuple(own), system)


def refuse_nul(text: str) -> None:
    """Raises InvalidArgument: no name has one, and no database takes it."""
    if "\x00" in text:
        raise InvalidArgument("Paths and query parameters must not contain the NUL character.")


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: str) -> bool:
    """Does the header allow gzip, and not only as something worse than no coding at all?"""
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        name, _, weight = parameters.partition("=")
        try:
            weights[coding.strip()] = float(weight) if name.strip() == "q" else 1.0
        except ValueError:
            return False
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)
