"""Objects on their way into an intent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from longshore.engine.intent import NEEDED, PINNED, Intent
from longshore.object_rules import noncurrent
from longshore.source import Selection
from longshore.store import ABSENT, Batch, Failure
from longshore.transformation import Transformation


@dataclass(slots=True, kw_only=True)
class Rows:
    """Objects on their way into an intent. ``settled``: those of which it turned out meanwhile
    that they are done, with the generation and size that were announced for them."""

    batch: Batch
    flags: list[int]
    refused: dict[int, Failure] = field(default_factory=dict)
    settled: dict[int, tuple[int, int]] = field(default_factory=dict)

    @staticmethod
    def of(selection: Selection) -> Rows:
        pinned = selection.pinned
        flags = [PINNED * one for one in pinned] if pinned else [0] * len(selection.batch)
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
        needed = list(plan.needed)
        if transformation.keeps_checksum:
            self._refuse_noncurrent(bucket, needed)
        for index in chain(_absent(batch), self.refused, self.settled, follows):
            needed[index] = False
        sizes = [0] * len(batch)
        if transformation.counts_bytes:
            sizes = [size * one for size, one in zip(batch.sizes, needed, strict=True)]
        generations = batch.generations
        if self.settled:
            generations = list(generations)
            for index, (generation, size) in self.settled.items():
                generations[index], sizes[index] = generation, size
        contexts = plan.contexts or ()
        if contexts and not all(needed):
            none = type(contexts[0])()
            contexts = [c if one else none for c, one in zip(contexts, needed, strict=True)]
        return Intent(
            names=batch.names,
            generations=generations,
            sizes=sizes,
            flags=[f | NEEDED * one for f, one in zip(self.flags, needed, strict=True)],
            contexts=contexts,
            checksums=batch.columns["checksum"] if transformation.keeps_checksum else (),
            refused=self.refused,
        )

    def _refuse_noncurrent(self, bucket: str, needed: Sequence[bool]) -> None:
        """Refuse to copy versions that are not live, as every store would. If a call were made
        and its reply lost, a look could take what somebody else has made of the object, or an
        earlier row of the job, for the effect of this one."""
        rows = zip(self.batch.generations, self.batch.columns["live"], needed, strict=True)
        for index, (generation, live, need) in enumerate(rows):
            if need and not live and generation != ABSENT and index not in self.settled:
                path = f"{bucket}/{self.batch.names[index]}"
                self.refused.setdefault(index, noncurrent(path))


def _absent(batch: Batch) -> Iterable[int]:
    if ABSENT not in batch.generations:
        return ()
    return (i for i, generation in enumerate(batch.generations) if generation == ABSENT)
