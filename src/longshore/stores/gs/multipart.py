"""Many calls in one request, and the replies to them in one: multipart/mixed, as
docs.cloud.google.com/storage/docs/batch has it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from longshore.transport.http import Reply

MAX_CALLS = 100
MAX_BYTES = 8_000_000
"""Of all calls together; the API takes less than 10 MB."""
PART_BYTES = 200
"""About how much a call has around its path and its body."""
_BOUNDARY = re.compile(r"multipart/mixed\b.*?\bboundary=(?:\"([^\"]+)\"|([^\s;\"]+))", re.I)
_ANSWER = re.compile(
    rb"[ \t]*\r\n(?:[^\r\n]+\r\n)*?Content-ID:[ \t]*<response-(\d{1,9})@longshore>[ \t]*\r\n"
    rb"(?:[^\r\n]+\r\n)*\r\nHTTP/1\.[01] (\d{3})\b",
    re.I,
)
"""The head of a part, and the first line of the reply that is in it."""


class Inner(NamedTuple):
    """One of the calls: ``target`` is path and query, ``body`` is JSON."""

    method: str
    target: str
    body: bytes = b""


class Answer(NamedTuple):
    """What is answered to one of them."""

    status: int
    body: bytes


def encode(calls: Sequence[Inner]) -> tuple[str, bytes]:
    """The content type and the body of a request that makes these calls."""
    boundary = f"longshore{secrets.token_hex(16)}"
    begin = f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <"
    pieces = [
        b"%s%d@longshore>\r\n\r\n%s %s HTTP/1.1\r\n%s\r\n"
        % (begin.encode(), number, method.encode(), target.encode(), _content(body))
        for number, (method, target, body) in enumerate(calls)
    ]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/mixed; boundary={boundary}", b"".join(pieces)


def _content(body: bytes) -> bytes:
    """What follows the request line of a call."""
    if not body:
        return b"\r\n"
    head = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def decode(reply: Reply, count: int) -> list[Answer | None] | None:
    """The answers to ``count`` calls, in the order of these; None where there is not just one, so
    that nobody knows what came of the call. None instead of them all: this is no multipart/mixed.

    Servers answer in any order, so what is answered to which call is said by its number alone. An
    answer that is not ended by another boundary may not be whole.
    """
    match = _BOUNDARY.match(reply.header("content-type"))
    if match is None:
        return None
    boundary = (match[1] or match[2]).encode("latin-1")
    _, *pieces = (b"\r\n" + reply.body).split(b"\r\n--" + boundary)
    if pieces and not pieces[-1].startswith(b"--"):
        del pieces[-1]
    answers: list[Answer | None] = [None] * count
    seen: set[int] = set()
    for piece in pieces:
        found = _ANSWER.match(piece)
        if found is None:
            continue
        index = int(found[1])
        if index < count:
            end = piece.find(b"\r\n\r\n", found.end())
            body = piece[end + 4 :].rstrip(b"\r\n") if end >= 0 else b""
            answers[index] = None if index in seen else Answer(int(found[2]), body)
            seen.add(index)
    return answers
