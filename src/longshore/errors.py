"""The errors of longshore: one class per canonical code of google.rpc.Code.

::

    Error                        carries a code, a message and details for the API
    ├── Cancelled            1   ├── Aborted             10
    ├── Unknown              2   ├── OutOfRange          11
    ├── InvalidArgument      3   ├── Unimplemented       12
    ├── DeadlineExceeded     4   ├── Internal            13
    ├── NotFound             5   ├── Unavailable         14
    ├── AlreadyExists        6   ├── DataLoss            15
    ├── PermissionDenied     7   └── Unauthenticated     16
    ├── ResourceExhausted    8
    └── FailedPrecondition   9

The API needs a code in three places (gRPC status, HTTP body, ``ErrorSummary.error_code``), so the
code is what an error *is*. A driver translates what its service says once, at its edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import ClassVar, NamedTuple


class Code(IntEnum):
    """The canonical codes, numbered and spelt as in google/rpc/code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Violation(NamedTuple):
    """One bad field of a request: its snake_case proto path ("" is the root), and what is wrong."""

    field: str
    description: str


class Error(Exception):
    """Something was refused or failed; ``code`` says which kind, ``message`` is for people.

    ``reason`` and ``metadata`` become a google.rpc.ErrorInfo (AIP-193), ``violations`` a
    google.rpc.BadRequest. ``str(error)`` is the message.
    """

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = violations


class Cancelled(Error):
    """The work was cancelled, usually by its user."""

    code = Code.CANCELLED


class Unknown(Error):
    """A service failed and did not say how."""

    code = Code.UNKNOWN


class InvalidArgument(Error):
    """The request is wrong whatever the state of the system."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(Error):
    """The time for a call ran out; it may still have had its effect."""

    code = Code.DEADLINE_EXCEEDED


class NotFound(Error):
    """What was named does not exist."""

    code = Code.NOT_FOUND


class AlreadyExists(Error):
    """What was to be created exists."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(Error):
    """The caller may not do this, or a hold or retention forbids it."""

    code = Code.PERMISSION_DENIED


class ResourceExhausted(Error):
    """A limit or a quota is used up."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(Error):
    """The system is not in the state that the request needs; repeating it does not help."""

    code = Code.FAILED_PRECONDITION


class Aborted(Error):
    """Somebody else changed it meanwhile: look again, then repeat."""

    code = Code.ABORTED


class OutOfRange(Error):
    """A position past the end of something."""

    code = Code.OUT_OF_RANGE


class Unimplemented(Error):
    """This store or server does not do that."""

    code = Code.UNIMPLEMENTED


class Internal(Error):
    """An invariant of longshore or of a service is broken."""

    code = Code.INTERNAL


class Unavailable(Error):
    """A service does not answer just now; repeating helps."""

    code = Code.UNAVAILABLE


class DataLoss(Error):
    """Stored data cannot be read back."""

    code = Code.DATA_LOSS


class Unauthenticated(Error):
    """No valid credentials came with the call."""

    code = Code.UNAUTHENTICATED


VIOLATIONS_MAX = 50
"""How many bad fields an error names; who has more mistakes than that has made one often."""

BY_CODE: Mapping[Code, type[Error]] = {kind.code: kind for kind in Error.__subclasses__()}


def invalid_field(field: str, description: str, *, reason: str = "") -> InvalidArgument:
    """The error for a request of which one field is bad; the description is the message too."""
    return InvalidArgument(description, reason=reason, violations=(Violation(field, description),))


def refuse(
    violations: Sequence[Violation], *, reason: str = "", metadata: Mapping[str, str] | None = None
) -> None:
    """Raises InvalidArgument that names ``violations``, the first VIOLATIONS_MAX of them; returns
    if there are none."""
    if violations:
        named = tuple(violations[:VIOLATIONS_MAX])
        message = "\n".join(violation.description for violation in named)
        raise InvalidArgument(message, reason=reason, metadata=metadata, violations=named)
