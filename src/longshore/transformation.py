"""The contract of a transformation, and the three kinds there are.

A module of ``transformations/`` has two functions. ``from_message(message)`` checks the message of
the request, raises InvalidArgument that names every bad field, and gives plain data, which is what
the database keeps. ``open_transformation(data)`` makes of that data, in a worker, one of the three
kinds: Delete, PatchObjects or Rewrite. They differ in what a call of the store does and in how an
open intent is settled (house rules: docs/decisions/0002); everything else is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from operator import eq
from typing import NamedTuple, Protocol

from longshore.errors import Unimplemented
from longshore.patch import Patch, memoised, satisfied
from longshore.store import ABSENT, Batch, Capabilities, Outcome, Store


class ContextDelta(NamedTuple):
    """How many contexts of one object are created, deleted and updated."""

    created: int = 0
    deleted: int = 0
    updated: int = 0


class Plan(NamedTuple):
    """What a batch will come to: which objects need a call, and what that adds to the counters.

    ``contexts`` is None where a transformation counts none. What needs no call adds nothing.
    """

    needed: list[bool]
    contexts: list[ContextDelta] | None = None


class Verdict(Enum):
    """What a look at an announced object says about its announced change."""

    DONE = "done"
    AGAIN = "again"
    MISSING = "missing"


class Announced(NamedTuple):
    """What an intent keeps of its objects for settling. ``checksums``: only where asked for."""

    names: Sequence[str]
    generations: Sequence[int]
    checksums: Sequence[str]


class Transformation(Protocol):
    """What is done to each object of a batch."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What must be read of an object when it is settled."""

    @property
    def columns_before(self) -> tuple[str, ...]:
        """What must be read of an object before it is announced."""

    @property
    def versions(self) -> bool:
        """Whether noncurrent versions are chosen too."""

    @property
    def counts_bytes(self) -> bool:
        """Whether the sizes of changed objects make ``totalBytesTransformed``."""

    @property
    def keeps_checksum(self) -> bool:
        """Whether it makes a new generation, which is told from others by the announced checksum
        (then that is among ``columns``)."""

    @property
    def gone_is_done(self) -> bool:
        """Whether an announced object that is gone, or of another generation, is done."""

    @property
    def skips_noncurrent(self) -> bool:
        """Whether a noncurrent version that a manifest names is passed over and not counted."""

    @property
    def acts(self) -> Mapping[str, str]:
        """What it comes to, in the words of ``proof.MustProve.prove``."""

    def check(self, capabilities: Capabilities) -> None:
        """Raises Unimplemented, with the reason, for what a store cannot do."""

    def on(self, capabilities: Capabilities) -> Transformation:
        """The same, as a store with these capabilities does it."""

    def plan(self, batch: Batch) -> Plan:
        """What doing it to ``batch``, all of which is there, will come to."""

    async def act(self, store: Store, bucket: str, batch: Batch) -> Outcome:
        """Do it to ``batch``, all of which needs it, in the announced generations only."""

    def settle(self, announced: Announced, now: Batch) -> list[Verdict]:
        """Judge each announced object, which was there, position by position, by what is there now.

        ``now`` has this transformation's ``columns`` and ``live``. Where ``gone_is_done`` it has
        the announced generation or ABSENT. Else it has the live object of the name (the announced
        generation that has become noncurrent does not count: a rewrite itself makes it so), or a
        noncurrent version that the user named and that keeps its generation, or ABSENT.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete the live version, or with ``permanent`` every chosen version for good."""

    permanent: bool

    columns = ()
    columns_before = ()
    counts_bytes = True
    keeps_checksum = False
    gone_is_done = True

    @property
    def versions(self) -> bool:
        return self.permanent

    @property
    def skips_noncurrent(self) -> bool:
        return not self.permanent

    @property
    def acts(self) -> Mapping[str, str]:
        return {"delete_permanently" if self.permanent else "delete": ""}

    def check(self, capabilities: Capabilities) -> None:
        """Every store can delete."""

    def on(self, capabilities: Capabilities) -> Delete:
        return self

    def plan(self, batch: Batch) -> Plan:
        return Plan([True] * len(batch))

    async def act(self, store: Store, bucket: str, batch: Batch) -> Outcome:
        return await store.delete_objects(bucket, batch, permanent=self.permanent)

    def settle(self, announced: Announced, now: Batch) -> list[Verdict]:
        rows = zip(announced.generations, now.generations, now.columns["live"], strict=True)
        return [
            Verdict.AGAIN if was == is_ and (live or self.permanent) else Verdict.DONE
            for was, is_, live in rows
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchObjects:
    """Change metadata; the generation stays, but where the store makes a new one for the change.

    ``count_contexts`` gives the delta for the text of an object's ``contexts``; a patch with it is
    done only at the metageneration that it was computed from. ``copies``: the store copies each
    object onto itself for this, so that an open intent is settled like that of a Rewrite.
    ``reads``: it sees for itself which objects need the patch; nobody asks for that before.
    """

    patch: Patch
    count_contexts: Callable[[str], ContextDelta] | None = None
    copies: bool = False
    reads: bool = False

    versions = False
    counts_bytes = False
    gone_is_done = False
    skips_noncurrent = False

    @property
    def columns(self) -> tuple[str, ...]:
        changed = tuple(self.patch.changes())
        return (*changed, "checksum") if self.copies else changed

    @property
    def columns_before(self) -> tuple[str, ...]:
        if not self.reads:
            return self.columns
        return ("checksum",) if self.copies else ()

    @property
    def keeps_checksum(self) -> bool:
        return self.copies

    @property
    def acts(self) -> Mapping[str, str]:
        return dict.fromkeys(self.patch.changes(), "")

    def check(self, capabilities: Capabilities) -> None:
        missing = sorted(self.patch.changes().keys() - capabilities.patch_columns)
        if missing:
            raise Unimplemented(f"This store cannot change {', '.join(missing)} of an object.")

    def on(self, capabilities: Capabilities) -> PatchObjects:
        changed = self.patch.changes().keys()
        reads = self.count_contexts is None and not changed.isdisjoint(capabilities.patch_reads)
        copies = not changed.isdisjoint(capabilities.copied_columns)
        return replace(self, copies=copies, reads=reads)

    def plan(self, batch: Batch) -> Plan:
        if self.reads:
            return Plan([True] * len(batch))
        needed = [not satisfied for satisfied in self.patch.satisfied(batch.columns, len(batch))]
        if self.count_contexts is None:
            return Plan(needed)
        return Plan(needed, memoised(self.count_contexts, batch.columns["contexts"]))

    async def act(self, store: Store, bucket: str, batch: Batch) -> Outcome:
        return await store.patch_objects(
            bucket, batch, self.patch, match_metageneration=self.count_contexts is not None
        )

    def settle(self, announced: Announced, now: Batch) -> list[Verdict]:
        satisfied = self.patch.satisfied(now.columns, len(now))
        if self.copies:
            ours = map(_same, announced.checksums, now.columns["checksum"])
        else:
            ours = map(eq, announced.generations, now.generations)
        rows = zip(now.generations, satisfied, ours, strict=True)
        return [_verdict(is_, done=wanted and own) for is_, wanted, own in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Copy an object onto itself with another storage class or key: a new generation."""

    storage_class: str = ""
    kms_key: str = ""

    versions = False
    counts_bytes = True
    keeps_checksum = True
    gone_is_done = False
    skips_noncurrent = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self._changes, "checksum")

    @property
    def columns_before(self) -> tuple[str, ...]:
        return self.columns

    @property
    def acts(self) -> Mapping[str, str]:
        return self._changes

    def check(self, capabilities: Capabilities) -> None:
        if not capabilities.rewrite:
            raise Unimplemented("This store cannot rewrite objects.")

    def on(self, capabilities: Capabilities) -> Rewrite:
        return self

    def plan(self, batch: Batch) -> Plan:
        return Plan([not wanted for wanted in self._wanted(batch)])

    async def act(self, store: Store, bucket: str, batch: Batch) -> Outcome:
        return await store.rewrite_objects(
            bucket, batch, storage_class=self.storage_class, kms_key=self.kms_key
        )

    def settle(self, announced: Announced, now: Batch) -> list[Verdict]:
        rows = zip(
            now.generations,
            self._wanted(now),
            announced.checksums,
            now.columns["checksum"],
            strict=True,
        )
        return [_verdict(is_, done=wanted and _same(was, now_)) for is_, wanted, was, now_ in rows]

    def _wanted(self, batch: Batch) -> list[bool]:
        return satisfied(self._changes, batch.columns, len(batch))

    @property
    def _changes(self) -> Mapping[str, str]:
        wanted = {"storage_class": self.storage_class, "kms_key": self.kms_key}
        return {column: value for column, value in wanted.items() if value}


def _same(was: str, is_: str) -> bool:
    """Whether two checksums may be of the same content; a store may know less of a copy."""
    return was.startswith(is_) or is_.startswith(was)


def _verdict(generation: int, *, done: bool) -> Verdict:
    if generation == ABSENT:
        return Verdict.MISSING
    return Verdict.DONE if done else Verdict.AGAIN
