"""Google's statuses and reasons as errors (reference 5.7)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from longshore.errors import Code
from longshore.stores.gs.failures import Said, error_for, failure_of, overload, said_in

HELD = (
    "Object 'quay/a' is under active Temporary hold and cannot be deleted, overwritten or archived"
    " until hold is removed."
)
RETAINED = "Object 'quay/a' is subject to bucket's retention policy or object retention"
NOT_MET = "At least one of the pre-conditions you specified did not hold."
PREVENTED = (
    "The member bindings allUsers are not allowed since public access prevention is enforced."
)


def body(reason: str, message: str = "Said.") -> bytes:
    return orjson.dumps({"error": {"message": message, "errors": [{"reason": reason}]}})


@pytest.mark.parametrize(
    ("status", "reason", "message", "code"),
    [
        (400, "invalid", "Said.", Code.INVALID_ARGUMENT),
        (400, "userProjectMissing", "Said.", Code.FAILED_PRECONDITION),
        (401, "authError", "Said.", Code.UNAUTHENTICATED),
        (403, "forbidden", HELD, Code.PERMISSION_DENIED),
        (403, "retentionPolicyNotMet", RETAINED, Code.PERMISSION_DENIED),
        (403, "rateLimitExceeded", "Said.", Code.RESOURCE_EXHAUSTED),
        (404, "notFound", "No such object: quay/a", Code.NOT_FOUND),
        (408, "", "Said.", Code.UNAVAILABLE),
        (409, "conflict", "Said.", Code.ABORTED),
        (412, "conditionNotMet", NOT_MET, Code.ABORTED),
        (412, "conditionNotMet", PREVENTED, Code.FAILED_PRECONDITION),
        (412, "orgPolicyConstraintFailed", "Said.", Code.FAILED_PRECONDITION),
        (416, "requestedRangeNotSatisfiable", "Said.", Code.OUT_OF_RANGE),
        (429, "rateLimitExceeded", "Said.", Code.RESOURCE_EXHAUSTED),
        (500, "backendError", "Said.", Code.UNAVAILABLE),
        (501, "", "Said.", Code.UNIMPLEMENTED),
        (503, "backendError", "Said.", Code.UNAVAILABLE),
        (504, "", "Said.", Code.UNAVAILABLE),
        (307, "", "Said.", Code.FAILED_PRECONDITION),
    ],
)
def test_of_an_object(status: int, reason: str, message: str, code: Code) -> None:
    error = error_for(status, body(reason, message), "objects.patch", "quay", "a")
    assert error.code is code
    if code in (Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT):
        assert error.message == message
    elif code is Code.NOT_FOUND:
        assert error.message == "No such object: quay/a"
    else:
        assert message.rstrip(".") in error.message


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (404, "The specified bucket does not exist.", Code.NOT_FOUND),
        (409, "The bucket you tried to delete is not empty.", Code.FAILED_PRECONDITION),
        (409, "Your previous request to create the named bucket succeeded.", Code.ALREADY_EXISTS),
    ],
)
def test_of_a_bucket(status: int, message: str, code: Code) -> None:
    error = error_for(status, body("conflict", message), "buckets.delete", "quay")
    assert (error.code, "'quay'" in error.message) == (code, True)


@pytest.mark.parametrize(
    "message",
    [
        "The object quay/a exceeded the rate limit for object mutation operations (create, update,"
        " and delete). Please reduce your request rate.",
        "The total number of changes to the object quay/a exceeds the rate limit. Please reduce the"
        " rate of create, update, and delete requests.",
    ],
)
def test_an_object_that_was_changed_too_often_is_left_for_a_second(message: str) -> None:
    """As issues of grafana/mimir (#12086) and HumanCellAtlas/data-store (#1534) have them."""
    error = error_for(429, body("rateLimitExceeded", message), "objects.patch", "quay", "a")
    failure = failure_of(error)
    assert (failure.code, failure.wait_seconds) == (Code.RESOURCE_EXHAUSTED, 1.0)
    assert overload([error]) is None
    slow = error_for(429, body("rateLimitExceeded", "Slow down."), "objects.patch", "quay", "a")
    assert failure_of(slow).wait_seconds == 0.0
    assert overload([error, slow]) is Code.RESOURCE_EXHAUSTED


def test_a_bucket_that_is_not_there_is_not_taken_for_an_object() -> None:
    gone = body("notFound", "The specified bucket does not exist.")
    error = error_for(404, gone, "objects.get", "quay", "a")
    assert error.message == "The specified bucket does not exist: 'quay'."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", Said()),
        (b"<html>Bad gateway</html>", Said()),
        (b"x" * 1000, Said()),
        (b"[1]", Said()),
        (b'{"error": 7}', Said()),
        (b'{"error": {"errors": []}}', Said()),
        (
            b"The emulator does not do this: rewrite\n",
            Said("", "The emulator does not do this: rewrite"),
        ),
        (b'{"error": "invalid_grant"}', Said("invalid_grant")),
    ],
)
def test_what_nobody_at_google_has_written(text: bytes, said: Any) -> None:
    assert said_in(text) == said
