"""Objects by the beginnings of their names: ``prefixList``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from longshore.source import BatchSize, Cursor, Range, Selection
from longshore.store import Batch, Stores


def from_message(message: Any) -> dict[str, Any]:
    """The prefixes that are left when those that another one covers are dropped, so that each
    object is chosen once; no prefix at all means every object, as does "".

    A prefix is taken as it is, blanks included. How many a job may have is for the API to check,
    as that is a matter of all its buckets.
    """
    covering: list[str] = []
    for prefix in sorted(message.included_object_prefixes or [""]):
        # In sorted order whatever a prefix covers follows it directly.
        if not covering or not prefix.startswith(covering[-1]):
            covering.append(prefix)
    return {"prefixes": covering}


def open_source(data: Mapping[str, Any]) -> PrefixList:
    """What the data asks for."""
    return PrefixList(prefixes=tuple(data["prefixes"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixList:
    """A listing of a bucket. A range is a prefix and the names that lie ``after`` and ``before``
    (None: no bound) its ends, both excluded; a cursor is the name read last, and its generation
    where noncurrent versions are read too."""

    prefixes: tuple[str, ...]

    counts_bytes = True

    async def split(self, stores: Stores, bucket: str) -> list[Range]:
        """One range per prefix; raises NotFound if the bucket does not exist."""
        await stores.for_bucket(bucket).get_bucket(bucket)
        return [{"prefix": prefix, "after": "", "before": None} for prefix in self.prefixes]

    async def read(
        self,
        stores: Stores,
        bucket: str,
        range_: Range,
        cursor: Cursor,
        *,
        columns: Sequence[str],
        versions: bool,
        size: BatchSize,
    ) -> AsyncGenerator[Selection, None]:
        """A selection is a page of a listing. The listing is begun anew, behind what was read,
        when the size of batches changes."""
        store = stores.for_bucket(bucket)
        cursor = cursor or {"after": range_["after"], "generation": None}
        at_end = False
        while not at_end:
            page_size = size()
            pages = store.list_objects(
                bucket,
                prefix=range_["prefix"],
                after=cursor["after"],
                after_generation=cursor["generation"],
                before=range_["before"],
                versions=versions,
                columns=tuple(dict.fromkeys((*columns, "live"))),
                page_size=page_size,
            )
            at_end = True
            async with aclosing(cast("AsyncGenerator[Batch, None]", pages)) as batches:
                async for batch in batches:
                    if not batch:
                        continue
                    generation = batch.generations[-1] if versions else None
                    cursor = {"after": batch.names[-1], "generation": generation}
                    yield Selection(batch=batch, cursor=cursor)
                    if size() != page_size:
                        at_end = False
                        break
