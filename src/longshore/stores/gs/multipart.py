"""Many calls in one request, and the replies to them in one: multipart/mixed, as
docs.cloud.google.com/storage/docs/batch has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from longshore.transport.http import Reply

MAX_CALLS = 100
MAX_BYTES = 8_000_000
"""Of all calls together; the API takes less than 10 MB."""
PART_BYTES = 200
"""About how much a call has around its target and its body."""
_OURS = "batch_of_longshore"
_TYPE = f"multipart/mixed; boundary={_OURS}"
_LONGEST_BYTES = 100_000
"""Of an answer after which the beginnings of others are made."""
_BOUNDARY = re.compile(r"multipart/mixed\b.*?\bboundary=(?:\"([^\"]+)\"|([^\s;\"]+))", re.I)
_ANSWER = re.compile(
    rb"[ \t]*\r\n(?:[^\r\n]+\r\n)*?Content-ID:[ \t]*<response-(\d{1,9})@longshore>[ \t]*\r\n"
    rb"(?:[^\r\n]+\r\n)*\r\nHTTP/1\.[01] (\d{3})\b",
    re.I,
)
"""The head of a part, and the first line of the reply that is in it."""


class Answer(NamedTuple):
    """What is answered to one of them."""

    status: int
    body: bytes


def encode(
    method: str, targets: Sequence[str], bodies: Sequence[bytes], end: str = ""
) -> tuple[str, bytes]:
    """The content type and the body of a request that makes these calls: ``targets`` are path and
    query of each, which ``end`` ends; ``bodies`` is JSON for each, or empty.

    No line of a call can be a boundary: targets are percent-encoded, and JSON has no line in which
    it could stand.
    """
    heads = _heads(method)[: len(targets)]
    line = f"{end} HTTP/1.1\r\n"
    if bodies:
        rests = {body: line + _rest(body) for body in set(bodies)}
        parts = [
            f"{head}{target}{rests[body]}"
            for head, target, body in zip(heads, targets, bodies, strict=True)
        ]
    else:
        line = f"{line}\r\n\r\n"
        parts = [f"{head}{target}{line}" for head, target in zip(heads, targets, strict=True)]
    parts.append(f"--{_OURS}--\r\n")
    return _TYPE, "".join(parts).encode()


@lru_cache(maxsize=16)
def _heads(method: str) -> tuple[str, ...]:
    """What stands before the target of each of as many calls as there may be."""
    begin = f"--{_OURS}\r\nContent-Type: application/http\r\nContent-ID: <"
    return tuple(f"{begin}{n}@longshore>\r\n\r\n{method} " for n in range(MAX_CALLS))


def _rest(body: bytes) -> str:
    """What follows the request line of a call."""
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{head}{body.decode()}\r\n"


def granted(reply: Reply, count: int, *, bodies: bool) -> list[bytes] | None:
    """The bodies of the answers to ``count`` calls, which are MAX_CALLS at most, or without
    ``bodies`` as many empty ones, if every call is granted, all by the same status and in the order
    of the calls, as they usually are. None: ``decode`` is to look, which would say the same where
    this says anything."""
    boundary = _boundary(reply)
    if boundary is None:
        return None
    _, *pieces = (b"\r\n" + reply.body).split(b"\r\n--" + boundary)
    if len(pieces) != count + 1:
        return None
    pieces.pop()  # what is behind the last answer, or an answer that may not be whole
    first = pieces[0]
    found = _ANSWER.match(first)
    if found is None or found[2][:1] != b"2" or not found.end() < len(first) < _LONGEST_BYTES:
        return None
    # The others are to begin as the first does, number apart, up to what follows the status.
    number, end = found.span(1)
    beginnings = _beginnings(first[:number], first[end : found.end() + 1])
    if not all(map(bytes.startswith, pieces, beginnings)):
        return None
    if not bodies:
        return [b""] * count
    starts = map(len, beginnings)
    return [_content(piece, start - 1) for piece, start in zip(pieces, starts, strict=False)]


@lru_cache(maxsize=16)
def _beginnings(before: bytes, after: bytes) -> tuple[bytes, ...]:
    """How the answers to as many calls as there may be begin."""
    return tuple(b"%s%d%s" % (before, number, after) for number in range(MAX_CALLS))


def _content(piece: bytes, start: int) -> bytes:
    """The body of an answer of which ``start`` is behind the status."""
    end = piece.find(b"\r\n\r\n", start)
    return piece[end + 4 :].rstrip(b"\r\n") if end >= 0 else b""


def _boundary(reply: Reply) -> bytes | None:
    match = _BOUNDARY.match(reply.header("content-type"))
    return (match[1] or match[2]).encode("latin-1") if match else None


def decode(reply: Reply, count: int) -> list[Answer | None] | None:
    """The answers to ``count`` calls, in the order of these; None where there is not just one, so
    that nobody knows what came of the call. None instead of them all: this is no multipart/mixed.

    Servers answer in any order, so what is answered to which call is said by its number alone. An
    answer that is not ended by another boundary may not be whole.
    """
    boundary = _boundary(reply)
    if boundary is None:
        return None
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
            answer = Answer(int(found[2]), _content(piece, found.end()))
            answers[index] = None if index in seen else answer
            seen.add(index)
    return answers
