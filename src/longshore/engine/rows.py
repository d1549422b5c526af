"""Objects on their way into an intent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import mul, or_

from longshore.engine.intent import NEEDED, PINNED, Intent
from longshore.object_rules import noncurrent
from longshore.source import Selection
from longshore.store import ABSENT, Batch, Failure
from longshore.transformation import ContextDelta, Transformation

_PIN = bytes([0, PINNED]) + bytes(254)
_NEED = bytes([0, NEEDED]) + bytes(254)
"""What becomes of a column of True and False, each a byte."""


@dataclass(slots=True, kw_only=True)
class Rows:
    """Objects on their way into an intent. ``settled``: those of which it turned out meanwhile
    that they are done, with the generation and size that were announced for them."""

    batch: Batch
    flags: bytes
    refused: dict[int, Failure] = field(default_factory=dict)
    settled: dict[int, tuple[int, int]] = field(default_factory=dict)

    @staticmethod
    def of(selection: Selection) -> Rows:
        pinned = selection.pinned
        flags = bytes(pinned).translate(_PIN) if pinned else bytes(len(selection.batch))
        return Rows(batch=selection.batch, flags=flags, refused=dict(selection.refused))

    def join(self, other: Rows) -> Rows:
        offset = len(self.flags)
        batch = self.batch + other.batch if len(other.flags) else self.batch
        return Rows(
            batch=batch,
            flags=self.flags + other.flags,
            refused=self.refused | {i + offset: one for i, one in other.refused.items()},
            settled=self.settled,
        )

    def follows(self) -> dict[int, int]:
        """Rows of an object that an earlier one is about as well, and that one."""
        if len(set(self.batch.names)) == len(self.batch):
            return {}
        keys = zip(self.batch.names, self.batch.generations, strict=True)
        first: dict[tuple[str, int], int] = {}
        repeats = {}
        for index, key in enumerate(keys):
            if key[1] != ABSENT and first.setdefault(key, index) != index:
                repeats[index] = first[key]
        return repeats

    def intent(
        self, transformation: Transformation, bucket: str, follows: Mapping[int, int]
    ) -> Intent:
        batch = self.batch
        plan = transformation.plan(batch)
        needed = bytearray(plan.needed)
        if transformation.keeps_checksum and not all(batch.columns["live"]):
            self._refuse_noncurrent(bucket, needed)
        for index in chain(_absent(batch), self.refused, self.settled, follows):
            needed[index] = False
        sizes = [0] * len(batch)
        if transformation.counts_bytes:
            sizes = _where(needed, batch.sizes)
        generations = batch.generations
        if self.settled:
            generations, sizes = list(generations), list(sizes)
            for index, (generation, size) in self.settled.items():
                generations[index], sizes[index] = generation, size
        flags = needed.translate(_NEED)
        if any(self.flags):
            flags = bytearray(map(or_, flags, self.flags))
        return Intent(
            names=batch.names,
            generations=generations,
            sizes=sizes,
            flags=bytes(flags),
            contexts=[_where(needed, column) for column in _columns(plan.contexts or ())],
            checksums=batch.columns["checksum"] if transformation.keeps_checksum else (),
            refused=self.refused,
        )

    def _refuse_noncurrent(self, bucket: str, needed: bytearray) -> None:
        """Refuse to copy versions that are not live, as every store would. If a call were made
        and its reply lost, a look could take what somebody else has made of the object, or an
        earlier row of the job, for the effect of this one."""
        rows = zip(self.batch.generations, self.batch.columns["live"], needed, strict=True)
        for index, (generation, live, need) in enumerate(rows):
            if need and not live and generation != ABSENT and index not in self.settled:
                path = f"{bucket}/{self.batch.names[index]}"
                self.refused.setdefault(index, noncurrent(path))


def _where(needed: bytearray, values: list[int]) -> list[int]:
    """``values``, but 0 where nothing is needed."""
    return list(map(mul, needed, values)) if False in needed else values


def _columns(contexts: Sequence[ContextDelta]) -> Sequence[list[int]]:
    """Deltas, most of which are alike, as columns."""
    if contexts and contexts.count(contexts[0]) == len(contexts):
        return [[one] * len(contexts) for one in contexts[0]]
    return list(map(list, zip(*contexts, strict=True)))


def _absent(batch: Batch) -> Iterable[int]:
    if ABSENT not in batch.generations:
        return ()
    return (i for i, generation in enumerate(batch.generations) if generation == ABSENT)
