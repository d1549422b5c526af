"""What every verb works with: the store, and how a resource is sent back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from longshore.api import partial
from longshore.api.replies import Answer
from longshore.clock import Clock
from longshore.embedded import OneAtATime
from longshore.emulator.incoming import Session
from longshore.emulator.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What the verbs share. ``folder``: where contents lie that are arriving; it is there."""

    store: OneAtATime
    clock: Clock
    folder: Path
    sessions: dict[str, Session] = field(default_factory=dict)


Verb = Callable[[Backend, Request], Awaitable[Answer]]


class Route(NamedTuple):
    """A verb, its path, whose segments are literal or in braces, and what the query may have."""

    method: str
    path: str
    verb: Verb
    parameters: frozenset[str] = frozenset()


def of_json(request: Request, value: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> Answer:
    """``value``, or what of it the parameter ``fields`` asks for."""
    if fields := request.system.get("fields"):
        value = partial.of_plain(value, fields)
    pretty = request.system.get("prettyPrint", "true") != "false"
    option = orjson.OPT_INDENT_2 if pretty else 0
    return Answer(200, orjson.dumps(value, option=option), headers=tuple(headers))


def no_content() -> Answer:
    """The reply of a delete."""
    return Answer(204, b"")


def etag_header(resource: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The header that says of which state a reply is."""
    return (b"etag", str(resource["etag"]).encode())
