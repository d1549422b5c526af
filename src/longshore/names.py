"""Resource names: parse, format, and new ids.

``projects/P/locations/global/jobs/J``, ``…/jobs/J/bucketOperations/B``, ``…/operations/O``.
"""

from __future__ import annotations

import re
import secrets
import uuid
from typing import NamedTuple

from longshore.errors import InvalidArgument, NotFound

LOCATION = "global"
JOB_ID_MAX_LENGTH = 128
_JOB_ID = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9]([a-z0-9._-]{0,220}[a-z0-9])?")
_PROJECT = re.compile(r"[^/\x00-\x1f\x7f]{1,128}")


class JobName(NamedTuple):
    """A job's place: its project and its id."""

    project: str
    job: str

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{LOCATION}/jobs/{self.job}"


class OperationName(NamedTuple):
    """A long-running operation's place."""

    project: str
    operation: str

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{LOCATION}/operations/{self.operation}"


class BucketOperationName(NamedTuple):
    """The place of a job's part in one bucket."""

    project: str
    job: str
    bucket_operation: str

    def __str__(self) -> str:
        return f"{JobName(self.project, self.job)}/bucketOperations/{self.bucket_operation}"


def parse_job(name: str) -> JobName:
    """Raises InvalidArgument if ``name`` is no job's name, NotFound if the location is foreign."""
    project, job = _split(name, "jobs")
    return JobName(project, job)


def parse_operation(name: str) -> OperationName:
    """Raises InvalidArgument if ``name`` is no operation's, NotFound for a foreign location."""
    project, operation = _split(name, "operations")
    return OperationName(project, operation)


def parse_bucket_operation(name: str) -> BucketOperationName:
    """Raises InvalidArgument if ``name`` is none of a bucket operation, NotFound as above."""
    project, job, bucket_operation = _split(name, "jobs", "bucketOperations")
    return BucketOperationName(project, job, bucket_operation)


def parse_location(name: str, *, wildcard: bool = False) -> str:
    """The project of ``projects/P/locations/global``; with ``wildcard``, ``-`` is accepted too."""
    project, *_ = _split(name, wildcard=wildcard)
    return project


def parse_project(name: str) -> str:
    """The project of ``projects/P``."""
    project = project_of(name)
    if "/" in name.removeprefix("projects/"):
        raise _no_project(name)
    return project


def project_of(name: str) -> str:
    """The project that any of these names begins with, whether the rest is a name or not."""
    head, *rest = name.split("/", 2)
    if head != "projects" or not rest or not _PROJECT.fullmatch(rest[0]):
        raise _no_project(name)
    return rest[0]


def _no_project(name: str) -> InvalidArgument:
    return _invalid(f"Invalid name {name!r}: expected projects/PROJECT.")


def _invalid(text: str) -> InvalidArgument:
    return InvalidArgument(text, reason="RESOURCE_NAME_INVALID")


def _split(name: str, *collections: str, wildcard: bool = False) -> list[str]:
    parts = name.split("/")
    words = ["projects", "locations", *collections]
    ids = parts[1::2]
    if parts[::2] != words or len(ids) != len(words) or not all(ids):
        pattern = "/".join(f"{word}/*" for word in words)
        raise _invalid(f"Invalid resource name {name!r}: expected the form {pattern}.")
    if not _PROJECT.fullmatch(ids[0]):
        raise _invalid(f"Invalid resource name {name!r}: {ids[0]!r} is no project id.")
    if ids[1] != LOCATION and not (wildcard and ids[1] == "-"):
        raise NotFound(
            f"Resource '{name}' was not found: the only location is {LOCATION!r}.",
            reason="RESOURCE_NOT_FOUND",
        )
    return [ids[0], *ids[2:]]


def check_job_id(job_id: str) -> None:
    """Raises InvalidArgument, reason JOB_ID_INVALID, as the error catalogue says."""
    if len(job_id) > JOB_ID_MAX_LENGTH or not _JOB_ID.fullmatch(job_id):
        raise InvalidArgument(
            f"Invalid job ID {job_id!r}. Job ID must match the pattern"
            f" [a-z0-9]([-a-z0-9]*[a-z0-9])? and have at most {JOB_ID_MAX_LENGTH} characters.",
            reason="JOB_ID_INVALID",
        )


def is_bucket_name(name: str) -> bool:
    """Whether ``name`` is one that a store could give: no slash, no dot at its ends.

    Shorter ones than Cloud Storage allows are accepted, as its examples use them."""
    return _BUCKET.fullmatch(name) is not None


def new_job_id() -> str:
    """An id for a job whose creator gave none; matches the pattern of job ids."""
    return f"job-{uuid.uuid4()}"


def new_operation_id(now_us: int) -> str:
    """An id in the shape that the sibling Google APIs use (reference 3.2)."""
    parts = (secrets.token_hex(8)[:13], secrets.token_hex(4), secrets.token_hex(4))
    return f"operation-{now_us // 1000:013d}-{'-'.join(parts)}"


def new_bucket_operation_id() -> str:
    """An id for a job's part in one bucket."""
    return str(uuid.uuid4())
