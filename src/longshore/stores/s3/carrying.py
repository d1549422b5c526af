"""What the head of an object says of it, and what a copy onto itself must say again.

A copy that replaces metadata replaces all of it: what is not said again is lost, and the storage
class, the ACL and the encryption fall back to what new objects have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from longshore.errors import FailedPrecondition, InvalidArgument
from longshore.patch import MapPatch, Retention, load_map
from longshore.stores.s3.headers import LOCK_MODES, checked, of_custom_metadata, rfc3339
from longshore.stores.s3.heads import CUSTOM_TIME, META, TEXTS, Head, text

COPIED: Final = frozenset({*TEXTS, "custom_time_us", "custom_metadata"})
"""Columns whose change takes a copy."""
MAX_USER_METADATA_BYTES: Final = 2048

LOCK: Final = "x-amz-object-lock-"
_SSE: Final = "x-amz-server-side-encryption"
_KMS_KEY: Final = f"{_SSE}-aws-kms-key-id"
_CHECKSUMS: Final = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
_SAID_AGAIN: Final = ("expires", "x-amz-website-redirect-location")
_ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def columns_of(head: Head) -> dict[str, Any]:
    """The columns that decide what may be changed, and whether a copy is needed; the key of
    encryption as the service calls it."""
    return {"event_based_hold": False, **head.columns({})}


def tags_of(head: Head) -> int:
    """How many tags an object has."""
    return int(head.headers.get("x-amz-tagging-count") or 0)


def refuse_archived(head: Head, path: str) -> None:
    """Raises FailedPrecondition if the content cannot be read, and so not be copied."""
    frozen = head.headers.get("x-amz-archive-status", "")
    kind = frozen or head.headers.get("x-amz-storage-class", "")
    thawed = 'ongoing-request="false"' in head.headers.get("x-amz-restore", "")
    if (frozen or kind in _ARCHIVED) and not thawed:
        raise FailedPrecondition(
            f"Object '{path}' is archived ({kind}), and this change takes a copy of it: restore it"
            " first (RestoreObject), then run the job again."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a copy is to come to: columns as they will be, and what of it was asked for.

    ``storage_class`` and ``kms_key``, as the service calls them, are "" where they stay;
    ``grants`` are the headers that give the ACL.
    """

    columns: Mapping[str, Any]
    storage_class: str = ""
    kms_key: str = ""
    grants: Mapping[str, str] = field(default_factory=dict)


def lowered(change: MapPatch) -> MapPatch:
    """A change of user metadata as S3 takes it, which has keys in lower case only."""
    return MapPatch(
        updates={key.lower(): value for key, value in change.updates.items()},
        removals=frozenset(key.lower() for key in change.removals),
        clear=change.clear,
    )


def headers_of(head: Head, wanted: Wanted, path: str, now_us: int) -> dict[str, str]:
    """Every header that the copy of ``head`` must have; raises InvalidArgument for metadata that S3
    cannot hold, FailedPrecondition for what is there and could not be said again."""
    columns = wanted.columns
    _refuse_bytes(head, path)
    headers = {
        name: checked(columns[column], column) for column, name in TEXTS.items() if columns[column]
    }
    headers |= {name: _again(head.headers[name]) for name in _SAID_AGAIN if name in head.headers}
    headers |= _user_metadata(head, columns, path)
    storage_class = wanted.storage_class or head.headers.get("x-amz-storage-class", "STANDARD")
    if storage_class != "STANDARD":
        headers["x-amz-storage-class"] = storage_class
    headers |= _encryption(head, wanted.kms_key)
    for name in _CHECKSUMS:
        if f"x-amz-checksum-{name}" in head.headers:
            headers["x-amz-checksum-algorithm"] = name.upper()
            break
    return {**headers, **lock_headers(columns, now_us), **wanted.grants}


def lock_headers(columns: Mapping[str, Any], now_us: int) -> dict[str, str]:
    """The headers that hold and retain a new version; none can be retained until a past time."""
    headers = {}
    if columns["temporary_hold"]:
        headers[f"{LOCK}legal-hold"] = "ON"
    retention = Retention.load(columns["retention"])
    if retention is not None and retention.until_us > now_us:
        headers[f"{LOCK}mode"] = LOCK_MODES[retention.mode]
        headers[f"{LOCK}retain-until-date"] = rfc3339(retention.until_us)
    return headers


def _user_metadata(head: Head, columns: Mapping[str, Any], path: str) -> dict[str, str]:
    """What stays goes as it came, which may be in words of MIME."""
    was = {name: value for name, value in head.headers.items() if name.startswith(META)}
    custom, time_us = load_map(columns["custom_metadata"]), columns["custom_time_us"]
    stays = {
        META + key
        for key, value in custom.items()
        if META + key in was and value == text(was[META + key])
    }
    if time_us == columns_of(head)["custom_time_us"]:
        stays.add(META + CUSTOM_TIME)
        time_us = 0
    new = {key: value for key, value in custom.items() if META + key not in stays}
    headers = {name: _again(value) for name, value in was.items() if name in stays}
    headers |= of_custom_metadata(new, time_us)
    size = sum(len(name) - len(META) + len(value.encode()) for name, value in headers.items())
    if size > MAX_USER_METADATA_BYTES and (new or time_us):
        raise InvalidArgument(
            f"Object '{path}' would have {size} bytes of custom metadata, and in S3 an object has"
            f" {MAX_USER_METADATA_BYTES} at most."
        )
    return headers


def _encryption(head: Head, kms_key: str) -> dict[str, str]:
    if kms_key:
        return {_SSE: "aws:kms", _KMS_KEY: kms_key}
    names = [_SSE]
    if _KMS_KEY in head.headers:
        names += [_KMS_KEY, f"{_SSE}-bucket-key-enabled"]
    return {name: head.headers[name] for name in names if name in head.headers}


def _refuse_bytes(head: Head, path: str) -> None:
    for name, value in head.headers.items():
        if name.startswith(META) or name in _SAID_AGAIN or name in TEXTS.values():
            try:
                _again(value)
            except UnicodeDecodeError:
                raise FailedPrecondition(
                    f"Object '{path}' has bytes in {name} that are no UTF-8, and would not survive"
                    " the copy that this change takes."
                ) from None


def _again(value: str) -> str:
    """A header's value, which came as Latin-1 and goes as UTF-8, so that its bytes stay."""
    return value if value.isascii() else value.encode("latin-1").decode()
