"""Objects copied onto themselves: the one way to other metadata, another class or another key.

Nothing that was there may be lost. Where a service's copies lose what they should keep (Ceph 16
forgets tags, holds and retentions), that is put back at once, and looked at again, before the
object counts as done.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import repeat
from typing import Any, Final, NamedTuple

from longshore import object_rules as rules
from longshore.errors import (
    Aborted,
    Code,
    Error,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    Unimplemented,
)
from longshore.patch import load_map
from longshore.stores.s3 import documents, markup, targets
from longshore.stores.s3.attached import PASSING, Attached, Named, md5, to_its_end
from longshore.stores.s3.carrying import (
    UNLOCKED,
    Change,
    columns_of,
    is_key,
    lock_headers,
    locks_of,
    refuse_archived,
    refuse_event_hold,
    said_by,
    tags_of,
)
from longshore.stores.s3.client import Call, Client, Traits
from longshore.stores.s3.heads import Head
from longshore.stores.s3.targets import quote_path, quote_value
from longshore.transport.http import Reply, Unreached

MAX_PARTS: Final = 10_000
_PLAIN: Final = re.compile(
    rb"""(?:<\?xml version="1\.0" encoding="UTF-8"\?>\s*)?"""
    rb"""<([A-Za-z]+)(?: xmlns="[^"<&\n\t]*")?>(?:\s*<(?:"""
    rb"""ETag>(?:&quot;|&#34;|"|)([0-9A-Za-z-]*)(?:&quot;|&#34;|"|)</ETag"""
    rb"""|(?!ETag>)([A-Za-z0-9]+)>[^<&]*</\3)>)*\s*</\1>\s*"""
)
"""The usual reply to a copy, at a fifth of what it costs to read it as a document."""
LATE_SECONDS: Final = (0.0, 0.1, 0.4)
"""Pauses before the looks for a copy whose reply was lost: the service may still be at it."""
FRESH_SECONDS: Final = 0.5
"""What was seen longer ago is looked at anew before tags are given back, which has no condition."""
SLOW_SECONDS: Final = 2.0
SLOWEST_BYTES_PER_SECOND: Final = 16 << 20
"""How fast a service copies at least: so long, with such pauses, is looked for a copy whose reply
did not come in time. A second one beside it would take as long, and be one version too many."""


class Copier:
    """Copies objects of one bucket onto themselves."""

    def __init__(self, client: Client, bucket: str, traits: Traits) -> None:
        self._client = client
        self._bucket = bucket
        self._traits = traits
        self._attached = Attached(client, bucket)

    async def copy(self, name: str, named: Named, change: Change) -> None:
        """Make the change in the live object if it is the ``named`` version; without a request that
        changes anything where it already is so.

        Raises Aborted or NotFound where that is not what is live, and an errors.Error for whatever
        else keeps the object as it was, or for what then became of it.
        """
        path = f"{self._bucket}/{name}"
        head = await self._attached.look(name, named)
        locks = change.locks(head, path)
        said = said_by(head, path)
        headers = change.of(said, path)
        if headers == said:
            await self._attached.lock(name, head, locks)
            return
        refuse_archived(head, path)
        refuse_event_hold(head, path)
        whole = head.size <= self._traits.copy_bytes
        tags: Mapping[str, str] = {}
        if tags_of(head) and not (whole and self._traits.keeps_tags):
            tags = load_map(await self._attached.tags(name, head.version.version_id))
            if not self._traits.takes_tags:
                raise Unimplemented(
                    f"Object '{path}' would lose its tags by a copy, and this store was not seen to"
                    " give an object any."
                )
        if locks is not UNLOCKED:
            headers |= lock_headers(locks, self._client.service.clock.now_us())
        if self._traits.has_acls:
            headers |= await self._grants(name, head)
        this = Copying(name, head, change, locks, tags)
        if whole:
            await self._at_once(this, headers)
        else:
            await self._in_parts(this, headers)

    async def _grants(self, name: str, head: Head) -> Mapping[str, str]:
        try:
            body = await self._attached.acl(name, head.version.version_id)
        except Error as error:
            if documents.has_no_acls(error):
                return {}
            raise
        return documents.grant_headers(documents.read_acl(body))

    # The copy itself.

    async def _at_once(self, this: Copying, headers: Mapping[str, str]) -> None:
        source = self._source(this.name, this.old)
        said = {**headers, "x-amz-metadata-directive": "REPLACE", **source}
        if this.locks is not UNLOCKED:
            said["content-md5"] = md5(b"")  # demanded of whatever is written with a lock
        call = Call("CopyObject", "PUT", self._bucket, this.name, headers=said)
        making = self._make(this, call, "CopyObjectResult", "CopyResult")
        await (to_its_end(making) if self._may_lose(this) else making)

    def _source(self, name: str, head: Head) -> dict[str, str]:
        """What is copied, as long as it is what was looked at. Ceph knows the condition by another
        name than everybody else."""
        etag = f'"{head.version.etag}"'
        return {
            "x-amz-copy-source": f"/{quote_path(self._bucket)}/{quote_path(name)}",
            "x-amz-copy-source-if-match": etag,
            "x-amz-copy-if-match": etag,
        }

    async def _in_parts(self, this: Copying, headers: Mapping[str, str]) -> None:
        """Copy what is too large for one request; where that fails no parts are left behind."""
        name, head = this.name, this.old
        if this.tags and self._traits.keeps_tags:
            pairs = (f"{quote_value(key)}={quote_value(value)}" for key, value in this.tags.items())
            headers = {**headers, "x-amz-tagging": "&".join(pairs)}
        if not self._traits.copies_parts:
            raise Unimplemented(
                f"Object '{self._bucket}/{name}' is too large to be copied in one request, and this"
                " store was not seen to copy parts of an object as they are."
            )
        if "%" in name and not self._traits.finds_parts:
            raise Unimplemented(
                f"Object '{self._bucket}/{name}' is too large to be copied in one request, and with"
                " the '%' in its name this store might copy parts of another object."
            )
        call = Call("CreateMultipartUpload", "POST", self._bucket, name, "uploads", headers)
        reply = await self._client.change(call)
        upload = markup.read(reply.body, "InitiateMultipartUploadResult").get("UploadId")
        query = targets.query({"uploadId": upload})
        try:
            body = await self._copy_parts(name, head, upload)
            # Ceph judges neither the condition of a part nor that of the whole.
            await self._attached.look(name, Named.of(head))
            if_match = {"if-match": f'"{head.version.etag}"'}
            verb = "CompleteMultipartUpload"
            call = Call(verb, "POST", self._bucket, name, query, if_match, body)
            await to_its_end(self._make(this, call, "CompleteMultipartUploadResult"))
        except BaseException as failure:
            left = await asyncio.shield(self._abort(name, query))
            if left and isinstance(failure, Error):
                failure.message += left
            raise

    async def _abort(self, name: str, query: str) -> str:
        """Remove the parts of an upload; if that cannot be done, says so."""
        call = Call("AbortMultipartUpload", "DELETE", self._bucket, name, query)
        try:
            await self._attached.insist("its parts stay", lambda: self._client.read(call))
        except NotFound:
            return ""  # its end came through, and only the reply was lost
        except Error as error:
            return f" The parts of the unfinished upload {query} stay: {error.message}"
        return ""

    async def _copy_parts(self, name: str, head: Head, upload: str) -> bytes:
        """Copy the parts, many at a time; gives the document that completes the upload."""
        size = max(self._traits.part_bytes, -(-head.size // MAX_PARTS))
        starts = range(0, head.size, size)
        parts = [""] * len(starts)

        async def copy_part(index: int) -> None:
            start = starts[index]
            last = min(start + size, head.size) - 1
            query = targets.query({"partNumber": str(index + 1), "uploadId": upload})
            said = {**self._source(name, head), "x-amz-copy-source-range": f"bytes={start}-{last}"}
            call = Call("UploadPartCopy", "PUT", self._bucket, name, query, said)
            result = markup.read((await self._client.change(call)).body, "CopyPartResult")
            sums = "".join(
                f"<{one.name}>{markup.escape(one.text)}</{one.name}>"
                for one in result.children
                if one.name == "ETag" or one.name.startswith("Checksum")
            )
            parts[index] = f"<Part><PartNumber>{index + 1}</PartNumber>{sums}</Part>"

        try:
            await self._client.in_lanes(range(len(starts)), copy_part)
        except OutOfRange:  # there is less to copy by now
            await self._attached.look(name, Named.of(head))
            raise
        document = f'<CompleteMultipartUpload xmlns="{markup.NAMESPACE}">{"".join(parts)}'
        return f"{document}</CompleteMultipartUpload>".encode()

    # What came of it.

    async def _make(self, this: Copying, call: Call, *roots: str) -> None:
        """Send the request that makes the copy, and see to it that nothing is lost."""
        try:
            made = Made.of(await self._client.change(call), *roots)
        except Unreached:
            raise  # there is no copy to look for
        except Error as error:
            slow = error.code is Code.DEADLINE_EXCEEDED
            if error.code not in PASSING or not (slow or self._may_lose(this)):
                raise
            made = await self._found(this, error)
        if self._is_to_be_seen(this):
            await self._see_to_it(this, made)

    def _may_lose(self, this: Copying) -> bool:
        """Whether something must be done after the copy, or it will have lost what it had."""
        if this.tags:
            return True
        if this.locks is UNLOCKED or not any(this.locks.values()):
            return False
        return not self._traits.takes_locks or bool(locks_of(this.old)["temporary_hold"])

    async def _found(self, this: Copying, error: Error) -> Made:
        """The copy whose reply was lost, or is late; raises ``error`` if there is none, and Unsent
        if the shard is to stop and the copy can do without us."""
        path = f"{self._bucket}/{this.name}"
        for pause in _pauses(error, this.old.size):
            await asyncio.sleep(pause)
            if self._may_lose(this):
                now = await self._attached.insist(
                    f"it is not known whether '{path}' was copied, and if so has lost its tags"
                    f" {dict(this.tags)} or its hold",
                    lambda: self._attached.head(this.name),
                )
            else:
                now = await self._attached.head(this.name, unless_stopped=True)
            said = said_by(now, path)
            if now.size == this.old.size and this.change.of(said, path) == said:
                return Made(now.version.etag, now.version.version_id)
            if error.code is Code.RESOURCE_EXHAUSTED:  # the service has said no
                break
        raise error

    def _is_to_be_seen(self, this: Copying) -> bool:
        """Whether the service may not have obeyed, or may have lost something, or a hold is to
        move."""
        asked = this.change.storage_class or this.change.kms_key
        was_held = locks_of(this.old)["temporary_hold"]
        return bool(asked or was_held or self._may_lose(this))

    async def _see_to_it(self, this: Copying, made: Made) -> None:
        """Look at the copy, and put back what it has lost; then let go of the hold of the version
        that it replaced."""
        name, old, change, locks, tags = this
        was_held = locks_of(old)["temporary_hold"]
        path, attached = f"{self._bucket}/{name}", self._attached
        new = await attached.insist(
            f"it was not looked at what became of '{path}'",
            lambda: attached.head(name, made.version_id if old.version.version_id else ""),
        )
        if made.etag not in ("", new.version.etag):
            raise Aborted(rules.missing(path, live=True).message)
        if tags and tags_of(new) != len(tags):
            await attached.insist(
                f"object '{path}' has lost its tags {dict(tags)}",
                self._giving_back(name, new, tags),
            )
        if any(locks.values()):
            await attached.insist(
                f"the copy of object '{path}' is not held or retained as its older version"
                f" {old.version.version_id} is",
                lambda: attached.protect(name, new, locks),
            )
        if was_held and old.version.version_id != new.version.version_id:
            await self._let_go(name, old, new, held=locks["temporary_hold"])
        self._check_obeyed(path, new, change)

    def _giving_back(
        self, name: str, new: Head, tags: Mapping[str, str]
    ) -> Callable[[], Awaitable[None]]:
        """What gives ``new`` its tags, unless so much time has passed since this was made (an
        outage, or this process stood still) that somebody else has given it others."""
        clock, version_id = self._client.service.clock, new.version.version_id
        looked = clock.monotonic()

        async def give_back() -> None:
            if clock.monotonic() - looked > FRESH_SECONDS:
                now = await self._attached.head(name, version_id)
                if tags_of(now) or not Named.of(new).is_at(now):
                    return
            await self._attached.set_tags(name, version_id, tags, finish=True)

        return give_back

    async def _let_go(self, name: str, old: Head, new: Head, *, held: bool) -> None:
        """A hold moves with its object: once the copy is seen to have it, the version behind it
        does not keep it, or that could not be deleted even when the object is released. A
        retention stays with both."""
        what = f"version {old.version.version_id} of object '{self._bucket}/{name}' stays held"
        if held:
            now = await self._attached.insist(
                what, lambda: self._attached.head(name, new.version.version_id)
            )
            if not locks_of(now)["temporary_hold"]:
                raise FailedPrecondition(f"The store does not hold the copy that it made: {what}.")
        await self._attached.insist(
            what, lambda: self._attached.hold(name, old.version.version_id, held=False, finish=True)
        )

    def _check_obeyed(self, path: str, new: Head, change: Change) -> None:
        """Services have answered 200 and ignored what they were asked for."""
        columns = columns_of(new)
        asked, has = change.storage_class, columns["storage_class"]
        if not asked or asked == has:
            asked, has = change.kms_key, columns["kms_key"]
            if not asked or is_key(has, asked):
                return
        raise FailedPrecondition(
            f"The store answered that it copied object '{path}', but not with {asked!r}: it has"
            f" {has or 'no key'!r}."
        )


class Copying(NamedTuple):
    """One copy on its way: of ``old``, with the locks that it is to have, and the tags that it had
    where those may be lost."""

    name: str
    old: Head
    change: Change
    locks: Mapping[str, Any]
    tags: Mapping[str, str]


class Made(NamedTuple):
    """A copy as far as its reply tells: "" where it does not."""

    etag: str
    version_id: str

    @staticmethod
    def of(reply: Reply, *roots: str) -> Made:
        if (plain := _PLAIN.fullmatch(reply.body)) and plain[1].decode() in roots:
            etag = (plain[2] or b"").decode()
        else:
            etag = markup.read(reply.body, *roots).get("ETag").strip('"')
        return Made(etag, reply.header("x-amz-version-id"))


def _pauses(error: Error, size: int) -> Iterator[float]:
    """How long to wait before each look for a copy of so many bytes that ended in ``error``."""
    yield from LATE_SECONDS
    if error.code is Code.DEADLINE_EXCEEDED:
        looks = math.ceil(size / SLOWEST_BYTES_PER_SECOND / SLOW_SECONDS)
        yield from repeat(SLOW_SECONDS, looks)
