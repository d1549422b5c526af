"""Trials of copies of an object onto itself, and of parts of it into another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from longshore.errors import FailedPrecondition
from longshore.proof import Effect
from longshore.stores.s3.scratch import METADATA, Cargo, Scratch, said, text
from longshore.stores.s3.trials.seen import (
    NO_EFFECT,
    WORKS,
    WRONG_ETAG,
    Seen,
    is_error,
    need_locks,
    refused,
    tagged,
    time_text,
)
from longshore.transport.http import Reply

_CONDITIONS = ("x-amz-copy-source-if-match", "x-amz-copy-if-match")  # Ceph reads the second
_CHANGES = "changes the content of the object, or takes another one's"
_NO_CLASS = "LONGSHORE_NO_CLASS"
_NO_KEY = "longshore-no-key"
_RETENTION = timedelta(days=1)


async def copy(scratch: Scratch, _: str) -> Seen:
    """New metadata in the place of the old, and the same content."""
    cargo = await scratch.write_odd()
    wanted = {**METADATA, "content-type": "text/x-longshore-2", "x-amz-meta-first": "changed"}
    wanted["x-amz-meta-third"] = wanted.pop("x-amz-meta-second")
    told = await scratch.copy(cargo, wanted)
    look = await scratch.look(cargo.live)
    if look.body != cargo.content:
        return Seen(Effect.DESTROYS, _CHANGES)
    if is_error(told):
        return refused(told)
    shown = {name: value for name, value in look.headers.items() if _is_metadata(name)}
    if shown == wanted:
        return WORKS
    if shown == cargo.metadata:
        return Seen(Effect.IGNORED, NO_EFFECT)
    lost = ", ".join(sorted(name for name in wanted if shown.get(name) != wanted[name]))
    return Seen(Effect.DESTROYS, f"loses or keeps what it should not: {lost or 'old metadata'}")


async def copy_if_match(scratch: Scratch, _: str) -> Seen:
    """Done to the object that is meant, and not to one of another content."""
    cargo = await scratch.write()
    wanted = {**cargo.metadata, "x-amz-meta-third": "3"}
    told = await scratch.copy(cargo, wanted, dict.fromkeys(_CONDITIONS, WRONG_ETAG))
    if not is_error(told):
        return Seen(Effect.IGNORED, "is ignored")
    if told.status != 412:
        return refused(told)
    told = await scratch.copy(cargo, wanted, dict.fromkeys(_CONDITIONS, cargo.etag))
    return refused(told) if is_error(told) else WORKS


async def copy_tags(scratch: Scratch, _: str) -> Seen:
    """Tags stay where nothing is said of them."""
    cargo = await scratch.write()
    pairs = {"longshore": "probe"}
    if await tagged(scratch, cargo, pairs) is not WORKS:
        return Seen(Effect.REFUSED, "cannot be tried: there are no tags")
    told = await scratch.copy(cargo, {**cargo.metadata, "x-amz-meta-third": "3"})
    if is_error(told):
        return refused(told)
    if await scratch.tags(cargo.live) == pairs:
        return WORKS
    return Seen(Effect.IGNORED, "is not so: the copy has lost its tags")


async def copy_locks(scratch: Scratch, _: str) -> Seen:
    """The new version is held and retained from its beginning."""
    need_locks(scratch)
    cargo = await scratch.write()
    until = datetime.now(UTC) + _RETENTION
    headers = {
        "x-amz-object-lock-legal-hold": "ON",
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": time_text(until),
    }
    told = await scratch.copy(cargo, cargo.metadata, headers)
    if is_error(told):
        return refused(told)
    shown = (await scratch.look(cargo.live)).headers
    if all(shown.get(name) == headers[name] for name in list(headers)[:2]):
        return WORKS
    return Seen(Effect.IGNORED, NO_EFFECT)


async def copy_class(scratch: Scratch, value: str) -> Seen:
    """The wanted storage class, the same content; and not just any class is echoed."""
    name = "x-amz-storage-class"
    shown, told = await _copied_with(scratch, {name: _NO_CLASS}, name)
    if shown == _NO_CLASS:
        return Seen(Effect.IGNORED, "is shown whatever it is, even if there is no such class")
    shown, told = await _copied_with(scratch, {name: value}, name)
    if shown is None:
        return Seen(Effect.DESTROYS, _CHANGES)
    if is_error(told):
        return refused(told)
    return WORKS if (shown or "STANDARD") == value else Seen(Effect.IGNORED, NO_EFFECT)


async def copy_kms(scratch: Scratch, value: str) -> Seen:
    """The wanted key, the same content; and not just any key is echoed."""
    algorithm, name = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"
    shown, told = await _copied_with(scratch, {algorithm: "aws:kms", name: _NO_KEY}, name)
    if shown and _NO_KEY in shown:
        return Seen(Effect.IGNORED, "is shown whatever it is, even if there is no such key")
    shown, told = await _copied_with(scratch, {algorithm: "aws:kms", name: value}, name)
    if shown is None:
        return Seen(Effect.DESTROYS, _CHANGES)
    if is_error(told) and text(told.body, "Code").startswith("KMS."):
        raise FailedPrecondition(f"The service does not take the key {value!r}: {said(told)}")
    if is_error(told):
        return refused(told)
    return WORKS if shown.endswith(value) else Seen(Effect.IGNORED, NO_EFFECT)


async def _copied_with(
    scratch: Scratch, headers: Mapping[str, str], shows: str
) -> tuple[str | None, Reply]:
    """What the header ``shows`` says after a copy with ``headers``; None: its content changed."""
    cargo = await scratch.write()
    told = await scratch.copy(cargo, cargo.metadata, headers)
    look = await scratch.look(cargo.live)
    return look.headers.get(shows, "") if look.body == cargo.content else None, told


async def part_copy(scratch: Scratch, _: str) -> Seen:
    """A part of an object becomes another one's content."""
    return await _part_of(scratch, await scratch.write())


async def part_copy_names(scratch: Scratch, _: str) -> Seen:
    """The same, whatever the object is called."""
    return await _part_of(scratch, await scratch.write_odd())


async def _part_of(scratch: Scratch, cargo: Cargo) -> Seen:
    other, told = await scratch.copy_part(cargo, first=2, last=len(cargo.content) - 2)
    if told.status >= 300:
        return refused(told)
    look = await scratch.look(other)
    if look.body == cargo.content[2:-1]:
        return WORKS
    return Seen(Effect.DESTROYS, "takes another content")


def _is_metadata(name: str) -> bool:
    return name.startswith("x-amz-meta-") or name in METADATA
