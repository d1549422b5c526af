"""What Cloud Storage refuses or fails at, by Google's statuses and reasons, as errors of longshore.

Statuses and reasons: docs.cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from longshore import object_rules as rules
from longshore.errors import (
    Aborted,
    Cancelled,
    Code,
    Error,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from longshore.store import UNSENT, Failure

_BY_REASON: Mapping[str, type[Error]] = {
    "rateLimitExceeded": ResourceExhausted,
    "userRateLimitExceeded": ResourceExhausted,
    "quotaExceeded": ResourceExhausted,
    "conditionNotMet": Aborted,
    "userProjectMissing": FailedPrecondition,
    "userProjectAccountProblem": FailedPrecondition,
}
_BY_STATUS: Mapping[int, type[Error]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    408: Unavailable,
    409: Aborted,
    412: FailedPrecondition,
    416: OutOfRange,
    429: ResourceExhausted,
    501: Unimplemented,
}
_PAYS = "The bucket's requester pays: set user_project."
_HINTS: Mapping[str, str] = {"userProjectMissing": _PAYS}
_LINE_BYTES = 300
_UNKNOWN = "Check key_file, or the Application Default Credentials."
BUSY_SECONDS = 1.0
"""An object takes one change a second: docs.cloud.google.com/storage/quotas."""
_OBJECT_BUSY = re.compile(r"rate limit for object mutation|number of changes to the object")
"""What tells that 429 from those of buckets and ranges, in Google's sentences of today and of
earlier years: docs.cloud.google.com/storage/docs/gcs429."""
OVERLOAD = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""What says that the service has too much to do."""


class Unsent(Cancelled):
    """A request was not sent, since its shard is to stop."""


class ObjectBusy(ResourceExhausted):
    """An object was changed too often of late: the service has too much to do with it alone."""


class Said(NamedTuple):
    """What the body of a refusal says; "" where it does not."""

    reason: str = ""
    message: str = ""


def failure_of(error: Error) -> Failure:
    """The failure of the one object that a request was about."""
    if isinstance(error, Unsent):
        return UNSENT
    wait_seconds = BUSY_SECONDS if isinstance(error, ObjectBusy) else 0.0
    return Failure(error.code, error.message, wait_seconds)


def overload(errors: Iterable[Error]) -> Code | None:
    """What these failures of objects say of the service, for ``Turn.ended``."""
    codes = {error.code for error in errors if not isinstance(error, ObjectBusy)}
    return next((code for code in OVERLOAD if code in codes), None)


def error_for(status: int, body: bytes, verb: str, bucket: str, name: str = "") -> Error:
    """The error for a reply that refuses ``verb`` of an object, or without ``name`` of a bucket.
    What Google says of an object is passed on as it is: users know these sentences."""
    said = said_in(body)
    path = f"{bucket}/{name}" if name else bucket
    kind = _BY_REASON.get(said.reason) or _by_status(status)
    if kind is ResourceExhausted and name and _OBJECT_BUSY.search(said.message):
        kind = ObjectBusy
    if kind is Aborted and "public access prevention" in said.message.lower():
        kind = FailedPrecondition  # of the bucket, and no condition of ours
    hint = _UNKNOWN if kind is Unauthenticated else _HINTS.get(said.reason, "")
    if "requester pays bucket" in said.message:  # where the documented reason is not given
        kind, hint = FailedPrecondition, _PAYS
    if kind is NotFound:
        missing_object = name and not said.message.startswith("The specified bucket does not exist")
        if missing_object:
            return NotFound(rules.missing(path, live=False).message)
        return rules.no_bucket(bucket) if bucket else NotFound(said.message or "Not found.")
    if kind is Aborted and not name:
        return _of_bucket(status, said, bucket)
    if kind in (PermissionDenied, InvalidArgument) and name and said.message:
        return kind(said.message)
    what = f"the object '{path}'" if name else f"the bucket '{path}'" if bucket else "the service"
    answer = ": ".join(filter(None, (said.reason, said.message or f"status {status}")))
    return kind(f"The store answered {verb} of {what} with {answer.rstrip('.')}. {hint}".rstrip())


def _of_bucket(status: int, said: Said, bucket: str) -> Error:
    if said.reason == "conditionNotMet":
        return Aborted(f"The bucket '{bucket}' was changed meanwhile.")
    if status == 409 and "empty" in said.message:
        return rules.not_empty(bucket)
    if status == 409:
        return rules.bucket_exists(bucket)
    return FailedPrecondition(said.message or f"The store refused a change of '{bucket}'.")


def _by_status(status: int) -> type[Error]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Unavailable
    return FailedPrecondition if 300 <= status < 400 else Unknown


def said_in(body: bytes) -> Said:
    """Reason and message of an error's body: ``{"error": {"errors": [{"reason": …}], …}}``. Others
    on the way answer with a line of text, which says something, or with pages, which do not."""
    try:
        error = orjson.loads(body)["error"]
        if isinstance(error, str):  # of OAuth: {"error": "invalid_grant", …}
            return Said(reason=error)
        first = (error.get("errors") or [{}])[0]
        return Said(str(first.get("reason", "")), str(error.get("message", "")))
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        text = body[: _LINE_BYTES + 1].decode(errors="replace").strip()
        return Said() if len(text) > _LINE_BYTES or text[:1] in "<{[" else Said(message=text)
