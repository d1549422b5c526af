"""Listing: pages of live objects, or of all versions, between two bounds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from longshore.errors import Internal
from longshore.store import PAGE_BYTES, Batch
from longshore.stores.gs import resources, targets
from longshore.stores.gs.client import Call, Client

MAX_RESULTS = 1000
_NUL = "\0"


class Range(NamedTuple):
    """Names that begin with ``prefix`` and lie after ``after`` (with ``after_generation``, also
    the older versions of that name) and before ``before``."""

    prefix: str = ""
    after: str = ""
    after_generation: int | None = None
    before: str | None = None


async def pages(
    client: Client,
    bucket: str,
    names: Range,
    *,
    versions: bool,
    columns: Sequence[str] | None,
    page_size: int,
) -> AsyncIterator[Batch]:
    """Pages as of ``Store.list_objects``."""
    if versions:
        columns = columns or ()  # whose generations count
    resources.check_columns(columns or ())
    held: Batch | None = None
    async for listed, last in _ranged(
        client, bucket, names, versions, columns, min(page_size, MAX_RESULTS)
    ):
        batch = held + listed if held is not None else listed
        ready = len(batch)
        if versions:
            batch = _newest_first(batch)
            if not last and ready:  # of the last name there may be more
                ready = bisect_left(batch.names, batch.names[-1])
        start = 0
        while start < ready:
            end = _cut(batch, start, min(ready, start + page_size))
            yield batch.pick(range(start, end)) if end - start < len(batch) else batch
            start = end
        held = batch.pick(range(start, len(batch))) if start < len(batch) else None


async def _ranged(
    client: Client,
    bucket: str,
    names: Range,
    versions: bool,
    columns: Sequence[str] | None,
    max_results: int,
) -> AsyncIterator[tuple[Batch, bool]]:
    """What lies in the range, reply by reply, and whether it is the last."""
    token: str | None = ""
    last_name = ""
    if names.before is not None and names.before <= max(names.after, names.prefix):
        return
    call = request(bucket, names, versions, columns, max_results)
    while token is not None:
        listed, token = await page(client, call, columns, token)
        if listed.names:
            _check_order(bucket, last_name, listed.names, versions)
            last_name = listed.names[-1]
        within = _within(listed, names)
        if within.names or token is None:
            yield within, token is None


def request(
    bucket: str,
    names: Range,
    versions: bool,
    columns: Sequence[str] | None,
    max_results: int = MAX_RESULTS,
) -> Call:
    """The call that lists what lies in the range; without ``columns`` it is only to be counted. It
    begins with ``after`` itself: the API has no other bound."""
    parameters: dict[str, str | int | bool] = {
        "maxResults": max_results,
        "fields": f"nextPageToken,items({resources.fields_of(columns)})",
        **resources.projection(columns or ()),
    }
    # U+0000 is refused in parameters. What comes before it is a wider bound.
    prefix, after = names.prefix.partition(_NUL)[0], names.after.partition(_NUL)[0]
    if prefix:
        parameters["prefix"] = prefix
    if after:
        parameters["startOffset"] = after
    if names.before is not None:
        before, nul, _ = names.before.partition(_NUL)
        parameters["endOffset"] = f"{before}\x01" if nul else before
    if versions:
        parameters["versions"] = True
    path, query = targets.objects_path(bucket), targets.query(parameters)
    return Call("objects.list", "GET", path, query, bucket=bucket)


async def page(
    client: Client, call: Call, columns: Sequence[str] | None, token: str = ""
) -> tuple[Batch, str | None]:
    """One reply to such a call, from ``token`` on, and where the next goes on (None: that was
    all)."""
    if token:
        at = targets.query({"pageToken": token})
        call = call._replace(parameters=f"{call.parameters}&{at}")
    found: Any = await client.read(call, lambda reply: resources.read(reply.body))
    listed = resources.batch_of(found.get("items") or [], columns)
    return listed, found.get("nextPageToken") or None


def _within(listed: Batch, names: Range) -> Batch:
    """What of a reply lies in the range: without what came before its begin, and, from emulators
    that do not know the bounds, after its end."""
    all_names = listed.names
    if not all_names:
        return listed
    before = names.before
    generation = names.after_generation
    bounded = all_names[0] > names.after and (before is None or all_names[-1] < before)
    if bounded and _NUL not in names.prefix:
        return listed
    kept = [
        index
        for index, name in enumerate(all_names)
        if (name > names.after or (_is_older(listed, index, names.after, generation)))
        and name.startswith(names.prefix)
        and (before is None or name < before)
    ]
    return listed.pick(kept)


def _is_older(listed: Batch, index: int, after: str, generation: int | None) -> bool:
    if generation is None or not after:
        return False
    return listed.names[index] == after and listed.generations[index] < generation


def _newest_first(batch: Batch) -> Batch:
    """The batch with the newest version of each name first; the API lists the oldest first."""
    names, generations = batch.names, batch.generations
    if len(set(names)) == len(names):
        return batch
    return batch.pick(sorted(range(len(batch)), key=lambda i: (names[i], -generations[i])))


def _cut(batch: Batch, start: int, end: int) -> int:
    """Where the page that begins at ``start`` ends, at ``end`` at the latest."""
    texts = [batch.names, *batch.columns.values()]
    texts = [column for column in texts if isinstance(column[0], str)]
    if sum(sum(map(len, column[start:end])) for column in texts) <= PAGE_BYTES:
        return end
    lengths = accumulate(sum(len(column[i]) for column in texts) for i in range(start, end))
    return start + max(1, bisect_right(list(lengths), PAGE_BYTES))


def _check_order(bucket: str, before: str, names: Sequence[str], versions: bool) -> None:
    """Raises Internal if a listing is not in order: what a shard has done is known by the last
    name that it has listed."""
    in_order = before <= names[0] if versions else before < names[0]
    if not in_order or list(names) != sorted(names):
        raise Internal(
            f"The store does not list bucket '{bucket}' in the order of names: longshore cannot"
            " work on it."
        )
