"""One HTTP/1.1 request and its reply, and the contract of what sends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from longshore.errors import InvalidArgument, Unavailable

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


WITH_BODY = ("PUT", "POST")
"""Methods that say the length of their body even where there is none."""


def head_of(request: Request, authority: str) -> bytes:
    """The head of a request as it is sent; raises InvalidArgument if a line of it would end where
    it should not: nobody's metadata is to become a header, or a request, of its own."""
    method, target, headers, body = request
    count = len(headers) + 3
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if body or method in WITH_BODY:
        count += 1
        lines = f"{lines}content-length: {len(body)}\r\n"
    head = f"{method} {target} HTTP/1.1\r\nhost: {authority}\r\n{lines}\r\n"
    if head.count("\n") != count or head.count("\r") != count or "\0" in head or " " in target:
        raise InvalidArgument("A header or the target of a request has a control character.")
    try:
        return head.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument("A header or the target of a request is no UTF-8.") from error


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


class Unreached(Unavailable):
    """No connection came about, so nothing was sent and nothing was done."""


class Transport(Protocol):
    """Sends requests to one endpoint, many at a time, over connections that it keeps.

    It never repeats a request, follows no redirect, and judges no status.
    """

    async def send(self, request: Request) -> Reply:
        """The reply. Raises Unreached if no connection came about. Raises Unavailable if it broke,
        DeadlineExceeded if the reply was not whole in time: whether the request took effect is then
        unknown.
        Raises InvalidArgument, and sends nothing, if the request can't be written as HTTP."""

    async def close(self) -> None:
        """Close the connections; what is under way fails with Unavailable."""
