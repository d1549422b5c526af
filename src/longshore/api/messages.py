"""Rows ⇄ messages. A job's configuration is stored as the JSON that its creator could have sent.

JSON rather than protobuf bytes, because the announced fields have no published numbers and ours
must not outlive the process.
"""

from __future__ import annotations

import threading
from typing import Any

import orjson
import zstandard
from sqlalchemy import Row

from longshore.api import json_messages, wire
from longshore.database.jobs import Counted
from longshore.errors import Code
from longshore.model import Counters, Errors
from longshore.names import BucketOperationName, JobName, OperationName

API_VERSION = "v1"
OUTPUT_ONLY = (
    "name",
    "create_time",
    "schedule_time",
    "complete_time",
    "counters",
    "error_summaries",
    "state",
    "is_multi_bucket_job",
)
"""Fields of a Job that are ours to say; in a request they are ignored."""
PROJECT_SOURCE = "project_source"
"""The source of a whole job, which finds its buckets."""
CONTEXT_TRANSFORMATION = "update_object_custom_context"

_mine = threading.local()


def dump(job: Any) -> bytes:
    """What a Job's creator set, for its row; presence is kept ("" clears, absent leaves)."""
    return zstandard.compress(orjson.dumps(json_messages.to_json(job)))


def size_bytes(row: Row[Any]) -> int:
    """How large the message of a job's row is, but for what has been counted for it."""
    return int(zstandard.frame_content_size(row.message))


def load(data: bytes) -> Any:
    """The Job behind ``dump``."""
    job = wire.Job()
    problems = json_messages.Problems()
    json_messages.read(orjson.loads(_decompressor().decompress(data)), job, "", problems)
    problems.raise_any()
    return job


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's: to make one takes longer than to use it."""
    if not hasattr(_mine, "decompressor"):
        _mine.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _mine.decompressor
    return decompressor


def job_message(counted: Counted) -> Any:
    """The Job of a row."""
    row, counters, errors = counted
    job = load(row.message)
    job.name = str(JobName(row.project, row.job_id))
    job.state = wire.Job.State.Value(row.state)
    job.is_multi_bucket_job = row.multi_bucket
    _set_time(job, "create_time", row.create_us)
    _set_time(job, "schedule_time", row.schedule_us)
    _set_time(job, "complete_time", row.complete_us)
    listed = any(bucket.HasField("prefix_list") for bucket in job.bucket_list.buckets)
    _set_counters(job.counters, counters, row.transformation_name, listed=listed)
    _add_errors(job.error_summaries, errors)
    return job


def bucket_operation_message(counted: Counted, parent: Row[Any], config: Any) -> Any:
    """The BucketOperation of a row; ``config`` is what ``load`` gives for the job's row."""
    row, counters, errors = counted
    message = wire.BucketOperation(bucket_name=row.bucket)
    message.name = str(BucketOperationName(parent.project, parent.job_id, row.bucket_operation_id))
    message.state = wire.BucketOperation.State.Value(row.state)
    _set_time(message, "create_time", row.create_us)
    _set_time(message, "start_time", row.start_us)
    _set_time(message, "complete_time", row.complete_us)
    source = config if config.HasField(PROJECT_SOURCE) else config.bucket_list.buckets[row.position]
    getattr(message, row.source_name).CopyFrom(getattr(source, row.source_name))
    transformation = parent.transformation_name
    getattr(message, transformation).CopyFrom(getattr(config, transformation))
    listed = row.source_name == "prefix_list"
    _set_counters(message.counters, counters, transformation, listed=listed)
    _add_errors(message.error_summaries, errors)
    return message


def operation_message(counted: Counted) -> Any:
    """The operation of a job: a view of its row.

    Google's Python client parses what is in an operation strictly, so the one output field that its
    package lacks is left out here; announced fields that the creator set are theirs to see.
    """
    row = counted.row
    job = job_message(counted)
    job.counters.ClearField("total_bytes_transformed")
    name = str(OperationName(row.project, row.operation_id))
    metadata = wire.OperationMetadata(
        operation=name, requested_cancellation=row.cancel_us is not None, api_version=API_VERSION
    )
    metadata.job.CopyFrom(job)
    _set_time(metadata, "create_time", row.create_us)
    _set_time(metadata, "end_time", row.complete_us)
    operation = wire.Operation(name=name, done=row.complete_us is not None)
    operation.metadata.CopyFrom(wire.pack(metadata))
    if row.state == "SUCCEEDED":
        operation.response.CopyFrom(wire.pack(job))
    elif operation.done:
        operation.error.code = Code[row.error_code or Code.UNKNOWN.name]
        operation.error.message = row.error_message or f"The job ended as {row.state}."
    return operation


def _set_time(message: Any, field: str, time_us: int | None) -> None:
    if time_us is not None:
        seconds, micros = divmod(time_us, 1_000_000)
        time = getattr(message, field)
        time.seconds, time.nanos = seconds, micros * 1000


def _set_counters(message: Any, counters: Counters, transformation: str, *, listed: bool) -> None:
    """The optional counters are there, also when 0, only where they mean something."""
    message.SetInParent()
    message.total_object_count = counters.total
    message.succeeded_object_count = counters.succeeded
    message.failed_object_count = counters.failed
    message.total_bytes_transformed = counters.bytes_transformed
    if listed:
        message.total_bytes_found = counters.bytes_found
    if transformation == CONTEXT_TRANSFORMATION:
        message.object_custom_contexts_created = counters.contexts_created
        message.object_custom_contexts_deleted = counters.contexts_deleted
        message.object_custom_contexts_updated = counters.contexts_updated


def _add_errors(summaries: Any, errors: Errors) -> None:
    for code in sorted(errors):
        summary = summaries.add(error_code=int(code), error_count=errors[code].count)
        for uri, text in errors[code].samples:
            summary.error_log_entries.add(object_uri=uri, error_details=[text])
