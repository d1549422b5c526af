"""Cloud Storage's rules about objects, over plain values: what is refused, and in which words.

The transformations of the API are defined by what Cloud Storage does, so the stores of our own
(local, memory) decide by these functions and differ only in where they keep the values. A broken
rule is a Failure; None means that nothing stands in the way. A store finds out whether the object
is there, and is the one that was named, *before* it asks for these (reference 5.7).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from longshore.errors import (
    BY_CODE,
    AlreadyExists,
    Code,
    Error,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from longshore.names import is_bucket_name
from longshore.patch import UNCHANGED, MapPatch, Patch, Retention, load_map
from longshore.store import COLUMNS, Bucket, Failure

NAME_MAX_BYTES = 1024
CONTENT_LANGUAGE_MAX_LENGTH = 100
CUSTOM_METADATA_MAX_BYTES = 8 << 10
CONTEXT_MAX_LENGTH = 256
_CONTEXT_FORBIDS = frozenset("'\"/\\")
RETENTION_MAX_SECONDS = 3_155_760_000
"""A hundred years: the limit for an object's retention and for a bucket's."""

OWN_COLUMNS: Mapping[str, type] = {
    **COLUMNS,
    "digests": str,
    "delete_time_us": int,
    "retained_from_us": int,
}
"""The columns of the stores of our own: ``digests`` is what a writer knows of the content, kept as
it is with every generation of it; ``delete_time_us`` is when a version ceased to be live; for
``retained_from_us`` see Guard."""
SOFT_DELETED_COLUMNS: Mapping[str, type] = {
    **OWN_COLUMNS,
    "soft_delete_time_us": int,
    "hard_delete_time_us": int,
}
"""Those of soft-deleted versions, with when each was deleted and until when it can be restored."""
RETAINED = "is subject to bucket's retention policy or object retention"
"""In the message of what a retention forbids."""
PATCH_COLUMNS = frozenset(field.name for field in fields(Patch)) & COLUMNS.keys()
WRITE_COLUMNS = PATCH_COLUMNS | {"storage_class", "kms_key", "digests"}
BUCKET_FACTS = ("location", "labels", "autoclass", "soft_delete_seconds", "attributes")
"""What a store may know of a bucket beside its rules; not every one does."""
ZERO: Mapping[str, Any] = {name: kind() for name, kind in OWN_COLUMNS.items()}
_RETENTION_MODES = ("Unlocked", "Locked")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Guard(NamedTuple):
    """What of an object decides whether it may go.

    ``retained_from_us``: since when it counts as being in the bucket, for the bucket's retention.
    """

    temporary_hold: bool
    event_based_hold: bool
    retention: str
    retained_from_us: int


def refuse_removal(
    path: str, guard: Guard, period_seconds: int, now_us: int, *, archived: bool = False
) -> Failure | None:
    """What forbids to delete, replace or rewrite the object at ``path`` (``BUCKET/NAME``).

    ``archived``: the object stays as a noncurrent version. A hold forbids that too (its message
    says "deleted, overwritten or archived"); a retention does not: "In buckets that use Object
    Versioning, a live object version that has a retain-until time in the future can still be made
    noncurrent" (docs.cloud.google.com/storage/docs/object-lock, likewise bucket-lock).
    """
    for held, kind in (
        (guard.temporary_hold, "Temporary"),
        (guard.event_based_hold, "Event-Based"),
    ):
        if held:
            return Failure(
                Code.PERMISSION_DENIED,
                f"Object '{path}' is under active {kind} hold and cannot be deleted, overwritten"
                " or archived until hold is removed.",
            )
    until_us = 0 if archived else _retained_until_us(guard, period_seconds)
    if until_us <= now_us:
        return None
    return Failure(
        Code.PERMISSION_DENIED,
        f"Object '{path}' {RETAINED} and cannot be deleted or overwritten until {_time(until_us)}",
    )


def _retained_until_us(guard: Guard, period_seconds: int) -> int:
    retention = Retention.load(guard.retention)
    by_object = retention.until_us if retention else 0
    by_bucket = guard.retained_from_us + period_seconds * 1_000_000 if period_seconds else 0
    return max(by_object, by_bucket)


def refuse_patch(bucket: Bucket, patch: Patch, now_us: int) -> Failure | None:
    """What forbids ``patch`` for every object of ``bucket``, whatever the object is like."""
    if patch.acl is not UNCHANGED and bucket.uniform_access:
        return _invalid(
            f"Cannot change the ACL of objects in bucket '{bucket.name}': it has uniform"
            " bucket-level access enabled."
        )
    if patch.retention is not UNCHANGED and patch.retention is not None:
        if reason := _wrong_retention(patch.retention, now_us):
            return _invalid(reason)
        if patch.event_based_hold is True:
            return _invalid("An object cannot have an event-based hold and a retention at once.")
    language = patch.content_language
    if isinstance(language, str) and len(language) > CONTENT_LANGUAGE_MAX_LENGTH:
        return _invalid(f"contentLanguage is longer than {CONTENT_LANGUAGE_MAX_LENGTH} characters.")
    if isinstance(patch.contexts, MapPatch):
        return _wrong_contexts(patch.contexts.updates)
    return None


def refuse_change(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any], *, override: bool
) -> Failure | None:
    """What forbids the object at ``path`` to turn from the columns ``before`` into ``after``.

    Both hold what is named in CHANGE_COLUMNS. ``override``: an Unlocked retention may be
    shortened, cleared or locked.
    """
    was_us, wanted_us = before["custom_time_us"], after["custom_time_us"]
    if was_us and (not wanted_us or wanted_us < was_us):
        return custom_time_stays(path, was_us)
    if after["retention"] and after["event_based_hold"]:
        return _invalid(f"Object '{path}' cannot have an event-based hold and a retention at once.")
    if metadata_too_large(after["custom_metadata"]):
        return _invalid(
            f"The custom metadata of object '{path}' would take more than"
            f" {CUSTOM_METADATA_MAX_BYTES} bytes."
        )
    return _refuse_retention(path, before["retention"], after["retention"], override=override)


def custom_time_stays(path: str, was_us: int) -> Failure:
    """The failure for moving a custom time back, or for clearing it."""
    return _invalid(
        f"The customTime of object '{path}' is {_time(was_us)}; it can be moved later only,"
        " never back, and never be removed."
    )


CHANGE_COLUMNS = ("custom_time_us", "event_based_hold", "custom_metadata", "retention")
"""The columns by which ``refuse_change`` decides."""


def _refuse_retention(path: str, before: str, after: str, *, override: bool) -> Failure | None:
    was, wanted = Retention.load(before), Retention.load(after)
    if was is None or before == after:
        return None
    shorter = wanted is None or wanted.until_us < was.until_us
    if was.mode == "Locked" and (shorter or (wanted and wanted.mode != "Locked")):
        return Failure(
            Code.PERMISSION_DENIED,
            f"Object '{path}' has a Locked retention until {_time(was.until_us)}, which cannot be"
            " shortened, unlocked or removed.",
        )
    locked = wanted is not None and wanted.mode != was.mode
    if (shorter or locked) and not override:
        return Failure(
            Code.PERMISSION_DENIED,
            f"Object '{path}' has an Unlocked retention until {_time(was.until_us)}, which cannot"
            " be shortened, removed or locked without overrideUnlockedRetention.",
        )
    return None


def apply_changes(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns after ``changes`` (of ``Patch.changes``)."""
    after = dict(before)
    for name, wanted in changes.items():
        after[name] = wanted.apply(before[name]) if isinstance(wanted, MapPatch) else wanted
    return after


def new_object(bucket: Bucket, metadata: Mapping[str, Any], now_us: int) -> dict[str, Any]:
    """Every column that a writer sets of a new object in ``bucket``, given those in ``metadata``.

    A bucket with a default event-based hold places it on every new object but those with a
    retention of their own, which excludes it, and those of which ``metadata`` says otherwise.
    Raises InvalidArgument.
    """
    for name, value in metadata.items():
        check_known("column of an object", name, WRITE_COLUMNS)
        if not isinstance(value, OWN_COLUMNS[name]):
            raise InvalidArgument(
                f"The column {name!r} of an object takes {OWN_COLUMNS[name].__name__}: {value!r}."
            )
    columns = {name: ZERO[name] for name in WRITE_COLUMNS} | dict(metadata)
    columns["storage_class"] = columns["storage_class"] or "STANDARD"
    declined = metadata.get("event_based_hold") is False
    if bucket.default_event_based_hold and not columns["retention"] and not declined:
        columns["event_based_hold"] = True
    retention = Retention.load(columns["retention"])
    reasons = (
        refuse_patch(
            bucket,
            Patch(
                content_language=columns["content_language"],
                retention=retention or UNCHANGED,
                event_based_hold=columns["event_based_hold"],
                contexts=MapPatch(updates=load_map(columns["contexts"])),
                acl=MapPatch(updates={}) if columns["acl"] else UNCHANGED,
            ),
            now_us,
        ),
        refuse_change("", columns | {"custom_time_us": 0}, columns, override=True),
    )
    for reason in reasons:
        if reason:
            raise InvalidArgument(reason.message)
    return columns


def check_name(name: str) -> bytes:
    """The UTF-8 of an object's name; raises InvalidArgument unless it has 1 to 1,024 bytes."""
    try:
        data = name.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"The object name {name!r} cannot be written as UTF-8.") from None
    if not 1 <= len(data) <= NAME_MAX_BYTES:
        raise InvalidArgument(
            f"An object name has 1 to {NAME_MAX_BYTES} bytes in UTF-8, not {len(data)}:"
            f" {name[:50]!r}."
        )
    return data


def check_move(name: str, to: str) -> bytes:
    """The UTF-8 of an object's new name; raises InvalidArgument unless it can have that."""
    if name == to:
        raise InvalidArgument(f"An object cannot be moved to the name that it has: {name[:50]!r}.")
    return check_name(to)


def check_bucket(bucket: Bucket) -> None:
    """Raises InvalidArgument for a name or a rule that no bucket can have."""
    if not is_bucket_name(bucket.name):
        raise InvalidArgument(
            f"{bucket.name!r} is no bucket name: use 1 to 222 lower-case letters, digits, '-',"
            " '_' and '.', with a letter or a digit at both ends."
        )
    if not 0 <= bucket.retention_period_seconds <= RETENTION_MAX_SECONDS:
        raise InvalidArgument(
            f"The retention period of bucket '{bucket.name}' must be 0 (none) to"
            f" {RETENTION_MAX_SECONDS} seconds, not {bucket.retention_period_seconds}."
        )
    if not 0 <= bucket.soft_delete_seconds <= RETENTION_MAX_SECONDS:
        raise InvalidArgument(
            f"Deleted objects of bucket '{bucket.name}' can be kept for 0 (not at all) to"
            f" {RETENTION_MAX_SECONDS} seconds, not {bucket.soft_delete_seconds}."
        )


def check_bucket_changes(changes: Mapping[str, Any]) -> None:
    """Raises InvalidArgument for what is no rule of a bucket or has the wrong type."""
    types = {field.name: field.type for field in fields(Bucket)}
    rules = types.keys() - {"name", "create_time_us", *BUCKET_FACTS}
    for name, value in changes.items():
        check_known("rule of a bucket", name, rules)
        if type(value).__name__ != types[name]:
            raise InvalidArgument(f"The rule {name!r} of a bucket takes {types[name]}: {value!r}.")


def check_known(what: str, name: str, known: Collection[str]) -> None:
    """Raises InvalidArgument that names the nearest known one if ``name`` is not ``known``."""
    if name not in known:
        nearest = get_close_matches(name, sorted(known), 1, 0)
        raise InvalidArgument(f"There is no {what} named {name!r}; did you mean {nearest[0]!r}?")


def missing(path: str, *, live: bool) -> Failure:
    """The failure for a version that is not there; ``live``: its name has a live object.

    That the named version has been replaced is ABORTED, so that the engine looks again.
    """
    if live:
        return Failure(Code.ABORTED, f"Object '{path}' is of another generation by now.")
    return Failure(Code.NOT_FOUND, f"No such object: {path}")


def not_soft_deleted(path: str, generation: int) -> NotFound:
    """The error for a version that is not, or no more, to be restored."""
    return NotFound(f"No such soft-deleted object: {path}#{generation}")


def moved(path: str) -> Failure:
    """The failure for a metageneration that is not the one named."""
    return Failure(Code.ABORTED, f"The metadata of object '{path}' has been changed meanwhile.")


def error_of(failure: Failure) -> Error:
    """The same as an error to be raised, where one object is all that a call is about."""
    return BY_CODE[failure.code](failure.message)


def noncurrent(path: str) -> Failure:
    """The failure for rewriting a version that is not live."""
    return Failure(
        Code.FAILED_PRECONDITION,
        f"Object '{path}' is a noncurrent version; only live ones are rewritten.",
    )


def unreadable(path: Path | str, error: OSError) -> Failure:
    """The failure for a new object whose file cannot be read."""
    code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.UNAVAILABLE
    return Failure(code, f"Cannot read {path}: {error.strerror}.")


def no_bucket(name: str) -> NotFound:
    """The error for a bucket that is not there."""
    return NotFound(f"The specified bucket does not exist: '{name}'.")


def bucket_exists(name: str) -> AlreadyExists:
    """The error for making a bucket twice."""
    return AlreadyExists(f"The bucket '{name}' already exists.")


def not_empty(name: str) -> FailedPrecondition:
    """The error for deleting a bucket that has objects."""
    return FailedPrecondition(
        f"The bucket '{name}' is not empty: delete its objects and all their noncurrent versions"
        " first."
    )


def metadata_too_large(text: str) -> bool:
    """Whether the map behind ``text`` is beyond Cloud Storage's limit for custom metadata."""
    if len(text) <= CUSTOM_METADATA_MAX_BYTES // 4:  # at most four bytes a character
        return False
    pairs = load_map(text).items()
    return sum(len(k.encode()) + len(v.encode()) for k, v in pairs) > CUSTOM_METADATA_MAX_BYTES


def _wrong_retention(retention: Retention, now_us: int) -> str:
    if retention.mode not in _RETENTION_MODES:
        return f"The retention mode must be Unlocked or Locked, not {retention.mode!r}."
    if retention.until_us <= now_us:
        return f"The retain-until time {_time(retention.until_us)} is not in the future."
    if retention.until_us > now_us + RETENTION_MAX_SECONDS * 1_000_000:
        return f"The retain-until time {_time(retention.until_us)} is more than 100 years away."
    return ""


def _wrong_contexts(updates: Mapping[str, str]) -> Failure | None:
    for text in (text for pair in updates.items() for text in pair):
        well_formed = 1 <= len(text) <= CONTEXT_MAX_LENGTH and text[0].isalnum()
        if not well_formed or not _CONTEXT_FORBIDS.isdisjoint(text):
            return _invalid(
                f"Keys and values of contexts have 1 to {CONTEXT_MAX_LENGTH} characters, begin with"
                f" a letter or a digit, and have no quote, slash or backslash: {text[:50]!r}."
            )
    return None


def _invalid(message: str) -> Failure:
    return Failure(Code.INVALID_ARGUMENT, message)


def _time(us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{us} microseconds after 1970"
