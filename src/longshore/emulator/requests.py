"""A request as the verbs see it: path, parameters, preconditions, body."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from longshore.api import parameters
from longshore.api.bodies import Body, ClientGone
from longshore.emulator.refusals import Lacking, condition_not_met, invalid, not_modified
from longshore.errors import InvalidArgument
from longshore.store import ABSENT

INT64_MAX = (1 << 63) - 1
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Conditions(NamedTuple):
    """Preconditions; None where there is none.

    What a ``…NotMatch`` rules out is "not modified", for writes as for reads
    (cloud.google.com/storage/docs/request-preconditions).
    """

    generation: int | None
    not_generation: int | None
    metageneration: int | None
    not_metageneration: int | None
    etags: frozenset[str] = frozenset()
    not_etags: frozenset[str] = frozenset()

    def check(self, generation: int, metageneration: int) -> None:
        """Raises Refused if they do not hold for what is there (ABSENT, 0: nothing)."""
        if self.generation is not None and self.generation != generation:
            raise condition_not_met()
        if self.metageneration is not None and self.metageneration != metageneration:
            raise condition_not_met()
        tag = etag(generation, metageneration) if self.etags or self.not_etags else ""
        if self.etags and (generation == ABSENT or self.etags.isdisjoint((tag, "*"))):
            raise condition_not_met()
        there = generation != ABSENT
        if self.not_generation is not None and not there:
            raise condition_not_met()
        if (
            self.not_generation == generation
            or (there and self.not_metageneration == metageneration)
            or (there and not self.not_etags.isdisjoint((tag, "*")))
        ):
            raise not_modified()


CONDITIONS = frozenset(
    {
        "ifGenerationMatch",
        "ifGenerationNotMatch",
        "ifMetagenerationMatch",
        "ifMetagenerationNotMatch",
    }
)
PREDEFINED_ACLS = {
    "authenticatedRead": ("allAuthenticatedUsers", "READER"),
    "bucketOwnerFullControl": None,
    "bucketOwnerRead": None,
    "private": None,
    "projectPrivate": None,
    "publicRead": ("allUsers", "READER"),
    "publicReadWrite": ("allUsers", "WRITER"),
}
"""The entry that each predefined ACL has beside those of owners and projects, which are not known
here (cloud.google.com/storage/docs/access-control/lists#predefined-acl)."""
SOURCE_CONDITIONS = frozenset(f"ifSource{name.removeprefix('if')}" for name in CONDITIONS)


class Request:
    """One request; ``path`` is its segments, decoded, ``query`` what is no system parameter, of
    which a name that is repeated counts as the last one. Raises InvalidArgument where they are
    no text."""

    def __init__(
        self, verb: str, raw_path: str, raw_query: str, headers: Mapping[str, str], receive: Receive
    ) -> None:
        self.verb = verb
        self.raw_path = raw_path
        try:
            self.path = [unquote(one, errors="strict") for one in raw_path.strip("/").split("/")]
        except UnicodeDecodeError:
            raise InvalidArgument("The path is not valid UTF-8.") from None
        read = parameters.read(raw_query)
        self.query: Mapping[str, str] = dict(read.parameters)
        self.projection = "noAcl"
        self.system = read.system
        self.headers = headers
        self.receive = receive
        self.body_read = "content-length" not in headers and "transfer-encoding" not in headers
        if headers.get("content-length") == "0":
            self.body_read = True

    @property
    def base(self) -> str:
        """The address at which the client has found the emulator."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    @property
    def full(self) -> bool:
        """Whether ACLs are wanted; where nobody says so, ``projection`` is that of the verb."""
        return self.query.get("projection", self.projection) == "full"

    def number(self, name: str) -> int | None:
        """A parameter that is a number, or None; raises Refused."""
        text = self.query.get(name)
        if text is None or text == "":
            return None
        if not text.isascii() or not text.isdigit() or int(text[:20]) > INT64_MAX:
            raise invalid(f"Invalid value for parameter {name}: {text[:50]!r}.")
        return int(text)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false; raises Refused."""
        text = self.query.get(name, "false").lower()
        if text not in ("true", "false"):
            raise invalid(f"Invalid value for parameter {name}: {text[:50]!r}.")
        return text == "true"

    def generation(self, name: str = "generation") -> int:
        """The version that is meant; ABSENT: the live one. No version has the number 0."""
        number = self.number(name)
        return ABSENT if number is None else number or -1

    def with_acl(
        self, body: Mapping[str, Any], parameter: str = "predefinedAcl", field: str = "acl"
    ) -> Mapping[str, Any]:
        """``body`` with the ACL that a parameter names, if it is there; raises Refused."""
        name = self.query.get(parameter)
        if not name:
            return body
        if name not in PREDEFINED_ACLS:
            raise invalid(f"Invalid value for parameter {parameter}: {name[:50]!r}.")
        entry = PREDEFINED_ACLS[name]
        return {**body, field: [{"entity": entry[0], "role": entry[1]}] if entry else []}

    def conditions(self, prefix: str = "if", *, reads: bool = False) -> Conditions:
        """The preconditions, ``prefix`` being ``if`` or ``ifSource``; ETags are some of reads."""
        return Conditions(
            generation=self.number(f"{prefix}GenerationMatch"),
            not_generation=self.number(f"{prefix}GenerationNotMatch"),
            metageneration=self.number(f"{prefix}MetagenerationMatch"),
            not_metageneration=self.number(f"{prefix}MetagenerationNotMatch"),
            etags=_etags(self.headers.get("if-match", "")) if reads else frozenset(),
            not_etags=_etags(self.headers.get("if-none-match", "")) if reads else frozenset(),
        )

    async def json(self) -> dict[str, Any]:
        """The body, a JSON object; {} if there is none. Raises Refused."""
        if self.body_read:
            return {}
        body = Body(self.headers, self.receive)
        await body.read_all()
        self.body_read = True
        return parse_json(body.data)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises ClientGone if it breaks off."""
        while not self.body_read:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self.body_read = not message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece


def refuse_packed(request: Request) -> None:
    """Raises Lacking if the body is packed: what is kept would not be what was meant."""
    if request.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise Lacking("uploads of this type whose body is packed on its way.")


def parse_json(data: bytes) -> dict[str, Any]:
    """The object in ``data``; {} if that is empty, or null as rclone sends it. Raises Refused."""
    if not data.strip():
        return {}
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise invalid(f"Parse Error: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid("Parse Error: the body is no JSON object.")
    return value


def etag(generation: int, metageneration: int) -> str:
    """The ETag of a version: in the form that Cloud Storage's have, two varints of a message."""
    data = b"\x08" + _varint(generation) + b"\x10" + _varint(metageneration)
    return base64.b64encode(data).decode()


def bucket_etag(metageneration: int) -> str:
    """The ETag of a bucket."""
    return base64.b64encode(b"\x08" + _varint(metageneration)).decode()


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _etags(header: str) -> frozenset[str]:
    parts = (part.strip().removeprefix("W/").strip('"') for part in header.split(","))
    return frozenset(part for part in parts if part)
