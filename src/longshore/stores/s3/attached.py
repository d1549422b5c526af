"""What hangs on a version of an object and is changed in place: tags, ACL, hold and retention."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from longshore import object_rules as rules
from longshore.errors import Aborted, Code, DataLoss, Error, NotFound, Unimplemented
from longshore.patch import Retention
from longshore.stores.s3 import documents, heads, targets
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.documents import Acl
from longshore.stores.s3.heads import Head

T = TypeVar("T")

TRIES: Final = 8
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
OUTAGE_SECONDS: Final = 300.0
"""So long a service may be away without anything being lost by a copy."""
_WITH_CHECKSUM: Final = {"x-amz-checksum-mode": "ENABLED"}
NO_IDS: Final = frozenset({"", "null"})
"""Ids that stand for whatever version has none."""
AWAY: Final = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED})
"""Codes of a service that cannot be reached, or has too much to do."""
PASSING: Final = AWAY | {Code.INTERNAL, Code.UNKNOWN}


class Named(NamedTuple):
    """Which version is meant: by its id, or where that names none by its generation (what S3 says
    of an object's time may change with its tags, and the generation with it)."""

    version_id: str
    generation: int

    @staticmethod
    def of(head: Head) -> Named:
        return Named(head.version.version_id, head.generation)

    def is_at(self, head: Head) -> bool:
        """Whether a head is of this version."""
        if self.version_id not in NO_IDS:
            return self.version_id == head.version.version_id
        return self.generation == head.generation


class Attached:
    """Reads and changes of what hangs on the objects of one bucket.

    ``version_id`` "" stands for the live object. ``finish``: the change ends what was begun and
    must not be left half done, so it is sent although the shard is to stop.
    """

    def __init__(self, client: Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def head(self, name: str, version_id: str = "", *, unless_stopped: bool = False) -> Head:
        """How the object looks; raises NotFound. ``unless_stopped``: raises Unsent if the shard is
        to stop, which a look else does not heed."""
        if not heads.is_possible(name):
            raise NotFound(f"No such object: {self._bucket}/{name}")
        query = targets.query(_version(version_id)) if version_id else ""
        call = Call("HeadObject", "HEAD", self._bucket, name, query, _WITH_CHECKSUM)
        if unless_stopped:
            return Head(await self._client.change(call, objects=0))
        return Head(await self._client.read(call))

    async def look(self, name: str, named: Named) -> Head:
        """How the live object looks; raises Aborted if it is another version than the named one."""
        head = await self.head(name)
        if not named.is_at(head):
            raise Aborted(rules.missing(f"{self._bucket}/{name}", live=True).message)
        return head

    async def tags(self, name: str, version_id: str) -> str:
        """The tags of a version, as the column ``contexts`` has them."""
        query = targets.query({"tagging": "", **_version(version_id)})
        call = Call("GetObjectTagging", "GET", self._bucket, name, query)
        return heads.tags((await self._client.read(call)).body)

    async def acl(self, name: str, version_id: str) -> bytes:
        """The document of a version's ACL."""
        query = targets.query({"acl": "", **_version(version_id)})
        call = Call("GetObjectAcl", "GET", self._bucket, name, query)
        return (await self._client.read(call)).body

    async def set_tags(
        self, name: str, version_id: str, tags: Mapping[str, str], *, finish: bool = False
    ) -> None:
        """Give a version these tags, and no others."""
        body = documents.tagging(tags)
        await self._put("PutObjectTagging", "tagging", name, version_id, body, finish=finish)

    async def set_acl(self, name: str, version_id: str, acl: Acl) -> None:
        """Give a version this ACL."""
        body = documents.access_control_policy(acl)
        await self._put("PutObjectAcl", "acl", name, version_id, body)

    async def hold(self, name: str, version_id: str, *, held: bool, finish: bool = False) -> None:
        """Place or release the hold of a version."""
        body = documents.legal_hold(held=held)
        await self._put("PutObjectLegalHold", "legal-hold", name, version_id, body, finish=finish)

    async def retain(
        self, name: str, version_id: str, before: str, after: str, *, finish: bool = False
    ) -> None:
        """Turn the retention of a version, which is as the column ``before`` says, into ``after``.

        The right to bypass it is used only where that is what was asked for.
        """
        headers = {}
        if _needs_bypass(Retention.load(before), Retention.load(after)):
            headers["x-amz-bypass-governance-retention"] = "true"
        try:
            await self._put(
                "PutObjectRetention",
                "retention",
                name,
                version_id,
                documents.retention(after),
                headers=headers,
                finish=finish,
            )
        except Error as error:
            if after == "" and "MalformedXML" in error.message:
                raise Unimplemented(
                    f"The store does not remove the retention of '{self._bucket}/{name}': it can"
                    " only be moved to an earlier time."
                ) from error
            raise

    async def lock(self, name: str, head: Head, wanted: Mapping[str, Any]) -> None:
        """Hold and retain the version of ``head`` as these columns say, where it is not yet so."""
        has, version_id = head.columns({}), head.version.version_id
        if has["retention"] != wanted["retention"]:
            await self.retain(name, version_id, has["retention"], wanted["retention"])
        if has["temporary_hold"] != wanted["temporary_hold"]:
            await self.hold(name, version_id, held=wanted["temporary_hold"])

    async def protect(self, name: str, head: Head, wanted: Mapping[str, Any]) -> None:
        """Hold and retain a copy as these columns say, as long at least: its bucket may retain new
        versions for longer."""
        has, version_id = head.columns({}), head.version.version_id
        asked, given = Retention.load(wanted["retention"]), Retention.load(has["retention"])
        over = asked is None or asked.until_us <= self._client.service.clock.now_us()
        if asked and not over and not _outlasts(given, asked):
            before, after = has["retention"], wanted["retention"]
            await self.retain(name, version_id, before, after, finish=True)
        if wanted["temporary_hold"] and not has["temporary_hold"]:
            await self.hold(name, version_id, held=True, finish=True)

    async def insist(self, what: str, do: Callable[[], Awaitable[T]]) -> T:
        """What ``do`` gives, tried again where it fails in a way that passes: this is the one place
        where nobody else could end what was begun. A service that is away is waited for. Raises
        DataLoss, which says ``what`` was not done, and NotFound if the object is gone."""
        clock, pause, tries = self._client.service.clock, FIRST_PAUSE_SECONDS, 0
        began = clock.monotonic()
        while True:
            try:
                return await do()
            except NotFound:
                raise
            except Error as error:
                tries += 1
                # Two requests that meet are no conflict with what this one wants: 409, says S3.
                passes = error.code in PASSING or error.code is Code.ABORTED
                waits = error.code in AWAY and clock.monotonic() - began < OUTAGE_SECONDS
                if not passes or (tries >= TRIES and not waits):
                    raise DataLoss(f"After a copy onto itself: {what}. {error.message}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _put(
        self,
        verb: str,
        resource: str,
        name: str,
        version_id: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        finish: bool = False,
    ) -> None:
        query = targets.query({resource: "", **_version(version_id)})
        signed = {**(headers or {}), "content-md5": md5(body)}
        call = Call(verb, "PUT", self._bucket, name, query, signed, body)
        # Turns of reads are not refused.
        await (self._client.read(call) if finish else self._client.change(call))


async def to_its_end(doing: Coroutine[Any, Any, None]) -> None:
    """Do what must not be left half done; who cancels it waits until it is done."""
    task = asyncio.create_task(doing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _version(version_id: str) -> dict[str, str]:
    """The parameter of a request that names a version."""
    return {"versionId": version_id} if version_id else {}


def _needs_bypass(before: Retention | None, after: Retention | None) -> bool:
    if before is None or before.mode == "Locked":
        return False
    return after is None or after.until_us < before.until_us or after.mode != before.mode


def _outlasts(has: Retention | None, wanted: Retention) -> bool:
    return (
        has is not None
        and has.until_us >= wanted.until_us
        and (has.mode == "Locked" or wanted.mode == "Unlocked")
    )


def md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
