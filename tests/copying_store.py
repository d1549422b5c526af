"""A memory store that cannot change most metadata in place: like S3, it copies the object onto
itself, which makes a new version."""

from __future__ import annotations

from collections.abc import Set
from copy import copy
from dataclasses import replace

from longshore import object_rules as rules
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.patch import Patch
from longshore.store import Batch, Capabilities, Failure, Outcome
from longshore.stores.memory import MemoryStore, _each, _means_live
from longshore.stores.memory.versions import Version

IN_PLACE = frozenset({"temporary_hold", "event_based_hold", "retention"})


class CopyingStore(MemoryStore):
    """The memory store, but that patches of ``copied`` columns replace the live version. What is
    held is replaced all the same: in S3 a hold keeps a version and not a name. ``reads``: patches
    of them see for themselves which objects need none."""

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        copied: Set[str] = rules.PATCH_COLUMNS - IN_PLACE,
        *,
        reads: bool = False,
    ) -> None:
        super().__init__(clock)
        self.copied = frozenset(copied)
        self.reads = frozenset(copied) if reads else frozenset()

    @property
    def capabilities(self) -> Capabilities:
        capabilities = super().capabilities
        return replace(capabilities, copied_columns=self.copied, patch_reads=self.reads)

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        if self.copied.isdisjoint(patch.changes()):
            return await super().patch_objects(
                bucket, batch, patch, match_metageneration=match_metageneration
            )
        found = await self._bucket(bucket)
        change, changed = found.change(patch), patch.changes()

        def replace_(version: Version) -> Failure | None:
            if not version.live:
                return rules.noncurrent(found.path(version.name))
            new = copy(version)
            if failure := change(new):
                return failure
            if self.reads and all(getattr(new, one) == getattr(version, one) for one in changed):
                return None
            if found.rules.versioning:
                version.live = False
                found.noncurrent.setdefault(version.name, []).insert(0, version)
            found._add(new, self._clock.now_us())
            return None

        named = batch.metagenerations if match_metageneration else None
        return _each(found, batch, _means_live(batch), replace_, named)
