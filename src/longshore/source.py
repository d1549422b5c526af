"""The contract of a source: which objects a bucket operation is about.

``from_message(message)`` of an implementation checks a Bucket's configuration and gives plain data;
``open_source(data)`` makes a Source of that data in a worker, which never sees a protobuf message.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from longshore.store import Batch, Bucket, BucketStores, Failure

Range = Mapping[str, Any]
"""Where a shard begins and ends: plain data that only its source understands."""
Cursor = Mapping[str, Any]
"""How far a shard has come: plain data that only its source understands; {} at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A batch as its source chose it, and where to go on after it.

    ``pinned[i]`` is true where the user named the generation, which then is never left for a newer
    one; None means that none is. ``refused``: entries that can't be tried (an unreadable row of a
    manifest), by index, with the reason; ``batch.names`` then says where the entry stands.
    ``seen``: all names up to the cursor that were read for it, where a filter has left some out.
    """

    batch: Batch
    cursor: Cursor
    pinned: list[bool] | None = None
    refused: Mapping[int, Failure] = field(default_factory=dict)
    seen: Sequence[str] | None = None


class Halves(NamedTuple):
    """A range in two: what its shard keeps, and what another one may have (None: nothing that is
    worth it was found). Together they are just the range. ``calls``: of a store that it took."""

    keep: Range
    give: Range | None
    calls: int


class Source(Protocol):
    """Which objects of one bucket, in which order."""

    counts_bytes: bool
    """Whether ``totalBytesFound`` is counted (the API: for prefix lists only)."""
    repeats: bool
    """Whether a name may be chosen more than once."""

    async def split(self, stores: BucketStores, bucket: str) -> list[Range]:
        """Disjoint ranges that together are the whole; may be empty.

        Raises an errors.Error (NotFound: no such bucket or manifest) that ends the bucket
        operation as FAILED.
        """

    async def halve(
        self, stores: BucketStores, bucket: str, range_: Range, last: Selection, *, calls: int
    ) -> Halves:
        """Cut a range somewhere behind ``last``, the selection read last of it, about where half
        of the rest is, in at most ``calls`` calls of a store. Raises as ``read`` does."""

    def read(
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
        """Selections from ``cursor`` to the end of the range. ``columns``: what must be known of
        each object, None: only that it is there, and its size. ``versions``: a listing covers
        noncurrent versions too. ``size()`` is asked before each selection for the most objects it
        may have, since a rate cap shrinks batches while a shard runs.

        A selection may be empty: it moves the cursor over what was read and is not chosen, so that
        progress and cancels are not held up by a long search."""


class BucketFinder(Source, Protocol):
    """A source that says which buckets, too. A job with one begins as a bucket operation without a
    bucket, whose planning becomes that of the buckets that are found."""

    def chooses(self, bucket: Bucket) -> bool:
        """Whether the job is about ``bucket``."""


class BatchSize(Protocol):
    """The most objects that the next batch may have, at least one."""

    def __call__(self) -> int: ...
