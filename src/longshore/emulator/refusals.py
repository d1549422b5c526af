"""What is answered in place of a result: Cloud Storage's errors, and what the emulator lacks.

Statuses and reasons: cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

from types import UnionType
from typing import Any

import orjson

from longshore import object_rules
from longshore.api.replies import TEXT, Answer
from longshore.errors import Code, Error

_REASONS: dict[Code, tuple[int, str]] = {
    Code.INVALID_ARGUMENT: (400, "invalid"),
    Code.OUT_OF_RANGE: (400, "invalid"),
    Code.UNAUTHENTICATED: (401, "authError"),
    Code.PERMISSION_DENIED: (403, "forbidden"),
    Code.NOT_FOUND: (404, "notFound"),
    Code.ALREADY_EXISTS: (409, "conflict"),
    Code.FAILED_PRECONDITION: (409, "conflict"),
    Code.ABORTED: (409, "aborted"),
    Code.RESOURCE_EXHAUSTED: (429, "rateLimitExceeded"),
    Code.UNAVAILABLE: (503, "backendError"),
}


class Refused(Exception):
    """A request that is not done; ``answer`` says why. ``http`` 304 says that nothing is new."""

    def __init__(self, http: int, reason: str, message: str, **where: str) -> None:
        super().__init__(message)
        self.http = http
        self._error = {"message": message, "domain": "global", "reason": reason, **where}

    def answer(self) -> Answer:
        """The reply."""
        if self.http == 304:
            return Answer(304, b"")
        body = {
            "error": {
                "code": self.http,
                "message": self._error["message"],
                "errors": [self._error],
            }
        }
        return Answer(self.http, orjson.dumps(body, option=orjson.OPT_INDENT_2))


class Lacking(Exception):
    """What Cloud Storage has and the emulator has not: a 501 with a plain text, so that no program
    takes it for done."""

    def answer(self) -> Answer:
        """The reply."""
        text = f"The emulator does not do this: {self}\n"
        return Answer(501, text.encode(), TEXT)


def invalid(message: str) -> Refused:
    """What is wrong whatever the state of things."""
    return Refused(400, "invalid", message)


def required(what: str) -> Refused:
    """Something that must be there is not."""
    return Refused(400, "required", f"Required parameter: {what}")


def condition_not_met() -> Refused:
    """A precondition that does not hold, and is no ``…NotMatch``."""
    return Refused(
        412,
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
        locationType="header",
        location="If-Match",
    )


def not_modified() -> Refused:
    """A ``…NotMatch`` that does not hold."""
    return Refused(304, "notModified", "Not Modified")


def of_error(error: Error) -> Answer:
    """An error of a store as Cloud Storage puts it."""
    if error.code is Code.UNIMPLEMENTED:
        return Lacking(error.message).answer()
    http, reason = _REASONS.get(error.code, (500, "backendError"))
    if reason == "forbidden" and object_rules.RETAINED in error.message:
        reason = "retentionPolicyNotMet"
    return Refused(http, reason, error.message).answer()


STORAGE_CLASSES = frozenset(
    {
        "ARCHIVE",
        "COLDLINE",
        "DURABLE_REDUCED_AVAILABILITY",
        "MULTI_REGIONAL",
        "NEARLINE",
        "REGIONAL",
        "STANDARD",
    }
)


def storage_class(value: Any) -> str:
    """``value`` as it is kept if it is a storage class, or "" for the one that is the default. The
    examples of gcloud have them in lower case, and it sends them so."""
    if value is None:
        return ""
    kept: str = checked(value, str, "storageClass").upper()
    if kept not in ("", *STORAGE_CLASSES):
        raise invalid(f"Invalid argument: {value[:50]!r} is no storage class.")
    return kept


def checked(value: Any, kind: type | UnionType, field: str) -> Any:
    """``value`` if it is a ``kind``; else raises Refused, naming the ``field`` of the body."""
    if isinstance(value, kind):
        return value
    raise invalid(f"Invalid value for field {field}: {str(value)[:100]!r}.")
