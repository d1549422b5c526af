"""Authorised requests to Cloud Storage, each in its turn, with refusals as errors of longshore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import Code, Error
from longshore.store import UNSENT, Turns
from longshore.stores.gs.credentials import TokenSource
from longshore.stores.gs.failures import Unsent, error_for
from longshore.stores.gs.options import GsSettings
from longshore.stores.gs.targets import query
from longshore.transport import open_transport
from longshore.transport.http import Reply, Request
from longshore.transport.lanes import in_lanes

T = TypeVar("T")
LANES = 64
"""How many requests of one call of the store may be under way; what the service takes, and its
caps, usually allow fewer."""
JSON = "application/json"
PRESSURE = (408, 429, 500, 502, 503, 504)
"""Statuses after which Google asks to wait and try again."""


class Call(NamedTuple):
    """A request before it is authorised.

    ``verb``: the method's name in the JSON API, by which turns, counters and messages go.
    ``path``, ``parameters``: encoded. ``bucket``, ``name``: what messages are about.
    """

    verb: str
    method: str
    path: str
    parameters: str = ""
    body: bytes = b""
    content_type: str = JSON
    bucket: str = ""
    name: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Service:
    """The connections to a service, and what is known of it, shared by all who use it."""

    def __init__(
        self, settings: GsSettings, tokens: TokenSource, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.takes_batches: bool | None = None
        """Whether many calls can go in one request; None: nobody has tried yet."""
        self.trying = asyncio.Lock()
        self.uniform: dict[str, tuple[bool, float]] = {}
        """Whether a bucket's objects have no ACLs of their own, and until when that is believed."""
        self._tokens = tokens
        self._transport = open_transport(
            settings.endpoint, kind=settings.transport, proxy=settings.proxy
        )
        common = {"prettyPrint": "false"}
        if settings.user_project:
            common["userProject"] = settings.user_project
        self._common = query(common)

    def target(self, call: Call) -> str:
        """Path and query of a call, with what all calls have in common."""
        if call.parameters:
            return f"{call.path}?{call.parameters}&{self._common}"
        return f"{call.path}?{self._common}"

    async def send(self, call: Call) -> Reply:
        """Whatever is answered."""
        headers = list(call.headers)
        if call.body:
            headers.append(("content-type", call.content_type))
        if token := await self._tokens.get():
            headers.append(("authorization", token))
        return await self._transport.send(
            Request(call.method, self.target(call), headers, call.body)
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()


class Client:
    """The requests of one user of a service."""

    def __init__(self, service: Service, turns: Turns | None = None) -> None:
        self.service = service
        self._turns = turns

    def by_turns(self, turns: Turns) -> Client:
        """The same, each of whose requests waits for its turn."""
        return Client(self.service, turns)

    async def ask(self, call: Call) -> Reply:
        """Whatever is answered, in the turn of a request that changes nothing; raises Unavailable
        or DeadlineExceeded if nothing is."""
        if self._turns is None:
            return await self.service.send(call)
        async with self._turns.read(call.verb) as turn:
            reply = await self.service.send(call)
            if reply.status in PRESSURE:
                turn.ended(Code.UNAVAILABLE)
            return reply

    async def read(self, call: Call, accept: Callable[[Reply], T]) -> T:
        """What ``accept`` makes of the reply to a request that changes nothing; raises an
        errors.Error for a refusal, of either, once whoever gives the turns does not want it made
        again."""
        if self._turns is None:
            return accept(_granted(call, await self.service.send(call)))
        tries = 0
        while True:
            try:
                async with self._turns.read(call.verb):
                    return accept(_granted(call, await self.service.send(call)))
            except Error as error:
                tries += 1
                if not await self._turns.again(error.code, tries):
                    raise

    async def change(
        self,
        call: Call,
        *,
        objects: int = 1,
        judge: Callable[[Reply], Code | None] | None = None,
    ) -> Reply:
        """The reply to a request that changes so many objects. Raises an errors.Error for a
        refusal, and Unsent if it was not sent.

        ``judge`` says what a reply that is no refusal tells of the service, for ``Turn.ended``.
        """
        if self._turns is None:
            reply = _granted(call, await self.service.send(call))
            if judge is not None:
                judge(reply)
            return reply
        async with self._turns.change(call.verb, objects) as turn:
            if not turn.permitted:
                raise Unsent(UNSENT.message)
            reply = _granted(call, await self.service.send(call))
            if judge is not None:
                turn.ended(judge(reply))
            return reply

    async def in_lanes(
        self, items: Iterable[T], work: Callable[[T], Awaitable[None]], most: int = LANES
    ) -> None:
        """``work`` upon each item, as many of them at a time as may send requests, ``most`` at
        most. The first exception ends them all."""
        turns = self._turns
        await in_lanes(
            items, work, (lambda: most) if turns is None else lambda: min(most, turns.at_once)
        )


def _granted(call: Call, reply: Reply) -> Reply:
    if reply.status >= 300 and reply.status != 308:
        raise error_for(reply.status, reply.body, call.verb, call.bucket, call.name)
    return reply
