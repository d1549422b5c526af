"""Trials of what hangs on an object: hold, retention, tags, ACL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from longshore.proof import Effect
from longshore.stores.s3.scratch import Cargo, Scratch, said, text
from longshore.stores.s3.trials.seen import (
    NAMESPACE,
    NO_EFFECT,
    WORKS,
    Seen,
    hold_document,
    kept,
    need_locks,
    refused,
    retention_document,
    tagged,
)
from longshore.transport.http import Reply

_RETENTION = timedelta(days=1)
_EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


async def legal_hold(scratch: Scratch, _: str) -> Seen:
    """It shows, it protects, and it can be released."""
    cargo = await scratch.write()
    held = await scratch.put(cargo, "legal-hold", hold_document("ON"))
    seen = await kept(scratch, cargo, held)
    if seen is not WORKS:
        return _where_locked(scratch, seen, held)
    try:
        shown = await scratch.get(cargo, "legal-hold")
        if text(shown.body, "Status") != "ON":
            return _where_locked(scratch, Seen(Effect.IGNORED, NO_EFFECT), held)
        if not await _protected(scratch, cargo):
            return _where_locked(scratch, Seen(Effect.IGNORED, "protects nothing"), held)
    finally:
        released = await scratch.put(cargo, "legal-hold", hold_document("OFF"))
    if released.status >= 300:
        return Seen(Effect.REFUSED, f"cannot be undone: {said(released)}")
    gone = await scratch.delete(cargo)
    return WORKS if gone.status < 300 else Seen(Effect.IGNORED, "stays when it is released")


async def retention(scratch: Scratch, _: str) -> Seen:
    """In the mode that can be undone: it shows, it protects, and who may can shorten it."""
    cargo = await scratch.write()
    until = datetime.now(UTC) + _RETENTION
    told = await scratch.put(cargo, "retention", retention_document(until))
    seen = await kept(scratch, cargo, told)
    if seen is not WORKS:
        return _where_locked(scratch, seen, told)
    shown = (await scratch.look(cargo)).headers
    if shown.get("x-amz-object-lock-mode") != "GOVERNANCE":
        return _where_locked(scratch, Seen(Effect.IGNORED, NO_EFFECT), told)
    if not await _protected(scratch, cargo):
        return _where_locked(scratch, Seen(Effect.IGNORED, "protects nothing"), told)
    sooner = retention_document(until - _RETENTION / 2)
    bypassed = await scratch.put(cargo, "retention", sooner, bypass=True)
    return refused(bypassed) if bypassed.status >= 300 else WORKS


async def retention_guard(scratch: Scratch, _: str) -> Seen:
    """Who does not ask to bypass it cannot shorten it."""
    need_locks(scratch)
    cargo = await scratch.write()
    until = datetime.now(UTC) + _RETENTION
    told = await scratch.put(cargo, "retention", retention_document(until))
    if await kept(scratch, cargo, told) is not WORKS:
        return Seen(Effect.REFUSED, "cannot be tried: there is no retention")
    sooner = await scratch.put(cargo, "retention", retention_document(until - _RETENTION / 2))
    if sooner.status < 300:
        return Seen(Effect.IGNORED, "is not so: anybody who may set it may shorten it")
    return WORKS


async def tagging(scratch: Scratch, _: str) -> Seen:
    """Tags show, others take their place, and nothing else changes."""
    cargo = await scratch.write()
    for pairs in ({"longshore": "probe 1", "second": "2"}, {"third": "3"}):
        seen = await tagged(scratch, cargo, pairs)
        if seen is not WORKS:
            return seen
    return WORKS


async def untagging(scratch: Scratch, _: str) -> Seen:
    """All tags can be taken away."""
    cargo = await scratch.write()
    seen = await tagged(scratch, cargo, {"longshore": "probe"})
    return seen if seen is not WORKS else await tagged(scratch, cargo, {})


async def acl(scratch: Scratch, _: str) -> Seen:
    """Everybody may read what has nothing to hide, and then may not."""
    cargo = await scratch.write()
    before = await scratch.get(cargo, "acl")
    if before.status >= 300:
        return refused(before)
    owner = text(before.body, "ID")
    for public in (True, False):
        told = await scratch.put(cargo, "acl", _acl(owner, public=public))
        seen = await kept(scratch, cargo, told)
        if seen is not WORKS:
            return seen
        shown = await scratch.get(cargo, "acl")
        if (_EVERYBODY.encode() in shown.body) != public:
            return Seen(Effect.IGNORED, NO_EFFECT)
    return WORKS


async def acl_read(scratch: Scratch, _: str) -> Seen:
    """There is a document that says who may read the object."""
    cargo = await scratch.write()
    told = await scratch.get(cargo, "acl")
    if told.status >= 300:
        return refused(told)
    if b"<AccessControlList" in told.body:
        return WORKS
    return Seen(Effect.IGNORED, "is ignored: something else is answered, such as the content")


async def _protected(scratch: Scratch, cargo: Cargo) -> bool:
    await scratch.delete(cargo)
    return (await scratch.look(cargo)).status < 300


def _where_locked(scratch: Scratch, seen: Seen, told: Reply) -> Seen:
    """What a lock's trial shows of the service, in a bucket whose objects can be locked; in others
    only that it destroys, or does not have the call at all."""
    if seen.effect is not Effect.DESTROYS and told.status not in (405, 501):
        need_locks(scratch)
    return seen


def _acl(owner: str, *, public: bool) -> str:
    instance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    grants = (
        f'<Grant><Grantee {instance} xsi:type="CanonicalUser"><ID>{owner}</ID></Grantee>'
        "<Permission>FULL_CONTROL</Permission></Grant>"
    )
    if public:
        grants += (
            f'<Grant><Grantee {instance} xsi:type="Group"><URI>{_EVERYBODY}</URI></Grantee>'
            "<Permission>READ</Permission></Grant>"
        )
    return (
        f"<AccessControlPolicy {NAMESPACE}><Owner><ID>{owner}</ID></Owner>"
        f"<AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
    )
