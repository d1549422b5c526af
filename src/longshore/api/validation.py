"""Every check of a new job that needs no bucket, with the reasons of the error catalogue.

All that is wrong is reported at once, up to VIOLATIONS_MAX; the reason is that of the first
finding.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from longshore import extensions, names
from longshore.api import messages, wire
from longshore.database.jobs import NewJob
from longshore.database.parts import NO_BUCKET, NewPart
from longshore.errors import (
    VIOLATIONS_MAX,
    Error,
    FailedPrecondition,
    InvalidArgument,
    Unimplemented,
    Violation,
    invalid_field,
    refuse,
)

NAME_MAX_BYTES = 512
DESCRIPTION_MAX_BYTES = 1024
BUCKETS_MAX = 1000
PREFIXES_MAX = 1000
_TRANSFORM = "TRANSFORM"


class _Findings:
    """What is wrong, in the order of finding."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []
        self._reason = ""
        self._metadata: Mapping[str, str] = {}

    def add(self, field: str, description: str, reason: str, **metadata: str) -> None:
        """``field`` is the path in the CreateJobRequest."""
        if not self._violations:
            self._reason, self._metadata = reason, metadata
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(Violation(field, description))

    def collect(self, field: str, error: Error, reason: str) -> None:
        """Take over what an extension, to which its message is the root, says is wrong."""
        for path, description in error.violations or (Violation("", error.message),):
            where = f"{field}.{path}" if path else field
            self.add(where, description, error.reason or reason, **error.metadata)

    def raise_any(self) -> None:
        """Raises InvalidArgument if there is any."""
        refuse(self._violations, reason=self._reason, metadata=self._metadata)


def new_job(project: str, job_id: str, job: Any) -> NewJob:
    """The checked job, as the database takes it; raises InvalidArgument.

    Output-only fields of ``job`` are cleared rather than refused.
    """
    for field in messages.OUTPUT_ONLY:
        job.ClearField(field)
    findings = _Findings()
    _check_name(project, job_id, findings)
    size = len(job.description.encode())
    if size > DESCRIPTION_MAX_BYTES:
        findings.add(
            "job.description",
            f"The description has {size} bytes; at most {DESCRIPTION_MAX_BYTES} are allowed.",
            "DESCRIPTION_TOO_LONG",
            max_length=str(DESCRIPTION_MAX_BYTES),
        )
    if job.HasField(messages.PROJECT_SOURCE):
        parts = _to_be_found(project, job.project_source, findings)
    else:
        parts = _parts(job, findings)
    transformation_name, transformation = _transformation(job, findings)
    log_states = _log_states(job.logging_config, findings)
    findings.raise_any()
    return NewJob(
        project=project,
        job_id=job_id,
        description=job.description,
        message=messages.dump(job),
        dry_run=job.dry_run,
        transformation_name=transformation_name,
        transformation=transformation,
        log_states=log_states,
        parts=parts,
    )


def check_request_id(request_id: str) -> str:
    """The id in its one spelling, "" if there is none; raises InvalidArgument."""
    if not request_id:
        return ""
    try:
        parsed = uuid.UUID(request_id)
    except ValueError:
        parsed = uuid.UUID(int=0)
    # uuid takes braces, prefixes and hyphens anywhere; the API has one spelling, in either case.
    if parsed.int == 0 or str(parsed) != request_id.lower():
        text = f"Invalid request_id {request_id!r}: it must be a UUID other than all zeros."
        raise invalid_field("request_id", text, reason="REQUEST_ID_INVALID")
    return str(parsed)


def _check_name(project: str, job_id: str, findings: _Findings) -> None:
    try:
        names.check_job_id(job_id)
    except InvalidArgument as error:
        findings.collect("job_id", error, error.reason)
    name = str(names.JobName(project, job_id))
    if len(name.encode()) > NAME_MAX_BYTES:
        findings.add(
            "job_id",
            f"The job's name has more than {NAME_MAX_BYTES} bytes.",
            "RESOURCE_NAME_TOO_LONG",
            max_length=str(NAME_MAX_BYTES),
        )


def _to_be_found(project: str, source: Any, findings: _Findings) -> list[NewPart]:
    """The part without a bucket of which the engine makes the job's bucket operations.

    Raises FailedPrecondition for a selection by a dry run.
    """
    path = f"job.{messages.PROJECT_SOURCE}"
    if source.dry_run_job_id:
        raise FailedPrecondition(
            "project_source.dry_run_job_id names a dry run, and this server does not keep what one"
            " has found: that comes with plans. Give the filters of that job instead.",
            reason="DRY_RUN_SELECTION_UNSUPPORTED",
        )
    source.ClearField("snapshot_time")  # ours to say, and we have none
    if source.project != f"projects/{project}":
        text = (
            f"project_source.project is {source.project!r}; it must be the project of the job,"
            f" 'projects/{project}'."
        )
        findings.add(f"{path}.project", text, "PROJECT_SOURCE_PROJECT_INVALID")
    data = _plain_data("sources", messages.PROJECT_SOURCE, source, path, findings)
    return [NewPart(bucket=NO_BUCKET, source_name=messages.PROJECT_SOURCE, source=data)]


def _parts(job: Any, findings: _Findings) -> list[NewPart]:
    if not job.HasField("bucket_list"):
        text = "The job has no source: set bucket_list or project_source."
        findings.add("job", text, "SOURCE_NOT_SPECIFIED")
        return []
    buckets = job.bucket_list.buckets
    if not buckets:
        text = "bucket_list has no buckets; it must have at least one."
        findings.add("job.bucket_list.buckets", text, "BUCKET_LIST_EMPTY")
    if len(buckets) > BUCKETS_MAX:
        findings.add(
            "job.bucket_list.buckets",
            f"bucket_list has {len(buckets)} buckets; at most {BUCKETS_MAX} are allowed.",
            "TOO_MANY_BUCKETS",
            max_buckets=str(BUCKETS_MAX),
        )
        return []
    if _too_many_prefixes(buckets, findings):
        return []
    seen: set[str] = set()
    # Clients copy one list of prefixes to every bucket: check and keep each distinct one once.
    sources: dict[tuple[str, bytes], Mapping[str, Any]] = {}
    parts = []
    for index, bucket in enumerate(buckets):
        path = f"job.bucket_list.buckets[{index}]"
        _check_bucket(bucket.bucket, path, seen, findings)
        kind = bucket.WhichOneof("object_configuration")
        if kind is None:
            findings.add(
                path,
                f"{path} must have a prefix_list or a manifest.",
                "OBJECT_CONFIGURATION_REQUIRED",
            )
            continue
        source = getattr(bucket, kind)
        key = (kind, source.SerializeToString())
        if key not in sources:
            sources[key] = _plain_data("sources", kind, source, f"{path}.{kind}", findings)
        parts.append(NewPart(bucket=bucket.bucket, source_name=kind, source=sources[key]))
    return parts


def _check_bucket(name: str, path: str, seen: set[str], findings: _Findings) -> None:
    field = f"{path}.bucket"
    if not name:
        findings.add(field, f"{path} has no bucket name.", "BUCKET_NAME_REQUIRED")
    elif not names.is_bucket_name(name):
        text = f"{name!r} is no bucket name; give the bare name, without gs://."
        findings.add(field, text, "BUCKET_NAME_INVALID")
    elif name in seen:
        findings.add(field, f"The bucket {name!r} is listed twice.", "BUCKET_NAME_DUPLICATE")
    seen.add(name)


def _too_many_prefixes(buckets: Any, findings: _Findings) -> bool:
    """Distinct ones count: clients copy one list to every bucket."""
    prefixes: set[str] = set()
    for bucket in buckets:
        prefixes.update(bucket.prefix_list.included_object_prefixes)
    if len(prefixes) <= PREFIXES_MAX:
        return False
    findings.add(
        "job.bucket_list.buckets",
        f"The job has {len(prefixes)} different prefixes; at most {PREFIXES_MAX} are allowed.",
        "TOO_MANY_PREFIXES",
        max_prefixes=str(PREFIXES_MAX),
    )
    return True


def _transformation(job: Any, findings: _Findings) -> tuple[str, Mapping[str, Any]]:
    name = job.WhichOneof("transformation")
    if name is None:
        members = wire.Job.DESCRIPTOR.oneofs_by_name["transformation"].fields
        known = ", ".join(member.name for member in members)
        findings.add(
            "job",
            f"The job must have exactly one transformation of {known}.",
            "TRANSFORMATION_NOT_SPECIFIED",
        )
        return "", {}
    message = getattr(job, name)
    return name, _plain_data("transformations", name, message, f"job.{name}", findings)


def _plain_data(
    folder: str, name: str, message: Any, path: str, findings: _Findings
) -> Mapping[str, Any]:
    """What the extension makes of its message; {} if something is wrong with it.

    A kind that this server lacks is the client's mistake too: a 501 would be tried again by gcloud.
    """
    kind = folder.removesuffix("s")
    try:
        from_message: Callable[[Any], dict[str, Any]] = extensions.load(folder, name).from_message
        return from_message(message)
    except Unimplemented as error:
        text = f"This server does not support the {kind} {name!r}. {error.message}"
        findings.add(path, text, f"{kind.upper()}_UNSUPPORTED")
    except InvalidArgument as error:
        findings.collect(path, error, f"{kind.upper()}_INVALID")
    return {}


def _log_states(config: Any, findings: _Findings) -> list[str]:
    """Which outcomes are logged, by name; none unless actions and states are both given."""
    path = "job.logging_config"
    actions = _enum_names(config, "log_actions", f"{path}.log_actions", findings)
    states = _enum_names(config, "log_action_states", f"{path}.log_action_states", findings)
    return sorted(states) if _TRANSFORM in actions else []


def _enum_names(config: Any, field: str, path: str, findings: _Findings) -> set[str]:
    enum = config.DESCRIPTOR.fields_by_name[field].enum_type
    first: dict[int, int] = {}  # where a number stands first; nothing bounds its repetitions
    for index, number in enumerate(getattr(config, field)):
        first.setdefault(number, index)
    chosen = set()
    for number, index in first.items():
        value = enum.values_by_number.get(number)
        if value is None or number == 0:
            known = ", ".join(one.name for one in enum.values if one.number)
            text = f"{value.name if value else number} is not allowed in {path}; use {known}."
            findings.add(f"{path}[{index}]", text, "LOGGING_CONFIG_INVALID")
        else:
            chosen.add(value.name)
    return chosen
