"""Reading what is there: of many names by listing, of few by HEAD; and contents."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from longshore.errors import Aborted, InvalidArgument, NotFound, OutOfRange
from longshore.store import ABSENT, Batch
from longshore.stores.s3 import buckets, heads, listing, targets
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.pages import Entries
from longshore.stores.s3.versions import VERSION, Rows, Version, check_columns, is_same

DENSE = 32
"""How many of the wanted objects a page of a listing must have, so as to be cheaper than HEADs."""
_HOP = 8 * DENSE
PIECE_BYTES = 1 << 20
_RANGE_BYTES = 4 << 20


async def there(
    client: Client,
    bucket: str,
    names: Sequence[str],
    generations: Sequence[int],
    columns: Sequence[str],
) -> Batch:
    """What is there, as of ``Store.read_objects``."""
    check_columns(columns)
    versioned = await buckets.keeps_versions(client, bucket)
    search = _Search(client, bucket, Rows(names, columns), generations, versioned)
    await search.run()
    return search.rows.batch()


async def addressed(client: Client, bucket: str, batch: Batch) -> Batch:
    """The batch with what addresses each of its versions, () for those that are not there, or are
    noncurrent though the batch does not say so."""
    if VERSION in batch.columns:
        return batch
    found = await there(client, bucket, batch.names, batch.generations, ("live",))
    meant = batch.columns.get("live", [True] * len(batch))
    rows = zip(found.columns[VERSION], found.columns["live"], meant, strict=True)
    addresses = [version if is_live or not live else () for version, is_live, live in rows]
    return replace(batch, columns={**batch.columns, VERSION: addresses})


class _Search:
    """Looks for objects of a bucket, each by its name and, unless ABSENT, its generation."""

    def __init__(
        self,
        client: Client,
        bucket: str,
        rows: Rows,
        generations: Sequence[int],
        versioned: bool,
    ) -> None:
        self.rows = rows
        self._client = client
        self._bucket = bucket
        self._versioned = versioned
        self._with_heads = heads.needs_head(rows.columns)
        self._wanted = list(generations)
        self._headed: set[int] = set()
        self._places: dict[str, list[int]] = {}
        for index, name in enumerate(rows.names):
            if heads.is_possible(name) and not name.startswith(listing.HIDDEN):
                self._places.setdefault(name, []).append(index)

    async def run(self) -> None:
        """Fill the rows of what is found."""
        names = sorted(self._places)
        if not self._with_heads:
            names = await self._scan(names)
        await self._client.in_lanes(names, self._look)
        await heads.fill(self._client, self._bucket, self.rows, self._headed)

    async def _scan(self, names: list[str]) -> list[str]:
        """Find what pages of a listing have many of; gives the names to be looked up singly."""
        single: list[str] = []
        at: Mapping[str, str] | None = None
        start = 0
        while len(names) - start >= DENSE:
            if at is None:
                at = listing.start_after(_just_before(names[start]), self._versioned)
            page = await listing.page(self._client, self._bucket, self._versioned, "", at)
            self._take(page.entries)
            if page.following is None:
                return single
            through = bisect_left(names, page.entries.names[-1], start)
            if through - start < DENSE:
                single += names[start : start + _HOP]
                start, at = start + _HOP, None
            else:
                start, at = through, page.following
        return single + names[start:]

    def _take(self, entries: Entries) -> None:
        """Fill the rows of what is among ``entries``."""
        listed: Rows | None = None
        for at, name in enumerate(entries.names):
            for index in self._places.get(name, ()):
                listed = listed or Rows.listed(entries, tuple(self.rows.columns))
                wanted, generation = self._wanted[index], listed.generations[at]
                if index in self._headed:
                    continue
                if is_same(wanted, entries.version_ids[at], generation) or (
                    wanted == ABSENT and entries.latest[at]
                ):
                    columns = {name: column[at] for name, column in listed.columns.items()}
                    known = listed.sizes[at], listed.versions[at]
                    self.rows.put(index, wanted or generation, *known, **columns)

    async def _look(self, name: str) -> None:
        """Find what is wanted of one name: the live version, or else another."""
        if not (self._versioned or self._with_heads):
            # The name itself comes first, and its generation is that which listings know.
            found = await listing.page(self._client, self._bucket, False, name, {}, 1)
            self._take(found.entries)
            return
        head = await heads.find(self._client, self._bucket, name)
        others = False
        if head is not None and not self._with_heads and not head.version.has_id:
            head, others = None, True
        for index in self._places[name]:
            wanted = self._wanted[index]
            if head is not None and (
                wanted == ABSENT or is_same(wanted, head.version.version_id, head.generation)
            ):
                heads.put(self._client, self.rows, index, head, live=True)
                self.rows.generations[index] = wanted or head.generation
                self._headed.add(index)
            elif wanted != ABSENT:
                others = True
        if others and self._versioned:
            self._take(await listing.of_name(self._client, self._bucket, name))


async def content(
    client: Client, bucket: str, name: str, generation: int, start: int
) -> AsyncIterator[bytes]:
    """The content of one version from byte ``start`` on."""
    if start < 0:
        raise InvalidArgument(f"Cannot read from byte {start} on: it must not be negative.")
    missing = NotFound(f"No such object: {bucket}/{name}")
    version = Version("", "", 0)
    if generation != ABSENT:
        found = await there(client, bucket, [name], [generation], ())
        if found.generations == [ABSENT]:
            raise missing
        version = Version.load(found.columns[VERSION][0])
    elif not heads.is_possible(name):
        raise missing
    size: int | None = None
    while size is None or start < size:
        headers = {"range": f"bytes={start}-{start + _RANGE_BYTES - 1}"}
        if version.etag:
            headers["if-match"] = f'"{version.etag}"'
        call = Call("GetObject", "GET", bucket, name, targets.query(version.query), headers)
        try:
            reply = await client.read(call)
        except OutOfRange:
            return
        except Aborted as error:
            raise Aborted(f"Object '{bucket}/{name}' was replaced while it was read.") from error
        body = reply.body
        if reply.status == 200:  # a server without ranges
            body, size = body[start:], len(body)
        else:
            size = int(reply.header("content-range").rpartition("/")[2])
        for at in range(0, len(body), PIECE_BYTES):
            yield body[at : at + PIECE_BYTES]
        start += len(body)
        version = Version(
            version.version_id or reply.header("x-amz-version-id"),
            reply.header("etag").strip('"'),
            0,
        )


def _just_before(name: str) -> str:
    """A text before ``name``, with as few names between the two as possible."""
    rest, last = name[:-1], ord(name[-1])
    if last <= 1:
        return rest
    previous = chr(0xD7FF if last == 0xE000 else last - 1)
    near = f"{rest}{previous}\U0010ffff"
    return near if heads.is_possible(near) else f"{rest}{previous}"
