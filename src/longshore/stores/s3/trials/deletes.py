"""Trials of deletes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from longshore.errors import FailedPrecondition
from longshore.proof import Effect
from longshore.stores.s3.scratch import Cargo, Scratch
from longshore.stores.s3.trials.seen import (
    NAMESPACE,
    NO_EFFECT,
    WORKS,
    WRONG_ETAG,
    Seen,
    hold_document,
    kept,
    need_locks,
    refused,
    retention_document,
)

_SHORTLY: Final = timedelta(seconds=2)


async def delete(scratch: Scratch, _: str) -> Seen:
    """What is named is gone, and nothing else."""
    named, kept = await scratch.write(), await scratch.write()
    told = await scratch.delete_many(_delete(named))
    if (await scratch.look(kept.live)).body != kept.content:
        return Seen(Effect.DESTROYS, "deletes what it was not told to")
    if told.status >= 300:
        return refused(told)
    if (await scratch.look(named.live)).status != 404:
        return Seen(Effect.IGNORED, NO_EFFECT)
    return WORKS


async def delete_quiet(scratch: Scratch, _: str) -> Seen:
    """Nothing is said of what is deleted."""
    cargo = await scratch.write()
    told = await scratch.delete_many(_delete(cargo, quiet=True))
    if told.status >= 300:
        return refused(told)
    if cargo.key.encode() in told.body:
        return Seen(Effect.IGNORED, "is ignored")
    return WORKS


async def delete_etag(scratch: Scratch, _: str) -> Seen:
    """An object of another content stays, and the one that is meant goes."""
    cargo = await scratch.write()
    told = await scratch.delete_many(_delete(cargo, etag=WRONG_ETAG))
    if (await scratch.look(cargo.live)).body != cargo.content:
        return Seen(Effect.IGNORED, "is ignored")
    if told.status >= 300:
        return refused(told)
    await scratch.delete_many(_delete(cargo, etag=cargo.etag))
    gone = (await scratch.look(cargo.live)).status == 404
    return WORKS if gone else Seen(Effect.REFUSED, "keeps the object that is meant, too")


async def delete_if_match(scratch: Scratch, _: str) -> Seen:
    """An object of another content stays, and the one that is meant goes."""
    cargo = await scratch.write()
    told = await scratch.delete(cargo.live, {"if-match": WRONG_ETAG})
    if (await scratch.look(cargo.live)).body != cargo.content:
        return Seen(Effect.IGNORED, "is ignored")
    if told.status != 412:
        return refused(told)
    told = await scratch.delete(cargo.live, {"if-match": cargo.etag})
    return WORKS if told.status < 300 else refused(told)


async def delete_version(scratch: Scratch, _: str) -> Seen:
    """That version is gone, and the live one stays."""
    if not scratch.facts.versioned:
        raise FailedPrecondition(f"The bucket {scratch.bucket} keeps no versions.")
    old = await scratch.write()
    new = await scratch.write(key=old.key)
    told = await scratch.delete_many(_delete(old, versions=True))
    if (await scratch.look(new.live)).body != new.content:
        return Seen(Effect.DESTROYS, "deletes another version")
    if told.status >= 300:
        return refused(told)
    if (await scratch.look(old)).status < 300:
        return Seen(Effect.IGNORED, NO_EFFECT)
    return WORKS


async def delete_locked(scratch: Scratch, _: str) -> Seen:
    """A held version stays, and what is named beside it goes."""
    need_locks(scratch)
    held, free, over = [await scratch.write() for _ in range(3)]
    # By its sources versitygw looked no further than the first one whose retention was over.
    # Where this one cannot be retained for so short a time, it is just one more.
    await scratch.put(over, "retention", retention_document(datetime.now(UTC) + _SHORTLY))
    await asyncio.sleep(_SHORTLY.total_seconds())
    told = await scratch.put(held, "legal-hold", hold_document("ON"))
    seen = await kept(scratch, held, told)
    if seen is not WORKS:
        return seen
    told = await scratch.delete_many(_delete(over, held, free, versions=True))
    if (await scratch.look(held)).body != held.content:
        return Seen(Effect.DESTROYS, "deletes what is held")
    if told.status >= 300:
        return refused(told)
    if (await scratch.look(free)).status < 300:
        return Seen(Effect.REFUSED, "is refused for all if it is for one")
    return WORKS


def _delete(*cargoes: Cargo, quiet: bool = False, etag: str = "", versions: bool = False) -> str:
    objects = ""
    for cargo in cargoes:
        parts = f"<Key>{cargo.key}</Key>"
        if versions:
            parts += f"<VersionId>{cargo.version}</VersionId>"
        if etag:
            parts += f"<ETag>{etag}</ETag>"
        objects += f"<Object>{parts}</Object>"
    said = "<Quiet>true</Quiet>" if quiet else ""
    return f"<Delete {NAMESPACE}>{said}{objects}</Delete>"
