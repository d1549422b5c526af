"""Signed requests to one S3 service, each in its turn, with refusals as errors of longshore."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from longshore import object_rules as rules
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import Code, Error
from longshore.names import is_bucket_name
from longshore.store import UNSENT, Turns
from longshore.stores.s3.credentials import Credentials, CredentialSource
from longshore.stores.s3.failures import Unsent, is_error, region_in, translate
from longshore.stores.s3.features import Verdicts
from longshore.stores.s3.options import S3Settings
from longshore.stores.s3.signing import Signer
from longshore.stores.s3.targets import Address
from longshore.transport import open_transport
from longshore.transport.http import Reply, Request, Transport
from longshore.transport.lanes import in_lanes

T = TypeVar("T")
COPY_BYTES = 5 << 30
"""What one CopyObject can copy; more is copied in parts."""
PART_BYTES = 64 << 20
"""Small enough to be copied within a request's limit where many are copied side by side."""
LANES = 128
"""How many requests of one call of the store may be under way; what the service takes, and its
caps, usually allow fewer."""
_ELSEWHERE = (301, 307, 400)
_BUSY = (429, 503)
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}", re.ASCII)


class Call(NamedTuple):
    """A request before it is addressed and signed.

    ``verb``: S3's name of the operation, by which turns, counters and messages go. ``query``:
    encoded and in order as ``targets.query`` has it. Header names are in lower case.
    """

    verb: str
    method: str
    bucket: str = ""
    key: str = ""
    query: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What decides how the objects of a bucket are changed; what is not proven is False.

    ``locks``: whether they can be held and retained. ``has_acls``: whether they have ACLs of their
    own. ``takes_tags``, ``clears_tags``: whether they can be given tags, and rid of all of them
    (this unless it was seen to fail). ``keeps_tags``, ``takes_locks``: whether a copy keeps tags,
    and takes holds and retentions, all in one step. ``copies_parts``: whether an object can be made
    of parts of others; ``finds_parts``: whether these are found under any name: Ceph 16 decodes
    names twice there, and so may take another object.
    """

    locks: bool = False
    has_acls: bool = True
    takes_tags: bool = False
    clears_tags: bool = True
    keeps_tags: bool = False
    takes_locks: bool = False
    copies_parts: bool = False
    finds_parts: bool = False
    copy_bytes: int = COPY_BYTES
    part_bytes: int = PART_BYTES


class _Home(NamedTuple):
    """Where the requests for a bucket go."""

    region: str
    address: Address
    signer: Signer
    transport: Transport

    def signed(self, call: Call, credentials: Credentials) -> Request:
        target = self.address.target(call.key, call.query)
        request = Request(call.method, target, tuple(call.headers.items()), call.body)
        return self.signer.sign(request, credentials)


class Service:
    """The connections to a service, and what is known of it, shared by all who use it."""

    def __init__(
        self, settings: S3Settings, credentials: CredentialSource, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.key_names = {key: name for name, key in settings.kms_keys.items()}
        """What jobs call the service's keys of encryption."""
        self.verdicts = Verdicts()
        self.versioned: dict[str, tuple[bool, float]] = {}
        """Whether a bucket has, or had, versions, and until when that is believed."""
        self.traits: dict[str, tuple[Traits, float]] = {}
        """The same of what decides how its objects are changed."""
        self._credentials = credentials
        self._homes: dict[str, _Home] = {}
        self._transports: dict[str, Transport] = {}

    async def send(self, call: Call) -> Reply:
        """Whatever is answered. A request that the service refuses, but says in which region it
        would not, is sent there."""
        credentials = await self._credentials.get()
        home = self._homes.get(call.bucket) or self._settle(call.bucket, self.settings.region)
        reply = await home.transport.send(home.signed(call, credentials))
        if reply.status in _ELSEWHERE and call.bucket:
            region = reply.header("x-amz-bucket-region") or region_in(reply)
            if region != home.region and _REGION.fullmatch(region):
                home = self._settle(call.bucket, region)
                reply = await home.transport.send(home.signed(call, credentials))
        return reply

    async def close(self) -> None:
        """Close all connections."""
        transports = list(self._transports.values())
        self._transports.clear()
        self._homes.clear()
        for transport in transports:
            await transport.close()

    def _settle(self, bucket: str, region: str) -> _Home:
        """From now on, requests for ``bucket`` ("": for the service itself) go to ``region``.
        Raises NotFound for what no bucket is called: it could be read as an object's name."""
        if bucket and not is_bucket_name(bucket):
            raise rules.no_bucket(bucket)
        settings = self.settings
        if region != settings.region:
            # Where hosts are called after their regions, as AWS's are.
            was = settings.endpoint
            host = was.host.replace(f".{settings.region}.", f".{region}.")
            settings = replace(settings, endpoint=replace(was, host=host), region=region)
        endpoint, address = settings.endpoint_of(bucket), settings.address_of(bucket)
        transport = self._transports.get(endpoint.url)
        if transport is None:
            transport = open_transport(
                endpoint, kind=settings.transport, limits=settings.limits, proxy=settings.proxy
            )
            self._transports[endpoint.url] = transport
        signer = Signer(address.host, region, clock=self.clock)
        home = self._homes[bucket] = _Home(region, address, signer, transport)
        return home


class Client:
    """The requests of one user of a service."""

    def __init__(self, service: Service, turns: Turns | None = None) -> None:
        self.service = service
        self._turns = turns

    def by_turns(self, turns: Turns) -> Client:
        """The same, each of whose requests waits for its turn."""
        return Client(self.service, turns)

    async def ask(self, call: Call) -> Reply:
        """Whatever is answered, in the turn of a request that changes no user's object; raises
        Unavailable or DeadlineExceeded if nothing is."""
        if self._turns is None:
            return await self.service.send(call)
        async with self._turns.read(call.verb) as turn:
            reply = await self.service.send(call)
            if reply.status in _BUSY:
                turn.ended(Code.UNAVAILABLE)
            return reply

    async def read(self, call: Call) -> Reply:
        """The reply to a request that changes nothing; raises an errors.Error for a refusal, once
        whoever gives the turns does not want it made again."""
        if self._turns is None:
            return _granted(call, await self.service.send(call))
        tries = 0
        while True:
            try:
                async with self._turns.read(call.verb):
                    return _granted(call, await self.service.send(call))
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
        await in_lanes(items, work, lambda: self._at_once(most))

    def _at_once(self, most: int) -> int:
        return most if self._turns is None else min(most, self._turns.at_once)


def _granted(call: Call, reply: Reply) -> Reply:
    if reply.status >= 300 or (reply.body and call.verb != "GetObject" and is_error(reply)):
        raise translate(reply, call.verb, call.bucket, call.key)
    return reply
