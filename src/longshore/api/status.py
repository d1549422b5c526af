"""One error, three spellings: canonical code, google.rpc.Status, Google's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longshore.api import wire
from longshore.api.auth import refusals
from longshore.api.json_messages import to_json
from longshore.errors import Code, Error
from longshore.settings import CLOUD_PLATFORM

Headers = Sequence[tuple[bytes, bytes]]

DOMAIN = "storagebatchoperations.googleapis.com"
FRONT_END_DOMAIN = "googleapis.com"
_REALM = 'Bearer realm="https://accounts.google.com/"'

HTTP: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

_LEGACY_REASONS: Mapping[Code, str] = {
    Code.CANCELLED: "cancelled",
    Code.INVALID_ARGUMENT: "badRequest",
    Code.DEADLINE_EXCEEDED: "deadlineExceeded",
    Code.NOT_FOUND: "notFound",
    Code.ALREADY_EXISTS: "alreadyExists",
    Code.PERMISSION_DENIED: "forbidden",
    Code.RESOURCE_EXHAUSTED: "rateLimitExceeded",
    Code.FAILED_PRECONDITION: "failedPrecondition",
    Code.ABORTED: "aborted",
    Code.OUT_OF_RANGE: "badRequest",
    Code.UNIMPLEMENTED: "notImplemented",
    Code.UNAUTHENTICATED: "authError",
}
"""The reasons of error format 1, which had its own words; what is not here is "backendError"."""


class Refusal(Exception):
    """What HTTP has a status for that no canonical code has, as 405 and 413."""

    def __init__(self, http: int, code: Code, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.http = http
        self.status = wire.Status(code=code, message=message)
        self.headers = headers


def to_status(error: Error) -> Any:
    """The google.rpc.Status of ``error``, with its ErrorInfo and BadRequest where it has them."""
    status = wire.Status(code=error.code, message=error.message)
    if error.reason:
        domain = FRONT_END_DOMAIN if error.reason in refusals.REASONS else DOMAIN
        info = wire.ErrorInfo(reason=error.reason, domain=domain, metadata=error.metadata)
        status.details.append(wire.pack(info))
    if error.violations:
        bad_request = wire.BadRequest()
        for violation in error.violations:
            bad_request.field_violations.add(
                field=violation.field, description=violation.description
            )
        status.details.append(wire.pack(bad_request))
    return status


def challenge(error: Error) -> str | None:
    """The ``WWW-Authenticate`` of the reply, where ``error`` is about a token (RFC 6750)."""
    if error.reason == refusals.SCOPE:
        return f'{_REALM}, error="insufficient_scope", scope="{CLOUD_PLATFORM}"'
    if error.code is not Code.UNAUTHENTICATED:
        return None
    return _REALM if error.reason == refusals.MISSING else f'{_REALM}, error="invalid_token"'


def envelope(http: int, status: Any, *, legacy: bool = False) -> dict[str, Any]:
    """Google's JSON for a google.rpc.Status, in which ``code`` is the HTTP status.

    ``legacy``: with the list ``errors`` of error format 1.
    """
    code = Code(status.code)
    error: dict[str, Any] = {"code": http, "message": status.message}
    if legacy:
        reason = _LEGACY_REASONS.get(code, "backendError")
        error["errors"] = [{"message": status.message, "domain": "global", "reason": reason}]
    error["status"] = code.name
    if status.details:
        error["details"] = [to_json(detail) for detail in status.details]
    return {"error": error}
