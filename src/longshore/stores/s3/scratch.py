"""Objects that are there to be tried on, under names that nobody else uses, and gone afterwards."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Final, NamedTuple, Protocol
from uuid import uuid4

from longshore import telemetry
from longshore.errors import Error, FailedPrecondition, NotFound, PermissionDenied, Unavailable
from longshore.stores.s3.listing import HIDDEN
from longshore.stores.s3.targets import quote_path
from longshore.transport.http import Reply

PREFIX: Final = HIDDEN
"""Names that begin so are longshore's own: no listing has them, and no job finds them."""
_ODD = "%41 +&"
_MISTAKEN = ("A +&", "%41 %2B%26", "%2541%20%2B%26", "%41  &")
"""A name that goes wrong where it is decoded twice, half, not at all, or as forms are; and what it
is then taken for."""
_OURS = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{32}}/\d+[AB0-9%+& ]*")
_OLD = timedelta(days=1)
"""How old what others left behind is; until then, they may still be at it."""

METADATA: Final[Mapping[str, str]] = {
    "content-type": "text/x-longshore-1",
    "content-language": "en",
    "content-disposition": "inline",
    "cache-control": "no-cache",
    "x-amz-meta-first": "1",
    "x-amz-meta-second": "2",
}
_ENTRY = re.compile(
    rb"<(?:Version|DeleteMarker|Contents)>.*?</(?:Version|DeleteMarker|Contents)>", re.DOTALL
)
PASSING: Final = frozenset({429, 502, 503, 504})
"""Statuses that say that the service could not, this time."""
_TRIES = 3
"""How often it may fail within before that is what it does."""
_BYPASS = {"x-amz-bypass-governance-retention": "true"}


class Ask(Protocol):
    """Sends one request, and gives whatever is answered; raises Unavailable or DeadlineExceeded
    if nothing is."""

    async def __call__(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] = ...,
        headers: Mapping[str, str] = ...,
        body: bytes = b"",
    ) -> Reply: ...


class Facts(NamedTuple):
    """What a bucket is, and which software says so. ``versioned``: it has or had versions;
    ``retains``: whatever is written there can't be removed for a while."""

    server: str
    versioned: bool
    locks: bool
    retains: bool


class Look(NamedTuple):
    """What is there now; of its headers those that concern the object."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Cargo(NamedTuple):
    """A scratch object: what was written, and how it then looked. ``version`` "": the live one."""

    key: str
    version: str = ""
    content: bytes = b""
    metadata: Mapping[str, str] = {}
    etag: str = ""

    @property
    def live(self) -> Cargo:
        """Whatever is live under its name."""
        return self._replace(version="")


async def read_facts(ask: Ask, bucket: str) -> Facts:
    """What the bucket is; raises NotFound, or PermissionDenied where that must not be known."""
    versioning = await ask("GET", bucket, query={"versioning": ""})
    if versioning.status == 404 and text(versioning.body, "Code") == "NoSuchBucket":
        raise NotFound(f"There is no bucket {bucket}.")
    locks = await ask("GET", bucket, query={"object-lock": ""})
    for reply in (versioning, locks):
        if reply.status == 403:
            raise PermissionDenied(
                f"The credentials do not allow to read whether {bucket} keeps versions and locks"
                f" objects: {said(reply)}"
            )
        if reply.status in PASSING or reply.status == 500:
            raise Unavailable(f"The service did not say what {bucket} is: {said(reply)}")
    locked = text(locks.body, "ObjectLockEnabled") == "Enabled"
    return Facts(
        server=versioning.header("server"),
        versioned=text(versioning.body, "Status") in ("Enabled", "Suspended"),
        locks=locked,
        retains=locked and b"DefaultRetention" in locks.body,
    )


class Scratch:
    """A place for scratch objects in a bucket; get one by ``open_scratch``."""

    def __init__(self, ask: Ask, bucket: str, facts: Facts) -> None:
        if facts.retains:
            raise FailedPrecondition(f"What is written to the bucket {bucket} can't be removed.")
        self.bucket = bucket
        self.facts = facts
        self._ask = ask
        self._prefix = f"{PREFIX}{uuid4().hex}/"
        self._keys: list[str] = []

    def _new_key(self) -> str:
        self._keys.append(f"{self._prefix}{len(self._keys)}")
        return self._keys[-1]

    async def write_odd(self) -> Cargo:
        """A new object with a name that services mistake, beside those that it is taken for."""
        name = self._new_key()
        for end in (*_MISTAKEN, _ODD):
            self._keys.append(f"{name}{end}")
            cargo = await self.write(key=self._keys[-1])
        return cargo

    async def write(self, *, key: str = "") -> Cargo:
        """A new object, or a new version of ``key``; raises what keeps it from being written."""
        key = key or self._new_key()
        content = f"longshore tries what this service does: {uuid4().hex}\n".encode()
        told = await self._change("PUT", key, headers=METADATA, body=content)
        if told.status >= 300:
            kind = PermissionDenied if told.status == 403 else FailedPrecondition
            raise (Unavailable if told.status in PASSING else kind)(
                f"No scratch object can be written to {self.bucket}: {said(told)}"
            )
        written = Cargo(key, told.header("x-amz-version-id"), content)
        look = await self.look(written)
        if look.body != content:
            raise Unavailable(f"A scratch object in {self.bucket} is not what was just written.")
        metadata = {name: look.headers[name] for name in METADATA if name in look.headers}
        return written._replace(metadata=metadata, etag=look.headers.get("etag", ""))

    async def look(self, cargo: Cargo) -> Look:
        """The object as it is now."""
        reply = await self.get(cargo)
        return Look(reply.status, reply.body if reply.status < 300 else b"", dict(reply.headers))

    async def get(self, cargo: Cargo, resource: str = "") -> Reply:
        """The object's content, or a sub-resource of it."""
        return await self._ask("GET", self.bucket, cargo.key, query=_query(cargo, resource))

    async def tags(self, cargo: Cargo) -> Mapping[str, str]:
        """Its tags; empty where there are none, or nobody knows."""
        reply = await self.get(cargo, "tagging")
        pattern = rb"<Key>([^<]*)</Key>\s*<Value>([^<]*)</Value>"
        return {key.decode(): value.decode() for key, value in re.findall(pattern, reply.body)}

    async def put(
        self, cargo: Cargo, resource: str, document: str, *, bypass: bool = False
    ) -> Reply:
        """Set a sub-resource of just that version."""
        headers = _BYPASS if bypass else {}
        return await self._change(
            "PUT", cargo.key, query=_query(cargo, resource), headers=headers, body=document.encode()
        )

    async def copy(
        self, cargo: Cargo, metadata: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Copy the live object onto itself, with other metadata."""
        source = quote_path(f"/{self.bucket}/{cargo.key}")
        given = {"x-amz-copy-source": source, "x-amz-metadata-directive": "REPLACE"}
        return await self._change(
            "PUT", cargo.key, headers={**given, **metadata, **(headers or {})}
        )

    async def copy_part(self, cargo: Cargo, *, first: int, last: int) -> tuple[Cargo, Reply]:
        """Make another object of some bytes; gives it, and the first answer that was an error or
        the last of all."""
        key = self._new_key()
        other = Cargo(key)
        told = await self._change("POST", key, query={"uploads": ""})
        upload = text(told.body, "UploadId")
        if told.status >= 300 or not upload:
            return other, told
        part = {"partNumber": "1", "uploadId": upload}
        given = {
            "x-amz-copy-source": quote_path(f"/{self.bucket}/{cargo.key}"),
            "x-amz-copy-source-range": f"bytes={first}-{last}",
        }
        completed = False
        try:
            told = await self._change("PUT", key, query=part, headers=given)
            etag = text(told.body, "ETag")
            if told.status < 300 and etag:
                document = (
                    "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
                    f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
                )
                query, body = {"uploadId": upload}, document.encode()
                told = await self._change("POST", key, query=query, body=body)
                completed = told.status < 300
        finally:
            if not completed:
                await self._change("DELETE", key, query={"uploadId": upload})
        return other, told

    async def delete(self, cargo: Cargo, headers: Mapping[str, str] | None = None) -> Reply:
        """Delete just that version, or what is live."""
        return await self._change("DELETE", cargo.key, query=_query(cargo), headers=headers or {})

    async def delete_many(self, document: str) -> Reply:
        """DeleteObjects; the document must name scratch objects only."""
        for key in re.findall("<Key>([^<]*)</Key>", document):
            self._check(key)
        body = document.encode()
        headers = {"content-md5": _md5(body), "content-type": "application/xml"}
        return await self._ask(
            "POST", self.bucket, query={"delete": ""}, headers=headers, body=body
        )

    async def _change(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        self._check(key)
        given = dict(headers or {})
        if body:
            given["content-md5"] = _md5(body)
        return await self._answer(method, key, query or {}, given, body)

    async def _answer(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        for _ in range(_TRIES):
            reply = await self._ask(
                method, self.bucket, key, query=query, headers=headers, body=body
            )
            if reply.status != 500:
                break
        return reply

    def _check(self, key: str) -> None:
        if not _OURS.fullmatch(key):
            raise ValueError(f"{key!r} is no scratch object.")

    async def clean(self) -> None:
        """Remove what was written here, and what others left behind long ago; what can't be
        removed is told to the operator."""
        try:
            left = [cargo for cargo in await self._left() if not await self._removed(cargo)]
        except Error as error:
            telemetry.warning("scratch objects left", bucket=self.bucket, why=error.message)
        else:
            if left:
                telemetry.warning("scratch objects left", bucket=self.bucket, key=left[0].key)

    async def _left(self) -> list[Cargo]:
        """What is to be removed: every version of what was written here and all that is old."""
        query = {"versions": ""} if self.facts.versioned else {"list-type": "2"}
        # Without versions it is known what there may be, whatever the listing says.
        known = {} if self.facts.versioned else dict.fromkeys((key, "") for key in self._keys)
        old = datetime.now(UTC) - _OLD
        for prefix in (self._prefix, PREFIX):  # a page of each: our own are far fewer
            listed = await self._answer("GET", "", {**query, "prefix": prefix}, {}, b"")
            if listed.status >= 300 and self.facts.versioned:
                raise Unavailable(f"They cannot be listed: {said(listed)}")
            for entry in _ENTRY.findall(listed.body):
                key, version = text(entry, "Key"), text(entry, "VersionId")
                ours = _OURS.fullmatch(key) is not None
                if prefix != PREFIX or (ours and _time(text(entry, "LastModified")) < old):
                    known[key, version] = None
        return [Cargo(key, version) for key, version in known]

    async def _removed(self, cargo: Cargo) -> bool:
        headers = _BYPASS if self.facts.locks else {}
        gone = await self.delete(cargo, headers)
        if gone.status == 403 and self.facts.locks:
            released = "<LegalHold><Status>OFF</Status></LegalHold>"
            await self.put(cargo, "legal-hold", released)
            gone = await self.delete(cargo, headers)
        return gone.status < 300 or gone.status == 404


@asynccontextmanager
async def open_scratch(ask: Ask, bucket: str, facts: Facts) -> AsyncIterator[Scratch]:
    """A place for scratch objects in ``bucket``, which are removed in the end; raises
    FailedPrecondition where they could not be."""
    scratch = Scratch(ask, bucket, facts)
    try:
        yield scratch
    finally:
        await scratch.clean()


def text(document: bytes, element: str) -> str:
    """The text of the first such element in whatever a service has answered, which may be no XML;
    "" without one."""
    found = re.search(rf"<(?:\w+:)?{element}(?:\s[^>]*)?>([^<]*)</".encode(), document)
    return unescape(found[1].decode(errors="replace")).strip() if found else ""


def said(reply: Reply) -> str:
    """An error as a person would quote it."""
    words = (str(reply.status), text(reply.body, "Code"), text(reply.body, "Message"))
    return " ".join(word for word in words if word).rstrip(".")


def _time(written: str) -> datetime:
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return datetime.now(UTC)  # nobody knows, so it is not old


def _query(cargo: Cargo, resource: str = "") -> Mapping[str, str]:
    query = {resource: ""} if resource else {}
    return {**query, "versionId": cargo.version} if cargo.version else query


def _md5(body: bytes) -> str:
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
