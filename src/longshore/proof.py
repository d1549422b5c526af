"""What is proven of a service before its calls are trusted with users' objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from longshore.errors import Error


class Effect(Enum):
    """What came of a call that was tried on a scratch object."""

    WORKS = "works"
    IGNORED = "ignored"  # answered as if done, without effect
    REFUSED = "refused"  # answered with an error that says that the service does not do it
    DESTROYS = "destroys"  # changed or lost what it should have kept


class Proof(NamedTuple):
    """What a service does with a call. ``call`` is its store's name for it, ``why`` is for people
    ("" where it works), ``server`` says which software answered, ``time_us`` when (0: now)."""

    call: str
    effect: Effect
    why: str
    server: str
    time_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Whether a store may do an act in a bucket.

    ``needs``: the calls that it is made of; ``proofs``: of those and of others that make it safer,
    what is known. ``refusal``: why it may not be done. ``weaker``: what it cannot promise.
    """

    act: str
    needs: Sequence[str] = ()
    proofs: Sequence[Proof] = ()
    refusal: Error | None = None
    weaker: str = ""


@runtime_checkable
class MustProve(Protocol):
    """A store (that takes turns) for services of many makers. Some answer a call that they do not
    know with success, and destroy the object: none is made on users' objects until it is proven."""

    @property
    def endpoint(self) -> str:
        """The service that proofs are about."""

    async def prove(
        self, bucket: str, acts: Mapping[str, str], known: Sequence[Proof]
    ) -> list[Finding]:
        """Find out whether ``acts`` may be done in ``bucket``, each call by trying it on a scratch
        object unless a proof of it is ``known``; position by position. The store then goes by it.

        An act is "delete", "delete_permanently", "storage_class", "kms_key" or a column that a
        Patch changes; its value is the wanted class or key, else "". Proofs with a time of 0 are
        new. Users' objects are neither read nor changed; scratch objects are removed.
        """
