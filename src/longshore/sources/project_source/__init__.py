"""Objects of all buckets that a project may use, by filters in CEL: ``projectSource``.

The engine finds the buckets when it plans the job, and the objects when it lists them: there is no
snapshot. docs/project-source.md has the language.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from longshore import extensions
from longshore.errors import InvalidArgument, Violation, refuse
from longshore.source import BatchSize, Cursor, Halves, Range, Selection, Source
from longshore.sources.project_source.fields import BUCKET_FIELDS, OBJECT_FIELDS, Fields
from longshore.sources.project_source.predicate import Predicate, prefixes
from longshore.store import COLUMNS, PAGE_SIZE, Batch, Bucket, BucketStores


def from_message(message: Any) -> dict[str, Any]:
    """The checked filters and the prefixes that follow from them; raises InvalidArgument.

    ``project`` is for the API to check, and ``dry_run_job_id``, which this server does not have.
    """
    violations: list[Violation] = []
    locations = message.target_locations
    if locations.HasField("snapshot_time"):
        text = (
            "target_locations.snapshot_time is not supported: objects are chosen as they are when"
            " the job lists them, and there are no snapshots."
        )
        field = "target_locations.snapshot_time"
        raise InvalidArgument(
            text, reason="SNAPSHOT_TIME_UNSUPPORTED", violations=(Violation(field, text),)
        )
    if message.HasField("target_locations") and not locations.locations:
        text = "target_locations must name at least one of its locations."
        violations.append(Violation("target_locations.locations", text))
    buckets = _filter(message, "bucket_filters", BUCKET_FIELDS, violations)
    objects = _filter(message, "object_filters", OBJECT_FIELDS, violations)
    refuse(violations, reason="PROJECT_SOURCE_INVALID")
    listing = extensions.load("sources", "prefix_list")
    return {
        "locations": sorted({one.lower() for one in locations.locations}),
        "buckets": buckets,
        "objects": objects,
        "prefixes": listing.covering(prefixes(objects)),
    }


def _filter(message: Any, name: str, fields: Fields, violations: list[Violation]) -> Any:
    """The tree of one of the filters; one that is not there, or empty, lets everything through."""
    expression = getattr(message, name).expression
    if not expression:
        return ["const", True]
    # Only who checks needs the checker, which is large.
    from longshore.sources.project_source import checker

    try:
        return checker.check(expression, fields)
    except InvalidArgument as error:
        path = f"{name}.expression"
        violations += (Violation(path, f"{name}: {one}") for _, one in error.violations)
        return ["const", False]


def open_source(data: Mapping[str, Any]) -> ProjectSource:
    """What the data asks for."""
    listing = extensions.load("sources", "prefix_list")
    return ProjectSource(
        locations=frozenset(data["locations"]),
        bucket_filter=Predicate(data["buckets"], BUCKET_FIELDS),
        object_filter=Predicate(data["objects"], OBJECT_FIELDS),
        listing=listing.open_source({"prefixes": data["prefixes"]}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSource:
    """The live objects, of a listing by prefix, that a filter lets through. Ranges and cursors are
    those of the listing."""

    locations: frozenset[str]
    """In lower case; with none a bucket may be anywhere."""
    bucket_filter: Predicate
    object_filter: Predicate
    listing: Source

    counts_bytes = False
    repeats = False

    def chooses(self, bucket: Bucket) -> bool:
        """Whether the bucket is in one of the locations, and the filter lets it through."""
        if self.locations and bucket.location.lower() not in self.locations:
            return False
        columns = {name: [getattr(bucket, name)] for name in self.bucket_filter.columns}
        return bool(self.bucket_filter(columns, 1))

    async def split(self, stores: BucketStores, bucket: str) -> list[Range]:
        """The ranges of the listing; raises NotFound if the bucket does not exist."""
        return await self.listing.split(stores, bucket)

    async def halve(
        self, stores: BucketStores, bucket: str, range_: Range, last: Selection, *, calls: int
    ) -> Halves:
        """As the listing would, by what it has seen."""
        return await self.listing.halve(stores, bucket, range_, last, calls=calls)

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
        """What is chosen of each page of the listing, in one selection or, where a batch must be
        smaller, in several; an empty one where nothing is. Noncurrent versions are never chosen.

        A page is a page, however small batches are: looking for few objects among many takes no
        more calls for that.
        """
        wanted = tuple(dict.fromkeys((*(columns or ()), "live")))
        asked = (name for name in self.object_filter.columns if name in COLUMNS)
        pages = self.listing.read(
            stores,
            bucket,
            range_,
            cursor,
            columns=tuple(dict.fromkeys((*wanted, *asked))),
            versions=False,
            size=lambda: PAGE_SIZE,
        )
        async with aclosing(pages) as selections:
            async for page in selections:
                batch = page.batch
                chosen = self.object_filter(
                    {"name": batch.names, "size": batch.sizes, **batch.columns}, len(batch)
                )
                batch = replace(batch, columns={name: batch.columns[name] for name in wanted})
                done = 0
                while True:
                    some = chosen[done : done + size()]
                    done += len(some)
                    if done == len(chosen):
                        picked = batch if len(some) == len(batch) else batch.pick(some)
                        yield Selection(batch=picked, cursor=page.cursor, seen=batch.names)
                        break
                    yield _part(batch, some)


def _part(batch: Batch, chosen: list[int]) -> Selection:
    """Some objects of a page, with more of them to come."""
    last = chosen[-1]
    cursor = {"after": batch.names[last], "generation": None}
    return Selection(batch=batch.pick(chosen), cursor=cursor, seen=batch.names[: last + 1])
