"""Columns as the headers that give them to an object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from longshore.errors import FailedPrecondition, InvalidArgument
from longshore.patch import Retention, load_map
from longshore.stores.s3 import heads
from longshore.stores.s3.targets import quote_value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_METADATA_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_IN_HEADERS = re.compile(r"[^\x00-\x1f\x7f]*")
_CANNED: Mapping[str, str] = {
    "": "",
    '{"allUsers":"READER"}': "public-read",
    '{"allAuthenticatedUsers":"READER"}': "authenticated-read",
}
LOCK_MODES: Mapping[str, str] = {mode: name for name, mode in heads.MODES.items()}


def of_columns(columns: Mapping[str, Any], kms_keys: Mapping[str, str]) -> dict[str, str]:
    """The headers with which an object is written that has ``columns``; those that are not set need
    none. ``kms_keys`` has the service's keys by the names that jobs call them.

    Raises InvalidArgument for what S3 cannot keep.
    """
    headers = {
        header: checked(columns[column], column)
        for column, header in heads.TEXTS.items()
        if columns.get(column)
    }
    custom = load_map(columns.get("custom_metadata", ""))
    headers |= of_custom_metadata(custom, columns.get("custom_time_us", 0))
    if tags := load_map(columns.get("contexts", "")):
        headers["x-amz-tagging"] = "&".join(
            f"{quote_value(key)}={quote_value(value)}" for key, value in tags.items()
        )
    if acl := canned(columns.get("acl", "")):
        headers["x-amz-acl"] = acl
    if columns.get("storage_class"):
        headers["x-amz-storage-class"] = columns["storage_class"]
    if key := columns.get("kms_key"):
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = kms_keys.get(key, key)
    if columns.get("event_based_hold"):
        raise FailedPrecondition("Event-based holds are not placed on S3.")
    if columns.get("temporary_hold"):
        headers["x-amz-object-lock-legal-hold"] = "ON"
    if retention := Retention.load(columns.get("retention", "")):
        headers["x-amz-object-lock-mode"] = LOCK_MODES[retention.mode]
        headers["x-amz-object-lock-retain-until-date"] = rfc3339(retention.until_us)
    return headers


def of_custom_metadata(custom: Mapping[str, str], custom_time_us: int) -> dict[str, str]:
    """The headers that keep custom metadata and the custom time. Raises InvalidArgument for a name
    or a value that would not come back as it is."""
    headers = {}
    for name, value in custom.items():
        if not _METADATA_NAME.fullmatch(name) or name == heads.CUSTOM_TIME:
            raise InvalidArgument(
                f"S3 cannot keep custom metadata under the name {name[:50]!r}: names are of"
                " lower-case letters, digits and '-._', and goog-custom-time is longshore's."
            )
        headers[f"{heads.META}{name}"] = checked(value, f"the custom metadata {name!r}")
    if custom_time_us:
        headers[f"{heads.META}{heads.CUSTOM_TIME}"] = rfc3339(custom_time_us)
    return headers


def canned(acl: str) -> str:
    """The canned ACL that says what an ``acl`` column does; raises InvalidArgument if none does."""
    if acl not in _CANNED:
        raise InvalidArgument(
            f"S3 cannot write an object with the ACL {acl}: one of allUsers and"
            " allAuthenticatedUsers as READER can be given; change the rest afterwards."
        )
    return _CANNED[acl]


def checked(value: str, what: str) -> str:
    """``value``; raises InvalidArgument if a header would not bring it back as it is."""
    if not _IN_HEADERS.fullmatch(value) or value != value.strip() or "=?" in value:
        raise InvalidArgument(
            f"S3 cannot keep {what} as {value[:50]!r}: no control characters, no spaces at its ends"
            " and no '=?'."
        )
    return value


def rfc3339(us: int) -> str:
    """A time for S3; raises InvalidArgument beyond the year 9999."""
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    except OverflowError as error:
        raise InvalidArgument(f"{us} microseconds after 1970 is no time.") from error
