"""Buckets and their rules."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from longshore import object_rules as rules
from longshore.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unimplemented,
)
from longshore.patch import parse_time
from longshore.store import Bucket
from longshore.stores.s3 import markup, targets
from longshore.stores.s3.client import Call, Client, Traits
from longshore.stores.s3.features import Feature
from longshore.stores.s3.markup import Element

BELIEVED_SECONDS = 30.0
"""How long it is believed that a bucket keeps versions, or does not."""
_DAY_SECONDS = 86400
_LISTING = "ListBucketResult"
"""What a service answers to any question about a bucket that it does not know (rclone)."""
_YEAR_DAYS = 365


async def keeps_versions(client: Client, bucket: str) -> bool:
    """Whether the bucket has, or had, versions: then each object has an id that names it."""
    known = client.service.versioned.get(bucket)
    now = client.service.clock.monotonic()
    if known is None or known[1] < now:
        known = await _versioning(client, bucket) != "", now + BELIEVED_SECONDS
        client.service.versioned[bucket] = known
    return known[0]


async def traits_of(client: Client, bucket: str) -> Traits:
    """What decides how the bucket's objects are changed."""
    known, now = client.service.traits.get(bucket), client.service.clock.monotonic()
    if known is None or known[1] < now:
        lock = await _object_lock(client, bucket)
        traits = Traits(
            locks=lock.get("ObjectLockEnabled") == "Enabled",
            has_acls=await _has_acls(client, bucket),
        )
        known = client.service.traits[bucket] = traits, now + BELIEVED_SECONDS
    works = client.service.verdicts.works
    return replace(
        known[0],
        has_acls=known[0].has_acls and not client.service.verdicts.lacks(Feature.ACL_READ),
        clears_tags=not client.service.verdicts.lacks(Feature.UNTAGGING),
        takes_tags=works(Feature.TAGGING),
        keeps_tags=works(Feature.COPY_TAGS),
        takes_locks=works(Feature.COPY_LOCKS),
        copies_parts=works(Feature.PART_COPY),
        finds_parts=works(Feature.PART_COPY_NAMES),
    )


async def listed(client: Client) -> AsyncIterator[Bucket]:
    """Every bucket that the keys' owner has, by name."""
    found: dict[str, str] = {}
    query = ""
    while True:
        reply = await client.read(Call("ListBuckets", "GET", query=query))
        root = markup.read(reply.body, "ListAllMyBucketsResult")
        for one in root.first("Buckets").all("Bucket"):
            found[one.get("Name")] = one.get("CreationDate")
        if not (token := root.get("ContinuationToken")):
            break
        query = targets.query({"continuation-token": token})
    for name, created in sorted(found.items()):
        with contextlib.suppress(NotFound):  # deleted meanwhile
            created_us = parse_time(created) if created else 0
            yield replace(await get(client, name), create_time_us=created_us)


async def get(client: Client, bucket: str) -> Bucket:
    """The bucket's rules; when it was made, only the list of all buckets tells: it is 0."""
    if not bucket:
        raise rules.no_bucket(bucket)
    # First, since its refusal says why: that of HEAD has no body.
    versioning = await _versioning(client, bucket)
    head = await client.read(Call("HeadBucket", "HEAD", bucket))
    return Bucket(
        name=bucket,
        create_time_us=0,
        versioning=versioning == "Enabled",
        retention_period_seconds=await _retention_seconds(client, bucket),
        location=head.header("x-amz-bucket-region") or await _location(client, bucket),
    )


async def create(client: Client, bucket: Bucket, *, object_lock: bool = False) -> Bucket:
    """Make a bucket; with a retention, or ``object_lock``, its objects can be held and retained,
    for which it keeps versions."""
    rules.check_bucket(bucket)
    _lock_configuration(bucket.name, bucket.retention_period_seconds)  # raises before it is made
    _check_rules({name: getattr(bucket, name) for name in _UNKNOWN if getattr(bucket, name)})
    object_lock = object_lock or bucket.retention_period_seconds > 0
    headers = {"x-amz-bucket-object-lock-enabled": "true"} if object_lock else {}
    region = client.service.settings.region
    if bucket.location not in ("", region):
        raise Unimplemented(
            f"The bucket '{bucket.name}' would be in {region}, where its store is, not in"
            f" {bucket.location}."
        )
    if await _exists(client, bucket.name):  # where S3 would answer that all is well
        raise rules.bucket_exists(bucket.name)
    body = b""
    if region != "us-east-1":  # the one that is not to be named
        where = f"<LocationConstraint>{markup.escape(region)}</LocationConstraint>"
        body = _document("CreateBucketConfiguration", where)
    await client.change(Call("CreateBucket", "PUT", bucket.name, headers=headers, body=body))
    client.service.versioned.pop(bucket.name, None)
    changes: dict[str, Any] = {}
    if bucket.versioning and not object_lock:
        changes["versioning"] = True
    if bucket.retention_period_seconds:
        changes["retention_period_seconds"] = bucket.retention_period_seconds
    return await update(client, bucket.name, changes)


async def update(client: Client, bucket: str, changes: Mapping[str, Any]) -> Bucket:
    """Change rules. Raises Unimplemented for those that S3 has not."""
    rules.check_bucket_changes(changes)
    _check_rules(changes)
    if "versioning" in changes:
        status = "Enabled" if changes["versioning"] else "Suspended"
        body = _document("VersioningConfiguration", f"<Status>{status}</Status>")
        await _put(client, "PutBucketVersioning", bucket, "versioning", body)
        client.service.versioned.pop(bucket, None)
    if "retention_period_seconds" in changes:
        body = _lock_configuration(bucket, changes["retention_period_seconds"])
        await _put(client, "PutObjectLockConfiguration", bucket, "object-lock", body)
    return await get(client, bucket)


async def delete(client: Client, bucket: str) -> None:
    """Remove an empty bucket; raises FailedPrecondition if it is not."""
    await client.change(Call("DeleteBucket", "DELETE", bucket))
    client.service.versioned.pop(bucket, None)


_UNKNOWN = ("uniform_access", "default_event_based_hold", *rules.BUCKET_FACTS[1:])


def _check_rules(changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if name in _UNKNOWN and value:
            raise Unimplemented(f"Buckets of S3 have no {name}: leave it out.")


def _lock_configuration(bucket: str, seconds: int) -> bytes:
    days, rest = divmod(seconds, _DAY_SECONDS)
    if rest:
        raise InvalidArgument(
            f"The retention period of bucket '{bucket}' must be whole days: S3 knows no less."
        )
    rule = f"<Mode>GOVERNANCE</Mode><Days>{days}</Days>"
    rule = f"<Rule><DefaultRetention>{rule}</DefaultRetention></Rule>" if days else ""
    enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    return _document("ObjectLockConfiguration", f"{enabled}{rule}")


async def _exists(client: Client, bucket: str) -> bool:
    """Whether there is such a bucket of ours; of those of others, who makes one is told."""
    try:
        await _versioning(client, bucket)
    except (NotFound, PermissionDenied):
        return False
    return True


async def _versioning(client: Client, bucket: str) -> str:
    """What a bucket does with versions: "Enabled", "Suspended", or "" where it never had any."""
    try:
        reply = await client.read(Call("GetBucketVersioning", "GET", bucket, query="versioning"))
    except Unimplemented:
        return ""
    roots = ("VersioningConfiguration", "GetBucketVersioningResponse", _LISTING)  # moto, rclone
    return markup.read(reply.body, *roots).get("Status")


async def _object_lock(client: Client, bucket: str) -> Element:
    """The configuration of the bucket's Object Lock; an empty one where there is none."""
    call = Call("GetObjectLockConfiguration", "GET", bucket, query="object-lock")
    try:
        reply = await client.read(call)
    except (NotFound, Unimplemented, FailedPrecondition):
        return Element("ObjectLockConfiguration")
    return markup.read(reply.body, "ObjectLockConfiguration", _LISTING)


async def _retention_seconds(client: Client, bucket: str) -> int:
    """The default retention of new objects."""
    default = (await _object_lock(client, bucket)).first("Rule").first("DefaultRetention")
    days = int(default.get("Days") or 0) + _YEAR_DAYS * int(default.get("Years") or 0)
    return days * _DAY_SECONDS


async def _has_acls(client: Client, bucket: str) -> bool:
    """Whether objects have ACLs of their own, as far as the service says: not where they all belong
    to the bucket's owner, as they do in new buckets of AWS. Many services do not know the question,
    and answer with anything."""
    call = Call("GetBucketOwnershipControls", "GET", bucket, query="ownershipControls")
    try:
        reply = await client.read(call)
    except (NotFound, Unimplemented, FailedPrecondition, InvalidArgument, PermissionDenied):
        return True
    return b"<ObjectOwnership>BucketOwnerEnforced<" not in reply.body


async def _location(client: Client, bucket: str) -> str:
    try:
        reply = await client.read(Call("GetBucketLocation", "GET", bucket, query="location"))
    except Unimplemented:
        return ""
    return markup.read(reply.body, "LocationConstraint", _LISTING).text.strip()


async def _put(client: Client, verb: str, bucket: str, what: str, body: bytes) -> None:
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = {"content-md5": digest, "content-type": "application/xml"}
    await client.change(Call(verb, "PUT", bucket, query=what, headers=headers, body=body))


def _document(root: str, content: str) -> bytes:
    return f'<{root} xmlns="{markup.NAMESPACE}">{content}</{root}>'.encode()
