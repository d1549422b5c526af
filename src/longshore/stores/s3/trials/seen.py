"""What came of trying, and how it is seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from longshore.errors import FailedPrecondition, PermissionDenied, Unavailable
from longshore.proof import Effect
from longshore.stores.s3.scratch import PASSING, Cargo, Scratch, said, text
from longshore.transport.http import Reply

NAMESPACE: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
WRONG_ETAG: Final = '"00000000000000000000000000000000"'


class Seen(NamedTuple):
    """What came of a trial; ``why`` goes on after the name of the call."""

    effect: Effect
    why: str = ""


WORKS: Final = Seen(Effect.WORKS)
NO_EFFECT: Final = "is answered as done, and has no effect"

Trial = Callable[[Scratch, str], Awaitable[Seen]]
"""Gets the value of the act: the wanted storage class or key."""


async def kept(scratch: Scratch, cargo: Cargo, told: Reply) -> Seen:
    """WORKS if a sub-resource was taken and the object is what it was."""
    look = await scratch.look(cargo.live)
    if look.body != cargo.content:
        return Seen(Effect.DESTROYS, "replaces the content of the object by the request's")
    if cargo.metadata.items() - look.headers.items():
        return Seen(Effect.DESTROYS, "loses metadata of the object")
    return WORKS if told.status < 300 else refused(told)


def refused(told: Reply) -> Seen:
    """What an error says of the service; raises where it is about something else."""
    why, error = said(told), text(told.body, "Code")
    if told.status == 403:
        raise PermissionDenied(f"The credentials are not allowed to: {why}")
    if told.status in PASSING:
        raise Unavailable(f"The service did not answer a trial: {why}")
    if error == "AccessControlListNotSupported":
        raise FailedPrecondition(f"The bucket has no ACLs: {why}")
    return Seen(Effect.REFUSED, f"is refused: {why}")


def is_error(reply: Reply) -> bool:
    """Copies may say 200 first, and then that they failed."""
    return reply.status >= 300 or b"<Error" in reply.body[:200]


def need_locks(scratch: Scratch) -> None:
    """Raises FailedPrecondition in a bucket whose objects cannot be locked."""
    if not scratch.facts.locks:
        raise FailedPrecondition(
            f"The bucket {scratch.bucket} has no object lock, which is needed to try this."
        )


async def tagged(scratch: Scratch, cargo: Cargo, pairs: Mapping[str, str]) -> Seen:
    """WORKS if the object now has these tags and no others, and else is what it was."""
    told = await scratch.put(cargo, "tagging", _tagging(pairs))
    seen = await kept(scratch, cargo, told)
    if seen is WORKS and await scratch.tags(cargo) != pairs:
        return Seen(Effect.IGNORED, NO_EFFECT)
    return seen


def hold_document(status: str) -> str:
    """What places ("ON") or releases ("OFF") a legal hold."""
    return f"<LegalHold {NAMESPACE}><Status>{status}</Status></LegalHold>"


def retention_document(until: datetime) -> str:
    """What retains a version, in the mode that can be undone."""
    return (
        f"<Retention {NAMESPACE}><Mode>GOVERNANCE</Mode>"
        f"<RetainUntilDate>{time_text(until)}</RetainUntilDate></Retention>"
    )


def _tagging(pairs: Mapping[str, str]) -> str:
    tags = "".join(
        f"<Tag><Key>{name}</Key><Value>{value}</Value></Tag>" for name, value in pairs.items()
    )
    return f"<Tagging {NAMESPACE}><TagSet>{tags}</TagSet></Tagging>"


def time_text(time: datetime) -> str:
    """A time as S3 writes it."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
