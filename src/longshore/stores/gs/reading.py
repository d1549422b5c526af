"""Reading what is there: objects by name, and contents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from longshore import object_rules as rules
from longshore.errors import Aborted, Code, InvalidArgument, NotFound, OutOfRange
from longshore.store import ABSENT, Batch, Failure
from longshore.stores.gs import listing, resources, targets
from longshore.stores.gs.batching import Calls, read_each
from longshore.stores.gs.client import Call, Client
from longshore.stores.gs.listing import Range
from longshore.stores.gs.resources import Resource

PIECE_BYTES = 1 << 20
_RANGE_BYTES = 4 << 20
_ELSE = (Code.NOT_FOUND, Code.ABORTED)


async def there(
    client: Client,
    bucket: str,
    names: Sequence[str],
    generations: Sequence[int],
    columns: Sequence[str],
) -> Batch:
    """What is there, as of ``Store.read_objects``."""
    resources.check_columns(columns)
    fields, projection = resources.fields_of(columns), resources.projection(columns)
    parameters = {"fields": fields, **projection}
    found = await resources_of(client, bucket, names, generations, parameters)
    return resources.found_or_not(names, found, columns)


async def resources_of(
    client: Client,
    bucket: str,
    names: Sequence[str],
    generations: Sequence[int],
    parameters: Mapping[str, str],
) -> list[Resource | None]:
    """The objects as the API has them; None where there is none."""
    asked = [index for index, name in enumerate(names) if targets.is_possible(name)]
    asked_names = [names[index] for index in asked]
    common = targets.query(parameters)
    each = [f"{_of(generations[index])}{common}" for index in asked]
    calls = Calls.about("objects.get", "GET", bucket, asked_names, each)
    bodies = await read_each(client, calls)
    if None in bodies or len(asked) < len(names):
        await demand_bucket(client, bucket)
    found: list[Resource | None] = [None] * len(names)
    for index, body in zip(asked, bodies, strict=True):
        found[index] = None if body is None else resources.read(body)
    return found


def askable(bucket: str, batch: Batch) -> tuple[Sequence[int], dict[int, Failure]]:
    """The places of those objects that can be asked for, and the failures of the others."""
    if batch.names and ABSENT not in batch.generations and targets.are_plain(batch.names):
        return range(len(batch)), {}
    asked = []
    failures = {}
    for index, (name, generation) in enumerate(zip(batch.names, batch.generations, strict=True)):
        if generation != ABSENT and targets.is_possible(name):
            asked.append(index)
        else:
            failures[index] = rules.missing(f"{bucket}/{name}", live=False)
    return asked, failures


async def demand_bucket(client: Client, bucket: str) -> None:
    """Raises NotFound if there is no such bucket: what is answered to calls about objects does not
    tell it from a bucket without them."""
    await listing.page(client, listing.request(bucket, Range(), False, (), 1), ())


def _of(generation: int) -> str:
    return "" if generation == ABSENT else f"generation={generation}&"


async def explain(
    client: Client, bucket: str, batch: Batch, failures: Mapping[int, Failure]
) -> dict[int, Failure]:
    """The failures, in which it is told what is there instead of what is gone, or is not as it was
    named: the API answers 404 or 412 by what was asked, and not by that.

    Raises NotFound if there is no such bucket.
    """
    told = dict(failures)
    places = sorted(place for place, failure in failures.items() if failure.code in _ELSE)
    if not places:
        return told
    # A version that the batch says is noncurrent is looked for itself, before its name.
    live = batch.columns.get("live")
    noncurrent = [place for place in places if live is not None and not live[place]]
    if noncurrent:
        found = await _generations(client, bucket, batch, noncurrent, batch.generations)
        for place, generation in zip(noncurrent, found, strict=True):
            if generation != ABSENT:
                told[place] = rules.moved(f"{bucket}/{batch.names[place]}")
                places.remove(place)
    found = await _generations(client, bucket, batch, places, [ABSENT] * len(batch))
    for place, generation in zip(places, found, strict=True):
        path, named = f"{bucket}/{batch.names[place]}", batch.generations[place]
        same = generation != ABSENT and generation == named
        told[place] = rules.moved(path) if same else rules.missing(path, live=generation != ABSENT)
    return told


async def _generations(
    client: Client, bucket: str, batch: Batch, places: Sequence[int], named: Sequence[int]
) -> list[int]:
    names, generations = [batch.names[i] for i in places], [named[i] for i in places]
    return (await there(client, bucket, names, generations, ())).generations


async def content(
    client: Client, bucket: str, name: str, generation: int, start: int
) -> AsyncIterator[bytes]:
    """The content of one version from byte ``start`` on, in pieces of at most 1 MiB."""
    if start < 0:
        raise InvalidArgument(f"Cannot read from byte {start} on: it must not be negative.")
    if generation == ABSENT or not targets.is_possible(name):
        # All of it is to be of one version.
        found = await there(client, bucket, [name], [ABSENT], ())
        generation = found.generations[0]
        if generation == ABSENT:
            raise NotFound(f"No such object: {bucket}/{name}")
    size: int | None = None
    while size is None or start < size:
        call = Call(
            "objects.get",
            "GET",
            f"{targets.objects_path(bucket)}/{targets.quoted(name)}",
            targets.query({"alt": "media", "generation": generation}),
            bucket=bucket,
            name=name,
            headers=(
                ("range", f"bytes={start}-{start + _RANGE_BYTES - 1}"),
                ("accept-encoding", "gzip"),  # else an object that is gzip is unpacked on its way
            ),
        )
        try:
            reply = await client.read(call, lambda reply: reply)
        except OutOfRange:
            return
        except NotFound as error:
            if size is None:
                raise
            raise Aborted(f"Object '{bucket}/{name}' was replaced while it was read.") from error
        body = reply.body
        if reply.status == 200:  # a server without ranges
            body, size = body[start:], len(body)
        else:
            size = int(reply.header("content-range").rpartition("/")[2])
        for at in range(0, len(body), PIECE_BYTES):
            yield body[at : at + PIECE_BYTES]
        start += len(body)
