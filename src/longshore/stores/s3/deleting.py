"""Deleting: a thousand names, or versions, by one request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from longshore import object_rules as rules
from longshore.errors import Code, Error, Internal
from longshore.store import ABSENT, Batch, Failure, Outcome
from longshore.stores.s3 import buckets, delete_objects, heads, markup, reading, targets
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.failures import OVERLOAD, error_for, failure_of
from longshore.stores.s3.features import Feature
from longshore.stores.s3.versions import VERSION
from longshore.transport.http import Reply

MAX_BODY_BYTES = 1_000_000
"""Ceph takes a mebibyte, AWS two."""
_ENTRY_BYTES = len('<Object><Key></Key><VersionId></VersionId><ETag>""</ETag></Object>')


class _Part(NamedTuple):
    """What is to be deleted, as columns: places in the batch, names, ids of versions, "" meaning
    whatever is live under the name, and the ETags that it must have, without quotes, "" meaning
    any."""

    places: Sequence[int]
    names: Sequence[str]
    version_ids: Sequence[str]
    etags: Sequence[str]

    def pick(self, indexes: Sequence[int]) -> _Part:
        return _Part(
            [self.places[i] for i in indexes],
            [self.names[i] for i in indexes],
            [self.version_ids[i] for i in indexes],
            [self.etags[i] for i in indexes],
        )


async def delete(client: Client, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
    """Delete, as of ``Store.delete_objects``.

    What a batch says that it has seen is believed. What has no id of its own, or is to be kept as a
    noncurrent version, goes whatever it is by now, unless the service was seen to obey conditions.
    """
    failures: dict[int, Failure] = {}
    versions: Sequence[Any]  # each as of Version.dump, or nothing
    if VERSION in batch.columns:
        versions = batch.columns[VERSION]
    else:
        versions, failures = await _look(client, bucket, batch, permanent=permanent)
    version_ids = etags = [""] * len(batch)
    if permanent and await buckets.keeps_versions(client, bucket):
        version_ids = [one[0] or "null" if one else "" for one in versions]
    elif client.service.verdicts.works(Feature.DELETE_ETAG):
        etags = [one[1] if one else "" for one in versions]
    whole = _Part(range(len(batch)), batch.names, version_ids, etags)
    chosen = _choose(bucket, whole, versions, failures)

    async def send(part: _Part) -> None:
        failures.update(await _send(client, bucket, part))

    await client.in_lanes(list(_parts(chosen)), send)
    await _explain(client, bucket, batch.names, version_ids, failures)
    return Outcome(failures=failures)


def _choose(
    bucket: str, whole: _Part, versions: Sequence[Any], failures: dict[int, Failure]
) -> _Part:
    """Those that are there, each once; adds the others to ``failures``."""
    if not failures and len(set(whole.names)) == len(whole.names) and all(versions):
        return whole
    left = set(zip(whole.names, whole.version_ids, strict=True))
    chosen = []
    for place, name, version_id in zip(*whole[:3], strict=True):
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
) -> tuple[Sequence[Any], dict[int, Failure]]:
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
    names = "".join(chosen.names)
    texts = 6 * len(names) + len("".join(chosen.version_ids)) + len("".join(chosen.etags))
    fits = texts + _ENTRY_BYTES * len(chosen.names) <= MAX_BODY_BYTES
    few = len(chosen.names) <= delete_objects.MAX_OBJECTS
    if fits and few and markup.is_expressible(names):
        yield chosen
        return
    part: list[int] = []
    size = 0
    for index, name in enumerate(chosen.names):
        if not markup.is_expressible(name):
            yield chosen.pick([index])
            continue
        taken = _ENTRY_BYTES + 6 * len(name)
        taken += len(chosen.version_ids[index]) + len(chosen.etags[index])
        if len(part) == delete_objects.MAX_OBJECTS or size + taken > MAX_BODY_BYTES:
            yield chosen.pick(part)
            part, size = [], 0
        part.append(index)
        size += taken
    if part:
        yield chosen.pick(part)


async def _explain(
    client: Client,
    bucket: str,
    names: Sequence[str],
    version_ids: Sequence[str],
    failures: dict[int, Failure],
) -> None:
    """Say of each version whose deletion is not allowed which hold or retention forbids it: S3 says
    only that it is forbidden, as it does where the keys may not delete."""
    refused = [
        place
        for place, failure in failures.items()
        if failure.code is Code.PERMISSION_DENIED and version_ids[place]
    ]
    if not refused or not (await buckets.traits_of(client, bucket)).locks:
        return
    now_us = client.service.clock.now_us()

    async def look(place: int) -> None:
        try:
            head = await heads.find(client, bucket, names[place], version_ids[place])
        except Error:
            return  # what the service said has to do
        if head is not None:
            has = head.columns({})
            guard = rules.Guard(has["temporary_hold"], False, has["retention"], 0)
            reason = rules.refuse_removal(f"{bucket}/{names[place]}", guard, 0, now_us)
            failures[place] = reason or failures[place]

    await client.in_lanes(refused, look)


async def _send(client: Client, bucket: str, part: _Part) -> dict[int, Failure]:
    """Delete those of one request; the failures by index."""
    if len(part.names) == 1 and not markup.is_expressible(part.names[0]):
        return await _send_alone(client, bucket, part)
    quiet = client.service.verdicts.works(Feature.DELETE_QUIET)
    body = delete_objects.body(part.names, part.version_ids, etags=part.etags, quiet=quiet)
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = {"content-md5": digest, "content-type": "application/xml"}
    call = Call("DeleteObjects", "POST", bucket, query="delete", headers=headers, body=body)
    told: dict[int, Failure] = {}

    def judge(reply: Reply) -> Code | None:
        told.update(_told(reply, bucket, part, quiet=quiet))
        codes = {failure.code for failure in told.values()}
        return next((code for code in OVERLOAD if code in codes), None)

    try:
        await client.change(call, objects=len(part.names), judge=judge)
    except Error as error:
        return dict.fromkeys(part.places, failure_of(error))
    return told


async def _send_alone(client: Client, bucket: str, part: _Part) -> dict[int, Failure]:
    ((place, name, version_id, etag),) = zip(*part, strict=True)
    query = targets.query({"versionId": version_id}) if version_id else ""
    headers = {}
    if etag and client.service.verdicts.works(Feature.DELETE_IF_MATCH):
        headers["if-match"] = f'"{etag}"'
    try:
        await client.change(Call("DeleteObject", "DELETE", bucket, name, query, headers))
    except Error as error:
        return {place: failure_of(error)}
    return {}


def _told(reply: Reply, bucket: str, part: _Part, *, quiet: bool) -> dict[int, Failure]:
    """The failures that a reply tells of. Unless it is ``quiet``, what it does not name may be done
    or not."""
    body = reply.body.rstrip()
    whole = body.endswith(b"</DeleteResult>") and b"<Error" not in body
    if whole and (quiet or body.count(b"</Deleted>") == len(part.names)):
        return {}
    try:
        result = delete_objects.read_result(reply.body)
    except Internal:
        quiet, result = False, delete_objects.Result(names=(), version_ids=(), refused={})
    failures: dict[int, Failure] = {}
    done = set(zip(result.names, result.version_ids, strict=True))
    for place, name, version_id in zip(*part[:3], strict=True):
        refusal = result.refused.get((name, version_id))
        if refusal is None and (name, version_id) not in done:
            refusal = result.refused.get((name, ""))  # moto does not say of which version
        if refusal is not None:
            error = error_for(refusal.code, refusal.message, "DeleteObjects", bucket, name)
            failures[place] = failure_of(error)
    if quiet or len(result.names) + len(failures) == len(part.names):
        return failures
    unknown = Failure(
        Code.UNAVAILABLE, f"The store's reply to DeleteObjects in '{bucket}' does not name it."
    )
    return {place: failures.get(place, unknown) for place in part.places}
