"""Bodies of requests and replies about many objects or about buckets; pages of listings are in
``pages``, what hangs on one object is elsewhere too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from longshore.stores.s3 import markup
from longshore.stores.s3.markup import NAMESPACE, escape

MAX_DELETED_AT_ONCE = 1000
_NOTHING_REFUSED = re.compile(
    rb"\s*(?:<\?xml[^<>]*\?>)?\s*<DeleteResult(?:\s[^<>]*)?(?:/>|>\s*</DeleteResult>)\s*"
)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Refusal(NamedTuple):
    """Why a store did not delete an object, in its own words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A reply to DeleteObjects: what was ``refused`` by name and version id ("" where none was
    named), and of how many it says that they were deleted, which a quiet one says of none."""

    refused: Mapping[tuple[str, str], Refusal]
    deleted: int = 0


class FoundBucket(NamedTuple):
    """A bucket of a list; ``region`` is "" where the list has none."""

    name: str
    create_time_us: int
    region: str = ""


class DefaultRetention(NamedTuple):
    """What Object Lock gives new objects: ``mode`` is "GOVERNANCE" or "COMPLIANCE"."""

    mode: str
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """What a bucket's objects can be locked by."""

    enabled: bool
    default: DefaultRetention | None = None


def delete_objects(
    names: Sequence[str],
    version_ids: Sequence[str] = (),
    *,
    etags: Sequence[str] = (),
    quiet: bool = True,
) -> bytes:
    """The body of DeleteObjects for up to MAX_DELETED_AT_ONCE objects.

    ``version_ids`` and ``etags`` (without quotes), where given, go with the names; "" is none.
    A name that ``markup.is_expressible`` denies must not be among them: servers refuse the whole
    body for it.
    """
    # All names are escaped at once, separated by what none of them can have.
    keys = escape("\0".join(names))
    if not any(version_ids) and not any(etags):
        objects = keys.replace("\0", "</Key></Object><Object><Key>")
        objects = f"<Object><Key>{objects}</Key></Object>" if names else ""
    else:
        rows = zip(
            keys.split("\0"),
            map(escape, version_ids or [""] * len(names)),
            map(escape, etags or [""] * len(names)),
            strict=True,
        )
        objects = "".join(
            [
                f"<Object><Key>{key}</Key>"
                f"{f'<VersionId>{version_id}</VersionId>' if version_id else ''}"
                f"{f'<ETag>{etag}</ETag>' if etag else ''}</Object>"
                for key, version_id, etag in rows
            ]
        )
    said = "<Quiet>true</Quiet>" if quiet else ""
    return f'<Delete xmlns="{NAMESPACE}">{said}{objects}</Delete>'.encode()


def read_delete_result(body: bytes) -> Deleted:
    """What a reply to DeleteObjects says; raises Internal for what is none."""
    if _NOTHING_REFUSED.fullmatch(body):
        return Deleted(refused={})
    root = markup.read(body, "DeleteResult", "DeleteObjectsOutput")
    refused = {
        (error.first("Key").text, error.get("VersionId")): Refusal(
            error.get("Code"), error.get("Message")
        )
        for error in root.all("Error")
    }
    return Deleted(refused=refused, deleted=sum(1 for _ in root.all("Deleted")))


def read_buckets(body: bytes) -> tuple[list[FoundBucket], str]:
    """A reply to ListBuckets, and the token that goes on, or ""."""
    root = markup.read(body, "ListAllMyBucketsResult")
    buckets = [
        FoundBucket(
            bucket.get("Name"), read_time_us(bucket.get("CreationDate")), bucket.get("BucketRegion")
        )
        for bucket in root.first("Buckets").all("Bucket")
    ]
    return buckets, root.get("ContinuationToken")


def read_versioning(body: bytes) -> str:
    """A reply to GetBucketVersioning: "Enabled", "Suspended", or "" where it never was on."""
    return markup.read(body, "VersioningConfiguration").get("Status").capitalize()


def versioning(*, enabled: bool) -> bytes:
    """The body of PutBucketVersioning."""
    status = "Enabled" if enabled else "Suspended"
    return (
        f'<VersioningConfiguration xmlns="{NAMESPACE}"><Status>{status}</Status>'
        "</VersioningConfiguration>"
    ).encode()


def read_object_lock(body: bytes) -> ObjectLock:
    """A reply to GetObjectLockConfiguration; a year has 365 days, as S3 counts."""
    root = markup.read(body, "ObjectLockConfiguration")
    rule = root.first("Rule").first("DefaultRetention")
    default = None
    if rule.get("Mode"):
        try:
            days = int(rule.get("Days") or 0) + 365 * int(rule.get("Years") or 0)
        except ValueError as error:
            raise markup.unreadable(body, "a retention of no number of days") from error
        default = DefaultRetention(rule.get("Mode"), days)
    return ObjectLock(enabled=root.get("ObjectLockEnabled") == "Enabled", default=default)


def object_lock(default: DefaultRetention | None) -> bytes:
    """The body of PutObjectLockConfiguration."""
    rule = ""
    if default is not None:
        rule = (
            f"<Rule><DefaultRetention><Mode>{default.mode}</Mode><Days>{default.days}</Days>"
            "</DefaultRetention></Rule>"
        )
    return (
        f'<ObjectLockConfiguration xmlns="{NAMESPACE}">'
        f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
    ).encode()


def create_bucket(region: str) -> bytes:
    """The body of CreateBucket: none where the region is the one that is not to be named."""
    if region in ("", "us-east-1"):
        return b""
    return (
        f'<CreateBucketConfiguration xmlns="{NAMESPACE}"><LocationConstraint>{escape(region)}'
        "</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


def complete_upload(etags: Sequence[str]) -> bytes:
    """The body of CompleteMultipartUpload; the parts are numbered from 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return (
        f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{parts}</CompleteMultipartUpload>'.encode()
    )


def read_upload_id(body: bytes) -> str:
    """A reply to CreateMultipartUpload."""
    upload_id = markup.read(body, "InitiateMultipartUploadResult").get("UploadId")
    if not upload_id:
        raise markup.unreadable(body, "an upload without an id")
    return upload_id


def read_etag(body: bytes) -> str:
    """The ETag, without quotes, that a reply to CopyObject, UploadPartCopy or
    CompleteMultipartUpload has in its body."""
    root = markup.read(body, "CopyObjectResult", "CopyPartResult", "CompleteMultipartUploadResult")
    etag = root.get("ETag").strip('"')
    if not etag:
        raise markup.unreadable(body, "a copy without an ETag")
    return etag


def read_time_us(text: str) -> int:
    """Microseconds since 1970 of a time in a reply; 0 for none."""
    if not text:
        return 0
    try:
        time = datetime.fromisoformat(text)
        return (time.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except ValueError as error:
        raise markup.unreadable(text.encode(), "an odd time") from error
