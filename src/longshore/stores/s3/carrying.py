"""What the head of an object says of it, and what a copy onto itself must say again.

A copy that replaces metadata replaces all of it: what is not said again is lost, and the storage
class, the ACL and the encryption fall back to what new objects have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from longshore import object_rules as rules
from longshore.errors import FailedPrecondition, InvalidArgument
from longshore.patch import MapPatch, Retention
from longshore.stores.s3.failures import error_of
from longshore.stores.s3.headers import LOCK_MODES, checked, of_custom_metadata, rfc3339
from longshore.stores.s3.heads import CUSTOM_TIME, META, NO_TYPE, TEXTS, Head, text, time_us

COPIED: Final = frozenset({*TEXTS, "custom_time_us", "custom_metadata"})
"""Columns whose change takes a copy."""
MAX_USER_METADATA_BYTES: Final = 2048

LOCK: Final = "x-amz-object-lock-"
UNLOCKED: Final[Mapping[str, Any]] = {"temporary_hold": False, "retention": ""}
_CLASS: Final = "x-amz-storage-class"
_SSE: Final = "x-amz-server-side-encryption"
_KMS_KEY: Final = f"{_SSE}-aws-kms-key-id"
_BUCKET_KEY: Final = f"{_SSE}-bucket-key-enabled"
_SAID: Final = frozenset(
    {*TEXTS.values(), "expires", "x-amz-website-redirect-location"}
    | {_CLASS, _SSE, _KMS_KEY, _BUCKET_KEY}
)
_CHECKSUMS: Final = {
    f"x-amz-checksum-{name}": name.upper()
    for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
}
_TIME: Final = META + CUSTOM_TIME
_ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def columns_of(head: Head) -> dict[str, Any]:
    """The columns that decide what may be changed; the key as the service calls it."""
    return {"event_based_hold": False, **head.columns({})}


def locks_of(head: Head) -> Mapping[str, Any]:
    """The hold and the retention of an object, as columns; UNLOCKED itself if it has none."""
    if f"{LOCK}legal-hold" not in head.headers and f"{LOCK}mode" not in head.headers:
        return UNLOCKED
    columns = head.columns({})
    return {name: columns[name] for name in UNLOCKED}


def tags_of(head: Head) -> int:
    """How many tags an object has."""
    return int(head.headers.get("x-amz-tagging-count") or 0)


def refuse_archived(head: Head, path: str) -> None:
    """Raises FailedPrecondition if the content cannot be read, and so not be copied."""
    frozen = head.headers.get("x-amz-archive-status", "")
    kind = frozen or head.headers.get(_CLASS, "")
    if (frozen or kind in _ARCHIVED) and 'ongoing-request="false"' not in head.headers.get(
        "x-amz-restore", ""
    ):
        raise FailedPrecondition(
            f"Object '{path}' is archived ({kind}), and this change takes a copy of it: restore it"
            " first (RestoreObject), then run the job again."
        )


def refuse_event_hold(head: Head, path: str) -> None:
    """Raises FailedPrecondition for what AWS holds until an event: its copy would be without, and
    to say it again has not been seen to work anywhere."""
    if head.headers.get(f"{LOCK}event-hold", "OFF") != "OFF":
        raise FailedPrecondition(
            f"Object '{path}' is under an event hold, which a copy of it would not be, and this"
            " change takes a copy."
        )


def lowered(change: MapPatch) -> MapPatch:
    """A change of user metadata as S3 takes it, which has keys in lower case only."""
    return MapPatch(
        updates={key.lower(): value for key, value in change.updates.items()},
        removals=frozenset(key.lower() for key in change.removals),
        clear=change.clear,
    )


def said_by(head: Head, path: str) -> dict[str, str]:
    """The headers that a copy must have to be as its object is, but for ACL and locks. Raises
    FailedPrecondition for what is there and could not be said again."""
    said = {}
    for name, value in head.headers.items():
        if name in _SAID or name.startswith(META):
            said[name] = value if value.isascii() else _again(name, value, path)
        elif name in _CHECKSUMS:
            said["x-amz-checksum-algorithm"] = _CHECKSUMS[name]
    if said.get(_CLASS) == "STANDARD":
        del said[_CLASS]
    if said.get("content-type") == NO_TYPE:
        del said["content-type"]
    if _BUCKET_KEY in said and _KMS_KEY not in said:
        del said[_BUCKET_KEY]
    return said


def _again(name: str, value: str, path: str) -> str:
    """A header's value, which came as Latin-1 and goes as UTF-8, so that its bytes stay."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise FailedPrecondition(
            f"Object '{path}' has bytes in {name} that are no UTF-8, and would not survive the copy"
            " that this change takes."
        ) from None


class Change:
    """What copies are to change.

    ``columns`` as of ``Patch.changes``; storage class and key, as the service calls them, are ""
    where they stay. ``override``: an Unlocked retention may be shortened.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        *,
        override: bool = False,
        storage_class: str = "",
        kms_key: str = "",
    ) -> None:
        self.storage_class = storage_class
        self.kms_key = kms_key
        self._columns = columns
        self._override = override
        self._custom: MapPatch = columns.get("custom_metadata", MapPatch(updates={}))
        self._texts = [(TEXTS[name], name) for name in columns if name in TEXTS]
        self._updates = [(key, META + key, value) for key, value in self._custom.updates.items()]
        self._new_headers: dict[str, dict[str, str]] = {}
        """Those that say an update, once it was found that S3 can hold it."""
        self._is_ruled = not {"custom_time_us", "retention"}.isdisjoint(columns)
        self._locks = {name: columns[name] for name in UNLOCKED if name in columns}

    def locks(self, head: Head, path: str) -> Mapping[str, Any]:
        """The columns of the hold and the retention that the object is to have. Raises an
        errors.Error where ``object_rules.refuse_change`` forbids the change."""
        if self._is_ruled:
            before = columns_of(head)
            after = rules.apply_changes(before, self._columns)
            if failure := rules.refuse_change(path, before, after, override=self._override):
                raise error_of(failure)
        locks = locks_of(head)
        return {**locks, **self._locks} if self._locks else locks

    def of(self, said: Mapping[str, str], path: str) -> dict[str, str]:
        """What the copy of an object of which ``said`` was must say; the same if nothing is to be
        changed. What stays goes as it came, which may be in words of MIME. Raises InvalidArgument
        for what S3 cannot hold."""
        after = dict(said)
        for header, column in self._texts:
            _set(after, header, checked(self._columns[column], column))
        if self._custom.clear:
            keep = {_TIME, *(META + key for key in self._custom.updates)}
            after = {
                name: value
                for name, value in after.items()
                if name in keep or not name.startswith(META)
            }
        for key in self._custom.removals:
            if key != CUSTOM_TIME and key not in self._custom.updates:
                after.pop(META + key, None)
        grows = False
        for key, header, value in self._updates:
            if not _is_text(after.get(header), value) or key == CUSTOM_TIME:
                after |= self._new_headers.get(key) or self._new(key, value)
                grows = True
        if "custom_time_us" in self._columns:
            until_us = self._columns["custom_time_us"]
            if until_us != time_us(text(said.get(_TIME, ""))):
                after.pop(_TIME, None)
                after |= of_custom_metadata({}, until_us)
                grows = True
        if grows:
            _check_size(after, path)
        if self.storage_class:
            _set(after, _CLASS, "" if self.storage_class == "STANDARD" else self.storage_class)
        if self.kms_key and not is_key(said.get(_KMS_KEY, ""), self.kms_key):
            after |= {_SSE: "aws:kms", _KMS_KEY: self.kms_key}
            after.pop(_BUCKET_KEY, None)
        return after

    def _new(self, key: str, value: str) -> dict[str, str]:
        headers = self._new_headers[key] = of_custom_metadata({key: value}, 0)
        return headers


def _set(headers: dict[str, str], name: str, value: str) -> None:
    """Set a header, or with "" remove it, unless it says so already."""
    if value == "":
        headers.pop(name, None)
    elif not _is_text(headers.get(name), value):
        headers[name] = value


def _is_text(said: str | None, value: str) -> bool:
    return said == value or (said is not None and text(said) == value)


def _check_size(headers: Mapping[str, str], path: str) -> None:
    if 4 * (sum(map(len, headers)) + sum(map(len, headers.values()))) < MAX_USER_METADATA_BYTES:
        return  # whatever the characters are
    custom = [(name, value) for name, value in headers.items() if name.startswith(META)]
    size = sum(len(name) - len(META) + len(value.encode()) for name, value in custom)
    if size > MAX_USER_METADATA_BYTES:
        raise InvalidArgument(
            f"Object '{path}' would have {size} bytes of custom metadata, and in S3 an object has"
            f" {MAX_USER_METADATA_BYTES} at most."
        )


def is_key(shown: str, wanted: str) -> bool:
    """Whether a key is shown that was asked for by its id or its ARN."""
    return shown == wanted or (shown.startswith("arn:") and shown.endswith(f"/{wanted}"))


def lock_headers(locks: Mapping[str, Any], now_us: int) -> dict[str, str]:
    """The headers that hold and retain a new version; none can be retained until a past time."""
    headers = {}
    if locks["temporary_hold"]:
        headers[f"{LOCK}legal-hold"] = "ON"
    retention = Retention.load(locks["retention"])
    if retention is not None and retention.until_us > now_us:
        headers[f"{LOCK}mode"] = LOCK_MODES[retention.mode]
        headers[f"{LOCK}retain-until-date"] = rfc3339(retention.until_us)
    return headers
