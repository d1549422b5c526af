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


class _Part(NamedTuple):
    """What is to be deleted, as columns: places in the batch, names, and ids of versions, ""
    meaning whatever is live under the name."""

    places: Sequence[int]
    names: Sequence[str]
    version_ids: Sequence[str]

    def pick(self, indexes: Sequence[int]) -> _Part:
        return _Part(
            [self.places[i] for i in indexes],
            [self.names[i] for i in indexes],
            [self.version_ids[i] for i in indexes],
        )


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
    version_ids = [""] * len(batch)
    if permanent and await buckets.keeps_versions(client, bucket):
        version_ids = [Version.load(one).version_id or "null" if one else "" for one in versions]
    chosen = _choose(bucket, _Part(range(len(batch)), batch.names, version_ids), versions, failures)

    async def send(part: _Part) -> None:
        failures.update(await _send(client, bucket, part))

    await in_lanes(list(_parts(chosen)), send)
    return Outcome(failures=failures)


def _choose(
    bucket: str, whole: _Part, versions: Sequence[str], failures: dict[int, Failure]
) -> _Part:
    """Those that are there, each once; adds the others to ``failures``."""
    left = set(zip(whole.names, whole.version_ids, strict=True))
    if not failures and len(left) == len(whole.names) and all(versions):
        return whole
    chosen = []
    for place, name, version_id in zip(*whole, strict=True):
        if place in failures:
            continue
        if versions[place] and (name, version_id) in left:
            left.remove((name, version_id))
            chosen.append(place)
        else:
            failures[place] = rules.missing(f"{bucket}/{name}", live=False)
    return whole.pick(chosen)


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


def _parts(chosen: _Part) -> Iterator[_Part]:
    """Requests: as many as one takes, and those alone whose names XML cannot have."""
    if not chosen.names:
        return
    # All at once is a tenth of the CPU, and how it usually is.
    texts = 6 * sum(map(len, chosen.names)) + sum(map(len, chosen.version_ids))
    fits = texts + _ENTRY_BYTES * len(chosen.names) <= MAX_BODY_BYTES
    few = len(chosen.names) <= delete_objects.MAX_OBJECTS
    if fits and few and markup.is_expressible("".join(chosen.names)):
        yield chosen
        return
    part: list[int] = []
    size = 0
    for index, name in enumerate(chosen.names):
        if not markup.is_expressible(name):
            yield chosen.pick([index])
            continue
        taken = _ENTRY_BYTES + 6 * len(name) + len(chosen.version_ids[index])
        if len(part) == delete_objects.MAX_OBJECTS or size + taken > MAX_BODY_BYTES:
            yield chosen.pick(part)
            part, size = [], 0
        part.append(index)
        size += taken
    if part:
        yield chosen.pick(part)


async def _send(client: Client, bucket: str, part: _Part) -> dict[int, Failure]:
    """Delete those of one request; the failures by index."""
    if len(part.names) == 1 and not markup.is_expressible(part.names[0]):
        return await _send_alone(client, bucket, part)
    body = delete_objects.body(part.names, part.version_ids)
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = {"content-md5": digest, "content-type": "application/xml"}
    call = Call("DeleteObjects", "POST", bucket, query="delete", headers=headers, body=body)
    told: dict[int, Failure] = {}

    def judge(reply: Reply) -> Code | None:
        told.update(_told(reply, bucket, part))
        codes = {failure.code for failure in told.values()}
        return next((code for code in OVERLOAD if code in codes), None)

    try:
        await client.change(call, objects=len(part.names), judge=judge)
    except Error as error:
        return dict.fromkeys(part.places, failure_of(error))
    return told


async def _send_alone(client: Client, bucket: str, part: _Part) -> dict[int, Failure]:
    ((place, name, version_id),) = zip(*part, strict=True)
    query = targets.query({"versionId": version_id}) if version_id else ""
    try:
        await client.change(Call("DeleteObject", "DELETE", bucket, name, query))
    except Error as error:
        return {place: failure_of(error)}
    return {}


def _told(reply: Reply, bucket: str, part: _Part) -> dict[int, Failure]:
    """The failures that a reply tells of. Where it does not account for each, what it does not name
    may be done or not."""
    body = reply.body.rstrip()
    whole = body.endswith(b"</DeleteResult>") and b"<Error" not in body
    if whole and body.count(b"</Deleted>") == len(part.names):
        return {}
    try:
        result = delete_objects.read_result(reply.body)
    except Internal:
        result = delete_objects.Result(names=(), version_ids=(), refused={})
    failures: dict[int, Failure] = {}
    for place, name, version_id in zip(*part, strict=True):
        refusal = result.refused.get((name, version_id)) or result.refused.get((name, ""))
        if refusal is not None:
            error = error_for(refusal.code, refusal.message, "DeleteObjects", bucket, name)
            failures[place] = failure_of(error)
    if len(result.names) + len(failures) == len(part.names):
        return failures
    unknown = Failure(
        Code.UNAVAILABLE, f"The store's reply to DeleteObjects in '{bucket}' does not name it."
    )
    return {place: failures.get(place, unknown) for place in part.places}
