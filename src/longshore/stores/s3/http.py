"""One HTTP/1.1 request and its reply, and the contract of what sends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Header = tuple[str, str]
"""A name, in lower case, and its value."""


class Request(NamedTuple):
    """A request to the one endpoint that a transport is for.

    ``target`` is path and query as they stand in the request line, percent-encoded, which is also
    what was signed. The transport adds ``host``, ``content-length`` and what concerns the
    connection; everything else is in ``headers``.
    """

    method: str
    target: str
    headers: Sequence[Header] = ()
    body: bytes = b""


class Reply(NamedTuple):
    """A final reply (never 1xx), whole. Headers as they came, names in lower case, Latin-1."""

    status: int
    headers: Sequence[Header]
    body: bytes

    def header(self, name: str) -> str:
        """The first value of a header by its name in lower case; "" without one."""
        for known, value in self.headers:
            if known == name:
                return value
        return ""


class Transport(Protocol):
    """Sends requests to one endpoint, many at a time, over connections that it keeps.

    It never repeats a request, follows no redirect, and judges no status.
    """

    async def send(self, request: Request) -> Reply:
        """The reply. Raises Unavailable if no connection came about or it broke, DeadlineExceeded
        if the reply was not whole in time: whether the request took effect is then unknown."""

    async def close(self) -> None:
        """Close the connections; what is under way fails with Unavailable."""
