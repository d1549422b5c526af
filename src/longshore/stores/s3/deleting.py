"""Deleting: a thousand names, or versions, by one request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from longshore import object_rules as rules
from longshore.errors import Code, Error, Internal
from longshore.store import ABSENT, Batch, Failure, Outcome
from longshore.stores.s3 import buckets, delete_objects, markup, reading, targets
from longshore.stores.s3.client import Call, Client, in_lanes
from longshore.stores.s3.failures import OVERLOAD, error_for, failure_of
from longshore.stores.s3.http import Reply
from longshore.stores.s3.versions import VERSION, Version

MAX_BODY_BYTES = 1_000_000
"""Ceph takes a mebibyte, AWS two."""
_ENTRY_BYTES = len("<Object><Key></Key><VersionId></VersionId></Object>")


class _Target(NamedTuple):
    """What is to be deleted, by its place in the batch; ``version_id`` "": whatever is live under
    the name."""

    place: int
    name: str
    version_id: str


async def delete(client: Client, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
    """Delete, as of ``Store.delete_objects``.

    What a batch says that it has seen is believed, since S3 has no condition that holds everywhere:
    without ``permanent`` whatever is live under the name by now goes.
    """
    failures: dict[int, Failure] = {}
    versions: Sequence[str]
    if VERSION in batch.columns:
        versions = batch.columns[VERSION]
    else:
        versions, failures = await _look(client, bucket, batch, permanent=permanent)
    versioned = permanent and await buckets.keeps_versions(client, bucket)
    chosen: list[_Target] = []
    seen: set[tuple[str, str]] = set()
    for index, (name, version) in enumerate(zip(batch.names, versions, strict=True)):
        if index in failures:
            continue
        version_id = (Version.load(version).version_id or "null") if versioned else ""
        if (name, version_id) in seen:
            failures[index] = rules.missing(f"{bucket}/{name}", live=False)
            continue
        seen.add((name, version_id))
        chosen.append(_Target(index, name, version_id))

    async def send(part: Sequence[_Target]) -> None:
        failures.update(await _send(client, bucket, part))

    await in_lanes(list(_parts(chosen)), send)
    return Outcome(failures=failures)


async def _look(
    client: Client, bucket: str, batch: Batch, *, permanent: bool
) -> tuple[Sequence[str], dict[int, Failure]]:
    """What addresses each (name, generation), and which are not there, or not as they should be."""
    now = await reading.there(client, bucket, batch.names, batch.generations, ("live",))
    live = now.columns["live"]
    gone = [
        index
        for index, (wanted, is_) in enumerate(zip(batch.generations, now.generations, strict=True))
        if ABSENT in (wanted, is_) or not (permanent or live[index])
    ]
    names = [batch.names[i] for i in gone]
    others = await reading.there(client, bucket, names, [ABSENT] * len(gone), ())
    return now.columns[VERSION], {
        index: rules.missing(f"{bucket}/{name}", live=other != ABSENT)
        for index, name, other in zip(gone, names, others.generations, strict=True)
    }


def _parts(chosen: Sequence[_Target]) -> Iterator[Sequence[_Target]]:
    """Requests: as many as one takes, and those alone whose names XML cannot have."""
    part: list[_Target] = []
    size = 0
    for target in chosen:
        if not markup.is_expressible(target.name):
            yield [target]
            continue
        taken = _ENTRY_BYTES + 6 * len(target.name) + len(target.version_id)
        if len(part) == delete_objects.MAX_OBJECTS or size + taken > MAX_BODY_BYTES:
            yield part
            part, size = [], 0
        part.append(target)
        size += taken
    if part:
        yield part


async def _send(client: Client, bucket: str, part: Sequence[_Target]) -> dict[int, Failure]:
    """Delete those of one request; the failures by index."""
    if not markup.is_expressible(part[0].name):
        return await _send_alone(client, bucket, part[0])
    names = [target.name for target in part]
    body = delete_objects.body(names, [target.version_id for target in part])
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = {"content-md5": digest, "content-type": "application/xml"}
    call = Call("DeleteObjects", "POST", bucket, query="delete", headers=headers, body=body)
    told: dict[int, Failure] = {}

    def judge(reply: Reply) -> Code | None:
        told.update(_told(reply, bucket, part))
        codes = {failure.code for failure in told.values()}
        return next((code for code in OVERLOAD if code in codes), None)

    try:
        await client.change(call, objects=len(part), judge=judge)
    except Error as error:
        return {target.place: failure_of(error) for target in part}
    return told


async def _send_alone(client: Client, bucket: str, target: _Target) -> dict[int, Failure]:
    query = targets.query({"versionId": target.version_id}) if target.version_id else ""
    try:
        await client.change(Call("DeleteObject", "DELETE", bucket, target.name, query))
    except Error as error:
        return {target.place: failure_of(error)}
    return {}


def _told(reply: Reply, bucket: str, part: Sequence[_Target]) -> dict[int, Failure]:
    """The failures that a reply tells of. Where it does not account for each, what it does not name
    may be done or not."""
    try:
        result = delete_objects.read_result(reply.body)
    except Internal:
        result = delete_objects.Result(names=(), version_ids=(), refused={})
    failures: dict[int, Failure] = {}
    for place, name, version_id in part:
        refusal = result.refused.get((name, version_id)) or result.refused.get((name, ""))
        if refusal is not None:
            error = error_for(refusal.code, refusal.message, "DeleteObjects", bucket, name)
            failures[place] = failure_of(error)
    if len(result.names) + len(failures) == len(part):
        return failures
    unknown = Failure(
        Code.UNAVAILABLE, f"The store's reply to DeleteObjects in '{bucket}' does not name it."
    )
    return {target.place: failures.get(target.place, unknown) for target in part}
