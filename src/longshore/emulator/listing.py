"""Pages of a listing, with prefixes where a delimiter makes directories of names.

docs: cloud.google.com/storage/docs/json_api/v1/objects/list. ``startOffset`` is included,
``endOffset`` is not; items and prefixes count together for ``maxResults``. Of the versions of a
name the oldest comes first here, while the store gives the newest first; the documentation promises
no order among them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from longshore.api.replies import Answer
from longshore.emulator import glob, object_resource
from longshore.emulator.refusals import invalid
from longshore.emulator.requests import INT64_MAX, Request
from longshore.emulator.verbs import Backend, of_json
from longshore.store import Batch

MAX_RESULTS = 1000
_LAST = "\U0010ffff"
_ALL_GENERATIONS = 1 << 62

PARAMETERS = frozenset(
    {
        "delimiter",
        "endOffset",
        "force",  # Node's client means itself, and sends it
        "includeFoldersAsPrefixes",  # there are none
        "includeTrailingDelimiter",
        "matchGlob",
        "maxResults",
        "pageToken",
        "prefix",
        "projection",
        "softDeleted",
        "startOffset",
        "versions",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a bucket is listed. ``versions``: there may be several objects of a name, since
    either noncurrent ones are wanted or those that are ``soft_deleted``. ``limit``: of items and
    prefixes together. ``position``: where the page before has ended, a name and its generation or
    a prefix and None."""

    prefix: str
    delimiter: str
    trailing: bool
    start: str
    end: str | None
    versions: bool
    soft_deleted: bool
    glob: re.Pattern[str] | None
    limit: int
    position: tuple[str, int | None] | None


@dataclass(slots=True)
class Page:
    """What a page has so far; ``last``: where it ends, see Wanted."""

    items: list[Batch] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: tuple[str, int | None] | None = None
    count: int = 0
    more: bool = False


async def list_objects(backend: Backend, request: Request) -> Answer:
    """``objects.list``."""
    bucket = await backend.store.get_bucket(request.path[3])
    wanted = _wanted(request)
    page = await _fill(backend, bucket.name, wanted)
    reply: dict[str, Any] = {"kind": "storage#objects"}
    if page.more and page.last is not None:
        reply["nextPageToken"] = _token(page.last)
    if page.prefixes:
        reply["prefixes"] = page.prefixes
    items = [
        resource
        for batch in page.items
        for resource in object_resource.resources(bucket, batch, request.base, full=request.full)
    ]
    if items:
        reply["items"] = items
    return of_json(request, reply)


def limit(request: Request) -> int:
    """``maxResults``: more than MAX_RESULTS are never given at once."""
    number = request.number("maxResults")
    if number == 0:
        raise invalid("Invalid value for parameter maxResults: it must be at least 1.")
    return min(number or MAX_RESULTS, MAX_RESULTS)


def _wanted(request: Request) -> Wanted:
    query = request.query
    versions, soft_deleted = request.flag("versions"), request.flag("softDeleted")
    if versions and soft_deleted:
        raise invalid("Cannot list with both versions and softDeleted.")
    return Wanted(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        trailing=request.flag("includeTrailingDelimiter"),
        start=query.get("startOffset", ""),
        end=query.get("endOffset") or None,
        versions=versions or soft_deleted,
        soft_deleted=soft_deleted,
        glob=glob.compiled(query["matchGlob"]) if query.get("matchGlob") else None,
        limit=limit(request),
        position=_position(query.get("pageToken", "")),
    )


async def _fill(backend: Backend, bucket: str, wanted: Wanted) -> Page:
    page = Page()
    after, inside = _begin(wanted)
    while True:
        jump = None
        pages = _pages(backend, bucket, wanted, after, inside)
        async for batch in _oldest_first(pages) if wanted.versions else pages:
            _take(page, batch, wanted)
            if page.more:
                return page
            jump = _directory(batch.names[-1], wanted)
            if jump:  # the rest of that directory need not be looked at
                break
        if not jump:
            return page
        after, inside = jump + _LAST, None


def _pages(
    backend: Backend, bucket: str, wanted: Wanted, after: str, inside: int | None
) -> AsyncIterator[Batch]:
    page_size = min(MAX_RESULTS, wanted.limit + 1)
    if wanted.soft_deleted:
        return backend.store.list_soft_deleted(
            bucket,
            prefix=wanted.prefix,
            after=after,
            after_generation=inside,
            before=wanted.end,
            columns=object_resource.SOFT_DELETED_COLUMNS,
            page_size=page_size,
        )
    return backend.store.list_objects(
        bucket,
        prefix=wanted.prefix,
        after=after,
        after_generation=inside,
        before=wanted.end,
        versions=wanted.versions,
        columns=object_resource.COLUMNS,
        page_size=page_size,
    )


async def _oldest_first(pages: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
    """The same objects, those of one name never in two batches."""
    held: Batch | None = None
    async for page in pages:
        batch = page if held is None else held + page
        cut = batch.names.index(batch.names[-1])  # that name may go on
        if cut:
            yield _turned(batch.pick(range(cut)))
        held = batch.pick(range(cut, len(batch)))
    if held is not None:
        yield _turned(held)


def _turned(batch: Batch) -> Batch:
    keys = list(zip(batch.names, batch.generations, strict=True))
    return batch.pick(sorted(range(len(batch)), key=keys.__getitem__))


def _begin(wanted: Wanted) -> tuple[str, int | None]:
    """After what to begin: the store's ``after`` is not listed, and ``startOffset`` is."""
    if wanted.position is not None:
        name, generation = wanted.position
        if generation is None:
            return name + _LAST, None
        return name, _ALL_GENERATIONS if wanted.versions else None
    start = wanted.start
    if start <= wanted.prefix:
        return "", None
    if wanted.versions:
        return start, _ALL_GENERATIONS
    # The names between this one and ``start`` are few, and left out in _take.
    last = ord(start[-1])
    return (start[:-1] + chr(last - 1) + _LAST if last else start[:-1]), None


def _take(page: Page, batch: Batch, wanted: Wanted) -> None:
    """Put what is wanted of ``batch`` on the page, until that is full."""
    chosen: list[int] = []
    name, generation = wanted.position or ("", 0)
    before = (name, generation or 0)
    for index, name in enumerate(batch.names):
        if name < wanted.start or (name, batch.generations[index]) <= before:
            continue
        directory = _directory(name, wanted)
        if wanted.glob is not None and not wanted.glob.fullmatch(directory or name):
            continue
        known = not directory or (bool(page.prefixes) and page.prefixes[-1] == directory)
        item = not directory or (wanted.trailing and name == directory)
        if (not known or item) and page.count >= wanted.limit:
            page.more = True
            break
        if not known:
            page.prefixes.append(directory)
            page.last = (directory, None)
            page.count += 1
        if item:
            chosen.append(index)
            page.last = (name, batch.generations[index])
            page.count += 1
    if chosen:
        page.items.append(batch.pick(chosen))


def _directory(name: str, wanted: Wanted) -> str:
    """The prefix that stands for ``name``; "" if it stands for itself."""
    if not wanted.delimiter:
        return ""
    at = name.find(wanted.delimiter, len(wanted.prefix))
    return "" if at < 0 else name[: at + len(wanted.delimiter)]


def _token(last: tuple[str, int | None]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(last)).decode()


def _position(token: str) -> tuple[str, int | None] | None:
    if not token:
        return None
    try:
        name, generation = orjson.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, binascii.Error, TypeError):
        raise invalid(f"Invalid value for parameter pageToken: {token[:50]!r}.") from None
    known = generation is None or (isinstance(generation, int) and 0 <= generation <= INT64_MAX)
    if not isinstance(name, str) or not known:
        raise invalid(f"Invalid value for parameter pageToken: {token[:50]!r}.")
    return name, generation
