"""Objects by the beginnings of their names: ``prefixList``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from longshore.source import BatchSize, Cursor, Halves, Range, Selection
from longshore.sources.prefix_list import middle
from longshore.store import PAGE_SIZE, Batch, BucketStores

_STEP = 8
"""By how much a guess ahead grows when it was right, and shrinks when it was not."""
_FIRST_STEP_PAGES = 16
_MAX_STEP_PAGES = 1 << 30
"""Of more names than any bucket has; ranges are kept as JSON, whose numbers end somewhere."""


def from_message(message: Any) -> dict[str, Any]:
    """The prefixes that are left when those that another one covers are dropped, so that each
    object is chosen once; no prefix at all means every object, as does "".

    A prefix is taken as it is, blanks included. How many a job may have is for the API to check,
    as that is a matter of all its buckets.
    """
    return {"prefixes": covering(message.included_object_prefixes or [""])}


def covering(prefixes: Iterable[str]) -> list[str]:
    """``prefixes``, sorted, without those that another one covers."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        # In sorted order whatever a prefix covers follows it directly.
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def open_source(data: Mapping[str, Any]) -> PrefixList:
    """What the data asks for."""
    return PrefixList(prefixes=tuple(data["prefixes"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixList:
    """A listing of a bucket. A range is a prefix and the names that lie ``after`` and ``before``
    (None: no bound) its ends, both excluded; a cursor is the name read last, and its generation
    where noncurrent versions are read too.

    A range also carries what was learnt about it, which decides only where it is halved: behind the
    name ``end`` there is less than a page; whether to look ``far`` (halfway to it) or ``step``
    pages ahead.
    """

    prefixes: tuple[str, ...]
    worth_names: int = PAGE_SIZE
    """How many names, at least, must lie behind a cut."""

    counts_bytes = True
    repeats = False

    async def split(self, stores: BucketStores, bucket: str) -> list[Range]:
        """One range per prefix, without a listing: what is large is halved while it runs. Raises
        NotFound if the bucket does not exist."""
        await stores.for_bucket(bucket).get_bucket(bucket)
        return [{"prefix": prefix, "after": "", "before": None} for prefix in self.prefixes]

    async def halve(
        self, stores: BucketStores, bucket: str, range_: Range, last: Selection, *, calls: int
    ) -> Halves:
        """Look, in at most ``calls`` listings, for a name behind ``last`` with at least a page of
        names behind it, and cut there."""
        names = last.batch.names if last.seen is None else last.seen
        prefix = range_["prefix"]
        known = {"far": True, "step": _FIRST_STEP_PAGES, "end": range_["before"], **range_}
        used = 0
        while used < calls and names:
            guess = None
            if not known["far"]:
                guess = middle.ahead(prefix, names, known["step"], known["end"])
            guess = guess or middle.halfway(prefix, names, known["end"])
            if guess is None:
                break
            used += 1
            if await self._has_page(stores, bucket, range_, guess):
                keep = {**known, "before": guess + "\0", "end": guess + "\0", "far": True}
                step = min(_MAX_STEP_PAGES, known["step"] * _STEP)
                give = {**known, "after": guess, "step": step}
                return Halves(keep, give, used)
            if not known["far"]:
                known["step"] = max(1, known["step"] // _STEP)
            known |= {"end": guess, "far": not known["far"]}
        return Halves(known, None, used)

    async def _has_page(self, stores: BucketStores, bucket: str, range_: Range, after: str) -> bool:
        pages = self._pages(stores, bucket, range_, after, columns=None)
        async with aclosing(cast("AsyncGenerator[Batch, None]", pages)) as batches:
            first = await anext(batches, None)
        return first is not None and len(first) >= self.worth_names

    def _pages(
        self, stores: BucketStores, bucket: str, range_: Range, after: str, **options: Any
    ) -> AsyncIterator[Batch]:
        return stores.for_bucket(bucket).list_objects(
            bucket, prefix=range_["prefix"], after=after, before=range_["before"], **options
        )

    async def read(
        self,
        stores: BucketStores,
        bucket: str,
        range_: Range,
        cursor: Cursor,
        *,
        columns: Sequence[str] | None,
        versions: bool,
        size: BatchSize,
    ) -> AsyncGenerator[Selection, None]:
        """A selection is a page of a listing. The listing is begun anew, behind what was read,
        when the size of batches changes."""
        cursor = cursor or {"after": range_["after"], "generation": None}
        at_end = False
        while not at_end:
            page_size = size()
            pages = self._pages(
                stores,
                bucket,
                range_,
                cursor["after"],
                after_generation=cursor["generation"],
                versions=versions,
                columns=None if columns is None else tuple(dict.fromkeys((*columns, "live"))),
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
