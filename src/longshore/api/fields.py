"""What filters may name, of jobs, bucket operations and operations (docs/filters.md)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, case, literal

from longshore import extensions
from longshore.api.conditions import Field, Fields, Kind
from longshore.api.messages import API_VERSION
from longshore.database.lists import current_value
from longshore.database.tables import Name, bucket_operations, jobs
from longshore.names import BucketOperationName, JobName, OperationName

_COUNTERS = {
    "total_object_count": "total",
    "succeeded_object_count": "succeeded",
    "failed_object_count": "failed",
    "total_bytes_found": "bytes_found",
    "total_bytes_transformed": "bytes_transformed",
    "object_custom_contexts_created": "contexts_created",
    "object_custom_contexts_deleted": "contexts_deleted",
    "object_custom_contexts_updated": "contexts_updated",
}


def _counters(table: Any) -> Fields:
    return {
        f"counters.{field}": Field(kind=Kind.INT, column=current_value(table, column), counted=True)
        for field, column in _COUNTERS.items()
    }


def _one_of(chosen: Column[str], folder: str) -> Fields:
    """The fields of a oneof, each of which is there or not."""
    return {
        name: Field(kind=Kind.MESSAGE, column=case((chosen == name, 1)))
        for name in extensions.known(folder)
    }


_JOB = {
    "description": Field(kind=Kind.TEXT, column=jobs.c.description),
    "create_time": Field(kind=Kind.TIME, column=jobs.c.create_us),
    "schedule_time": Field(kind=Kind.TIME, column=jobs.c.schedule_us),
    "complete_time": Field(kind=Kind.TIME, column=jobs.c.complete_us),
    "dry_run": Field(kind=Kind.BOOL, column=jobs.c.dry_run),
    "is_multi_bucket_job": Field(kind=Kind.BOOL, column=jobs.c.multi_bucket),
    **_one_of(jobs.c.transformation_name, "transformations"),
    **_counters(jobs),
}
_BUCKET_OPERATION = {
    "bucket_name": Field(kind=Kind.TEXT, column=bucket_operations.c.bucket),
    "state": Field(kind=Kind.STATE, column=bucket_operations.c.state),
    "create_time": Field(kind=Kind.TIME, column=bucket_operations.c.create_us),
    "start_time": Field(kind=Kind.TIME, column=bucket_operations.c.start_us),
    "complete_time": Field(kind=Kind.TIME, column=bucket_operations.c.complete_us),
    **_one_of(bucket_operations.c.source_name, "sources"),
    **_counters(bucket_operations),
}
_API_VERSION: ColumnElement[str] = literal(API_VERSION, Name)
_OPERATION = {
    "done": Field(kind=Kind.BOOL, column=jobs.c.complete_us.is_not(None)),
    "metadata.create_time": Field(kind=Kind.TIME, column=jobs.c.create_us),
    "metadata.end_time": Field(kind=Kind.TIME, column=jobs.c.complete_us),
    "metadata.requested_cancellation": Field(kind=Kind.BOOL, column=jobs.c.cancel_us.is_not(None)),
    "metadata.api_version": Field(kind=Kind.TEXT, column=_API_VERSION),
    "metadata.job.state": Field(kind=Kind.STATE, column=jobs.c.state),
    **{f"metadata.job.{name}": field for name, field in _JOB.items()},
}


def job_fields(project: str) -> Fields:
    """Of a project's jobs."""
    return {
        "name": Field(kind=Kind.TEXT, column=jobs.c.job_id, prefix=str(JobName(project, ""))),
        "state": Field(kind=Kind.STATE, column=jobs.c.state, indexed=True),
        **_JOB,
    }


def bucket_operation_fields(name: JobName) -> Fields:
    """Of the bucket operations of a job."""
    prefix = str(BucketOperationName(name.project, name.job, ""))
    column = bucket_operations.c.bucket_operation_id
    return {"name": Field(kind=Kind.TEXT, column=column, prefix=prefix), **_BUCKET_OPERATION}


def operation_fields(project: str) -> Fields:
    """Of a project's operations."""
    prefix = str(OperationName(project, ""))
    name = Field(kind=Kind.TEXT, column=jobs.c.operation_id, prefix=prefix)
    prefix = str(JobName(project, ""))
    job = Field(kind=Kind.TEXT, column=jobs.c.job_id, prefix=prefix, indexed=True)
    return {"name": name, "metadata.operation": name, "metadata.job.name": job, **_OPERATION}
