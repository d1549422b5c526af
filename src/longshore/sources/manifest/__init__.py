"""Objects by a CSV of their names, itself an object: ``manifest``."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from longshore.errors import DataLoss, InvalidArgument, NotFound, Violation
from longshore.names import is_bucket_name
from longshore.source import BatchSize, Cursor, Halves, Range, Selection
from longshore.sources.manifest.halving import boundary
from longshore.sources.manifest.rows import Reader, Rows
from longshore.store import ABSENT, COLUMNS, Batch, BucketStores, Failure

_LOCATION = re.compile(r"gs://([^/*]+)/((?:[^*]*/)?)([^/*]*\*?[^/*]*\.csv)")
_BLOCK_BYTES = 64 << 10
_WORTH_BYTES = 512 << 10
"""How much of a file, at least, must be left for a range to be halved."""


def from_message(message: Any) -> dict[str, Any]:
    """The bucket and the name of the manifest, in which one ``*`` may stand for any part of the
    file name; raises InvalidArgument with the reasons of the API's catalogue."""
    location = message.manifest_location
    if not location:
        text = "manifest_location is empty; it must be gs://BUCKET/[PATH/]NAME.csv."
        raise InvalidArgument(
            text,
            reason="MANIFEST_LOCATION_REQUIRED",
            violations=(Violation("manifest_location", text),),
        )
    match = _LOCATION.fullmatch(location)
    if match is None or not is_bucket_name(match[1]) or match[3] == ".csv":
        text = (
            f"{location!r} is no manifest_location; it must be gs://BUCKET/[PATH/]NAME.csv, with"
            " at most one '*', in the file's name."
        )
        raise InvalidArgument(
            text,
            reason="MANIFEST_LOCATION_INVALID",
            metadata={"manifest_location": location},
            violations=(Violation("manifest_location", text),),
        )
    return {"bucket": match[1], "name": match[2] + match[3]}


def open_source(data: Mapping[str, Any]) -> Manifest:
    """What the data asks for."""
    return Manifest(bucket=data["bucket"], name=data["name"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Rows ``bucket,name[,generation]`` of CSV files (RFC 4180, UTF-8) in any configured bucket.

    A range is a part of one file's bytes that begins and ends at a row, in the generation that was
    there when the job was planned, and has the number of its first line (None: to be counted when
    somebody needs it). A cursor is the offset and the line number of the next row.
    """

    bucket: str
    name: str

    counts_bytes = False
    repeats = True

    async def split(self, stores: BucketStores, bucket: str) -> list[Range]:
        """One range per file; raises NotFound if there is no such file or no such bucket."""
        await stores.for_bucket(bucket).get_bucket(bucket)
        ranges: list[Range] = [
            {
                "bucket": self.bucket,
                "name": name,
                "generation": generation,
                "start": 0,
                "end": size,
                "line": 1,
            }
            async for name, generation, size in self._files(stores)
        ]
        if not ranges:
            raise NotFound(f"There is no manifest at gs://{self.bucket}/{self.name}.")
        return ranges

    async def halve(
        self, stores: BucketStores, bucket: str, range_: Range, last: Selection, *, calls: int
    ) -> Halves:
        """Cut in the middle of the bytes that are left, where no quoted name can be cut in two."""
        offset, end = last.cursor["offset"], range_["end"]
        if end - offset < _WORTH_BYTES:
            return Halves(range_, None, 0)
        middle = (offset + end) // 2
        cut = await boundary(_blocks(stores, range_, middle), middle)
        if cut is None or not offset < cut < end:
            return Halves(range_, None, 1)
        return Halves({**range_, "end": cut}, {**range_, "start": cut, "line": None}, 1)

    async def _files(self, stores: BucketStores) -> AsyncIterator[tuple[str, int, int]]:
        """Name, generation and size of each file that the location matches."""
        head, star, tail = self.name.partition("*")
        pattern = re.compile(re.escape(head) + "[^/]*" * len(star) + re.escape(tail))
        async for page in stores.for_bucket(self.bucket).list_objects(self.bucket, prefix=head):
            for file in zip(page.names, page.generations, page.sizes, strict=True):
                if pattern.fullmatch(file[0]):
                    yield file

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
        """A selection is what the next rows name. A row that cannot be read is refused; a row
        without a generation means the live version, whatever ``versions`` says.

        Raises NotFound or DataLoss if the planned generation of the file cannot be read any more.
        """
        store = stores.for_bucket(bucket)
        wanted = tuple(dict.fromkeys((*(columns or ()), "live")))
        cursor = cursor or {"offset": range_["start"], "line": range_["line"] or 1}
        file = f"gs://{range_['bucket']}/{range_['name']}"
        lines_before = 0
        blocks = _blocks(stores, range_, cursor["offset"])
        async with aclosing(blocks):
            reader = Reader(blocks, offset=cursor["offset"], line=cursor["line"])
            while not await reader.at_end():
                rows = await reader.take(Rows(bucket=bucket, file=file), size())
                if rows.problems and range_["line"] is None:
                    lines_before = lines_before or await _lines_before(stores, range_)
                    rows.lines_before = lines_before
                names, generations = rows.names, rows.generations
                batch = await store.read_objects(bucket, names, generations, columns=wanted)
                pinned = [generation != ABSENT for generation in generations]
                refused = rows.refused
                yield Selection(
                    batch=_with_refused(batch, refused),
                    cursor={"offset": reader.offset, "line": reader.line},
                    pinned=pinned + [False] * len(refused) if any(pinned) else None,
                    refused=dict(enumerate(refused.values(), len(batch))),
                )


async def _blocks(stores: BucketStores, range_: Range, offset: int) -> AsyncGenerator[bytes, None]:
    """The bytes of the range from ``offset`` on, in blocks small enough to be cut into lines."""
    bucket, name, generation = range_["bucket"], range_["name"], range_["generation"]
    left = range_["end"] - offset
    if not left:
        return
    content = stores.for_bucket(bucket).read_bytes(bucket, name, generation, start=offset)
    try:
        async with aclosing(cast("AsyncGenerator[bytes, None]", content)) as pieces:
            async for piece in pieces:
                for start in range(0, min(len(piece), left), _BLOCK_BYTES):
                    yield piece[start : min(start + _BLOCK_BYTES, left)]
                left -= len(piece)
                if left <= 0:
                    return
    except NotFound as error:
        raise NotFound(
            f"The manifest gs://{bucket}/{name} was replaced or deleted while the job was reading"
            f" it (generation {generation}); start a new job for the rows that are left."
        ) from error
    raise DataLoss(
        f"The manifest gs://{bucket}/{name} (generation {generation}) ends {left} bytes before"
        f" byte {range_['end']}, where it ended when the job was planned."
    )


async def _lines_before(stores: BucketStores, range_: Range) -> int:
    """How many lines of the file lie before the range; reads all of them, for the rare error."""
    blocks = _blocks(stores, {**range_, "end": range_["start"]}, 0)
    async with aclosing(blocks):
        return sum([block.count(b"\n") async for block in blocks])


def _with_refused(batch: Batch, refused: Mapping[str, Failure]) -> Batch:
    """``batch`` and, behind its objects, an entry for each row that was refused."""
    if not refused:
        return batch
    count = len(refused)
    return batch + Batch(
        names=list(refused),
        generations=[ABSENT] * count,
        metagenerations=[0] * count,
        sizes=[0] * count,
        columns={name: [COLUMNS.get(name, str)()] * count for name in batch.columns},
    )
