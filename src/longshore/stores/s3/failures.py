"""What a service refuses or fails at, in S3's words, as errors of longshore."""

from __future__ import annotations

import re
from collections.abc import Mapping

from longshore import object_rules as rules
from longshore.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    Code,
    Error,
    FailedPrecondition,
    Internal,
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
from longshore.stores.s3 import markup
from longshore.stores.s3.markup import Element
from longshore.transport.http import Reply

_KINDS: Mapping[type[Error], str] = {
    NotFound: "NoSuchKey NoSuchVersion NoSuchUpload NoSuchTagSet",
    PermissionDenied: "AccessDenied AllAccessDisabled AccountProblem InvalidPayer NotSignedUp",
    Unauthenticated: "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken"
    " TokenRefreshRequired RequestTimeTooSkewed RequestExpired AuthorizationHeaderMalformed",
    ResourceExhausted: "SlowDown SlowDownRead SlowDownWrite TooManyRequests RequestLimitExceeded"
    " Throttling ThrottlingException RequestThrottled BandwidthLimitExceeded",
    Unavailable: "ServiceUnavailable InternalError InternalFailure RequestTimeout Busy"
    " RequestTimeTooLong XMinioServerNotInitialized",
    Aborted: "PreconditionFailed ConditionalRequestConflict OperationAborted",
    FailedPrecondition: "InvalidObjectState InvalidRequest InvalidBucketState PermanentRedirect"
    " QuotaExceeded TooManyBuckets ObjectLockConfigurationNotFoundError"
    " NoSuchObjectLockConfiguration ObjectAlreadyInActiveTierError RestoreAlreadyInProgress",
    AlreadyExists: "BucketAlreadyExists BucketAlreadyOwnedByYou",
    Unimplemented: "NotImplemented XNotImplemented MethodNotAllowed",
    OutOfRange: "InvalidRange",
}
_BY_WORD = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_BY_STATUS: Mapping[int, type[Error]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    408: Unavailable,
    409: FailedPrecondition,
    412: Aborted,
    416: OutOfRange,
    429: ResourceExhausted,
    501: Unimplemented,
}
_HINTS: Mapping[str, str] = {
    "InvalidAccessKeyId": "The service does not know the access key: check access_key, or the"
    " environment and the profile that the keys come from.",
    "SignatureDoesNotMatch": "Check secret_key, and that region and endpoint are the service's own"
    " (a proxy that changes the host breaks signatures).",
    "RequestTimeTooSkewed": "Set this machine's clock: signatures are good for 15 minutes.",
    "RequestExpired": "Set this machine's clock: signatures are good for 15 minutes.",
    "ExpiredToken": "The session's token has expired: get new keys.",
    "AuthorizationHeaderMalformed": "Check the store's region.",
    "PermanentRedirect": "The bucket is in another region: check the store's endpoint and region.",
    "InvalidObjectState": "It is in an archive: restore it first.",
    "QuotaExceeded": "A quota of the service is used up.",
}
_ERROR = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*<(?:[A-Za-z0-9]+:)?Error[\s/>]")


class Unsent(Cancelled):
    """A request was not sent, since its shard is to stop."""


def failure_of(error: Error) -> Failure:
    """The failure of the one object that a request was about."""
    return UNSENT if isinstance(error, Unsent) else Failure(error.code, error.message)


def error_of(failure: Failure) -> Error:
    """A failure of one object as an exception, on its way to its lane."""
    return next(
        kind(failure.message) for kind in Error.__subclasses__() if kind.code is failure.code
    )


def is_error(reply: Reply) -> bool:
    """Whether the body says that something went wrong: it does with status 200 too, where the
    service had to begin its reply before it knew."""
    return _ERROR.match(reply.body) is not None


def region_in(reply: Reply) -> str:
    """The region in which a refused request would be granted; "" if the body names none."""
    return _element(reply).get("Region")


def translate(reply: Reply, verb: str, bucket: str, key: str = "") -> Error:
    """The error for a reply that refuses ``verb``."""
    found = _element(reply)
    word, said = found.get("Code"), found.get("Message")
    if reply.status == 404 and not word and not key:
        word = "NoSuchBucket"
    return error_for(word, said or f"status {reply.status}", verb, bucket, key, reply.status)


def error_for(
    word: str, said: str, verb: str, bucket: str, key: str = "", status: int = 400
) -> Error:
    """The error for one of S3's words for what went wrong ("" if it gave none), with what it
    ``said``."""
    if word == "NoSuchBucket":
        return rules.no_bucket(bucket)
    kind = _BY_WORD.get(word) or _by_status(status, word)
    path = f"{bucket}/{key}" if key else bucket
    if kind is NotFound and key:
        return NotFound(rules.missing(path, live=False).message)
    if word == "BucketNotEmpty":
        return rules.not_empty(bucket)
    if kind is AlreadyExists:
        return rules.bucket_exists(bucket)
    what = f"the object '{path}'" if key else f"the bucket '{path}'" if bucket else "the service"
    answer = ": ".join(filter(None, (word, said)))
    hint = f" {_HINTS[word]}" if word in _HINTS else ""
    return kind(f"The store answered {verb} of {what} with {answer.rstrip('.')}.{hint}")


def _by_status(status: int, word: str) -> type[Error]:
    if word.startswith("KMS."):
        return FailedPrecondition
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Unavailable
    return FailedPrecondition if 300 <= status < 400 else Unknown


def _element(reply: Reply) -> Element:
    """The <Error> of a reply; an empty one where there is none, as with HEAD and from proxies."""
    if not _ERROR.match(reply.body):
        return Element("Error")
    try:
        return markup.read(reply.body, "Error")
    except Internal:
        return Element("Error")


OVERLOAD = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""What says that the service has too much to do."""
