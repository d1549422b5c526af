"""Authorised requests to Cloud Storage, each in its turn, with refusals as errors of longshore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import Code, Error
from longshore.store import UNSENT, Turn, Turns
from longshore.stores.gs.credentials import TokenSource
from longshore.stores.gs.failures import ObjectBusy, Unsent, error_for
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
_REFUSED_CALL = b"\r\n\r\nHTTP/1.1 401 "
"""What a reply to many calls has where one is refused: JSON has no line breaks in texts."""


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
        self.tokens = tokens
        self._transport = open_transport(
            settings.endpoint,
            kind=settings.transport,
            limits=settings.limits,
            proxy=settings.proxy,
        )
        common = {"prettyPrint": "false"}
        if settings.user_project:
            common["userProject"] = settings.user_project
        self.common = query(common)
        """The parameters that all calls have."""

    def target(self, call: Call) -> str:
        """Path and query of a call, with what all calls have in common."""
        if call.parameters:
            return f"{call.path}?{call.parameters}&{self.common}"
        return f"{call.path}?{self.common}"

    async def send(self, call: Call, token: str = "") -> Reply:
        """Whatever is answered to whoever has the token."""
        headers = list(call.headers)
        if call.body:
            headers.append(("content-type", call.content_type))
        if token:
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

        def judge(reply: Reply) -> Code | None:
            return Code.UNAVAILABLE if reply.status in PRESSURE else None

        return await self._reply(call, self._read_turn(call), judge)

    async def read(self, call: Call, accept: Callable[[Reply], T]) -> T:
        """What ``accept`` makes of the reply to a request that changes nothing; raises an
        errors.Error for a refusal, of either, once whoever gives the turns does not want it made
        again."""
        tries = 0
        while True:
            accepted: list[T] = []

            def judge(reply: Reply, into: list[T] = accepted) -> None:
                into.append(accept(_granted(call, reply)))

            try:
                await self._reply(call, self._read_turn(call), judge)
                return accepted[0]
            except Error as error:
                tries += 1
                if self._turns is None or not await self._turns.again(error.code, tries):
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
        turns = self._turns
        busy: list[ObjectBusy] = []

        def judged(reply: Reply) -> Code | None:
            try:
                _granted(call, reply)
            except ObjectBusy as error:
                busy.append(error)
                return None
            return judge(reply) if judge is not None else None

        reply = await self._reply(
            call,
            _Free if turns is None else lambda: turns.change(call.verb, objects),
            judged,
        )
        if busy:
            raise busy[0]
        return reply

    def _read_turn(self, call: Call) -> Callable[[], Turn]:
        turns = self._turns
        return _Free if turns is None else lambda: turns.read(call.verb)

    async def _reply(
        self, call: Call, turn: Callable[[], Turn], judge: Callable[[Reply], Code | None]
    ) -> Reply:
        """The reply to a request in a turn of its own, after ``judge`` has said in there what it
        tells of the service, or has raised an errors.Error.

        Where a token is refused nothing was done: then the request is made again, in another turn,
        once, by another token. Nobody waits for tokens in a turn, in which what is sent must be
        sent at once.
        """
        service = self.service
        token: str | None = await service.tokens.get()
        renewed = False
        while True:
            async with turn() as this:
                if not this.permitted:
                    raise Unsent(UNSENT.message)
                reply = await service.send(call, token or "")
                if renewed or not token or not _refuses_token(reply):
                    if (code := judge(reply)) is not None:
                        this.ended(code)
                    return reply
            other = await service.tokens.instead_of(token)
            token, renewed = other or token, True

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


def _refuses_token(reply: Reply) -> bool:
    """Whether a reply says so, or is of many calls of which one does."""
    if reply.status == 200 and _REFUSED_CALL in reply.body:
        return reply.header("content-type").lower().startswith("multipart/")  # and no content
    return reply.status == 401


class _Free:
    """The turn of who need not wait for any."""

    permitted = True

    async def __aenter__(self) -> _Free:
        return self

    async def __aexit__(self, *failed: object) -> None:
        pass

    def ended(self, code: Code | None) -> None:
        pass
