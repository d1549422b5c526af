"""The servicer of google.cloud.storagebatchoperations.v1.StorageBatchOperations.

Methods are called by the name of their RPC in snake_case, with the request message, and give the
reply message; errors are errors.Error. Each change is one transaction.

Pages of lists are made in the database's threads, other messages by their size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row

from longshore import names
from longshore.api import messages, validation, wire
from longshore.api.by_size import BySize
from longshore.api.fields import bucket_operation_fields, job_fields
from longshore.api.job_watch import JobWatch
from longshore.api.listing import Listing, Order
from longshore.api.page_tokens import TokenKey
from longshore.clock import Clock
from longshore.database import Database, lists
from longshore.database import jobs as statements
from longshore.database.jobs import Counted, NewJob, Request
from longshore.database.tables import bucket_operations, jobs
from longshore.errors import (
    AlreadyExists,
    Error,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
)
from longshore.model import State
from longshore.names import BucketOperationName, JobName

MayUse = Callable[[str, str], bool]
"""Whether jobs of a project may use a bucket."""
CANCELLING_WAIT_SECONDS = 5.0
"""How long the deletion of a job that is being cancelled waits for its end."""

_JOB_ORDER = Order(
    columns={"name": jobs.c.job_id, "create_time": jobs.c.create_us}, id=jobs.c.id, default="name"
)
_BUCKET_OPERATION_ORDER = Order(
    columns={
        "name": bucket_operations.c.bucket_operation_id,
        "create_time": bucket_operations.c.create_us,
    },
    id=bucket_operations.c.id,
    default="create_time",  # all are created at once, so this is the order of the bucket list
)


def not_found(name: object) -> NotFound:
    """The error for a resource that is not there; the message has its whole name."""
    return NotFound(f"Resource '{name}' was not found.", reason="RESOURCE_NOT_FOUND")


class Jobs:
    """Create, get, list, cancel and delete jobs; get and list their bucket operations."""

    def __init__(self, database: Database, clock: Clock, by_size: BySize, may_use: MayUse) -> None:
        self._database = database
        self._clock = clock
        self._by_size = by_size
        self._may_use = may_use
        self._token_key = TokenKey(database)
        self._watch = JobWatch(database, clock, statements.open_jobs)

    async def create_job(self, request: Any, creator: str | None = None) -> Any:
        """The operation of a new job, or of the one that the same request made before; ``creator``
        is the principal who asks.

        Raises PermissionDenied for buckets that the project may not use, whether they exist or not.
        """
        size = request.ByteSize()
        if request.job.HasField("project_source"):  # a filter is a program that is compiled
            new, repeatable = await self._by_size.in_thread(_checked, request)
        else:
            new, repeatable = await self._by_size.run(size, _checked, request)
        _refuse_foreign_buckets(new.project, request.job.bucket_list.buckets, self._may_use)
        new = replace(new, creator=creator)
        counted = await self._database.write(_create, new, repeatable, self._clock.now_us())
        return await self._by_size.run(size, messages.operation_message, counted)

    async def get_job(self, request: Any) -> Any:
        """The job with its counters so far."""
        name = names.parse_job(request.name)
        counted = await self._database.glance(statements.ended_jobs, statements.counted_jobs, name)
        if counted is None:
            raise not_found(name)
        return await self._by_size.run(
            messages.size_bytes(counted.row), messages.job_message, counted
        )

    async def list_jobs(self, request: Any) -> Any:
        """A page of the project's jobs, by name unless asked otherwise."""
        project = names.parse_location(request.parent, wildcard=True)
        listing = Listing.of(
            request,
            scope=f"jobs of {request.parent}",
            order_by=request.order_by,
            order=_JOB_ORDER,
            fields=job_fields(project),
            token_key=await self._token_key.get(),
        )
        return await self._database.read(_list, project, listing)

    async def cancel_job(self, request: Any) -> Any:
        """{}; the job ends soon after. Raises FailedPrecondition if it has SUCCEEDED or FAILED."""
        name = names.parse_job(request.name)
        repeatable = _repeatable(request, "CancelJob", name.project)
        await self._database.write(_cancel, name, repeatable, self._clock.now_us())
        return wire.CancelJobResponse()

    async def delete_job(self, request: Any) -> Any:
        """{}; the job and its bucket operations are gone, its operation stays readable.

        Raises FailedPrecondition for an open job (one that is being cancelled gets
        CANCELLING_WAIT_SECONDS to end) and for a multi-bucket job without ``force``.
        """
        name = names.parse_job(request.name)
        repeatable = _repeatable(request, "DeleteJob", name.project)
        cancelling = await self._delete(name, request.force, repeatable)
        if cancelling is not None:
            await self._watch.ended(cancelling, CANCELLING_WAIT_SECONDS)
            cancelling = await self._delete(name, request.force, repeatable)
        if cancelling is not None:
            raise _still_open(name, "being cancelled")
        return wire.Empty()

    async def _delete(self, name: JobName, force: bool, repeatable: Request | None) -> int | None:
        return await self._database.write(_delete, name, force, repeatable, self._clock.now_us())

    async def get_bucket_operation(self, request: Any) -> Any:
        """A job's part in one bucket."""
        name = names.parse_bucket_operation(request.name)
        return await self._database.read(_get_bucket_operation, name)

    async def list_bucket_operations(self, request: Any) -> Any:
        """A page of a job's parts, in the order of its bucket list unless asked otherwise."""
        name = names.parse_job(request.parent)
        listing = Listing.of(
            request,
            scope=f"bucket operations of {name}",
            order_by=request.order_by,
            order=_BUCKET_OPERATION_ORDER,
            fields=bucket_operation_fields(name),
            token_key=await self._token_key.get(),
        )
        return await self._database.read(_list_bucket_operations, name, listing)


def _checked(request: Any) -> tuple[NewJob, Request | None]:
    """The job that a CreateJobRequest asks for, and how to recognise a repetition."""
    project = names.parse_location(request.parent)
    repeatable = _repeatable(request, "CreateJob", project)
    job_id = request.job_id or names.new_job_id()
    return validation.new_job(project, job_id, request.job), repeatable


def _refuse_foreign_buckets(project: str, buckets: Any, may_use: MayUse) -> None:
    for one in buckets:
        manifest = one.manifest.manifest_location.removeprefix("gs://").partition("/")[0]
        for bucket in filter(None, (one.bucket, manifest)):
            if not may_use(project, bucket):
                raise PermissionDenied(
                    f"Jobs of the project {project!r} may not use the bucket {bucket!r}, whether it"
                    " exists or not: the server's settings have no such pattern for the project, or"
                    " say that logs of jobs go there.",
                    reason="BUCKET_NOT_ALLOWED",
                    metadata={"bucket": bucket, "project": project},
                )


def _repeatable(request: Any, method: str, project: str) -> Request | None:
    """How to recognise a repetition of ``request``; None if it has no request id."""
    request_id = validation.check_request_id(request.request_id)
    if not request_id:
        return None
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    digest = hashlib.blake2b(content.SerializeToString(deterministic=True), digest_size=16)
    return Request(project, method, request_id, digest.digest())


def _create(
    connection: Connection, new: NewJob, repeatable: Request | None, now_us: int
) -> Counted:
    if repeatable and (first := statements.replayed(connection, repeatable)):
        row = statements.job_by_row_id(connection, first.job)
        if row is None or row.operation_delete_us is not None:
            raise NotFound(
                f"The request {repeatable.request_id!r} created a job before, and its operation has"
                " been deleted since. Choose a new request id to create another job.",
                reason="RESOURCE_NOT_FOUND",
            )
        return statements.count_jobs(connection, [row])[0]
    counted = statements.create_job(connection, new, now_us)
    if counted is None:
        name = JobName(new.project, new.job_id)
        raise AlreadyExists(
            f"Resource '{name}' already exists; choose another job id or delete that job.",
            reason="RESOURCE_ALREADY_EXISTS",
        )
    if repeatable:
        statements.remember(connection, repeatable, counted.row.id, now_us)
    return counted


def _find(connection: Connection, name: JobName, *, lock: bool = False) -> Row[Any]:
    row = statements.find_job(connection, *name, lock=lock)
    if row is None:
        raise not_found(name)
    return row


def _list(connection: Connection, project: str, listing: Listing) -> Any:
    found = lists.list_jobs(connection, project, listing.page)
    page, token = listing.fill(found, messages.job_message)
    return wire.ListJobsResponse(jobs=page, next_page_token=token)


def _cancel(connection: Connection, name: JobName, repeatable: Request | None, now_us: int) -> None:
    if repeatable and statements.replayed(connection, repeatable):
        return
    row = _find(connection, name, lock=True)
    if State(row.state) in (State.SUCCEEDED, State.FAILED):
        raise FailedPrecondition(
            f"Job '{name}' has ended as {row.state} and can't be cancelled any more.",
            reason="JOB_FINISHED",
        )
    statements.cancel_job(connection, row.id, now_us)
    if repeatable:
        statements.remember(connection, repeatable, row.id, now_us)


def _delete(
    connection: Connection, name: JobName, force: bool, repeatable: Request | None, now_us: int
) -> int | None:
    """None: the job is gone now; else its row, and it is being cancelled."""
    if repeatable and statements.replayed(connection, repeatable):
        return None
    row = _find(connection, name, lock=True)
    if row.multi_bucket and not force:
        raise FailedPrecondition(
            f"Job '{name}' has several bucket operations; set force=true to delete them with it.",
            reason="FORCE_REQUIRED",
        )
    if State(row.state).open:
        if row.cancel_us is not None:
            return int(row.id)
        raise _still_open(name, row.state)
    statements.delete_job(connection, row, now_us)
    if repeatable:
        statements.remember(connection, repeatable, row.id, now_us)
    return None


def _still_open(name: JobName, state: str) -> Error:
    return FailedPrecondition(
        f"Job '{name}' is {state}; cancel it and wait for its end, then delete it.",
        reason="JOB_NOT_FINISHED",
    )


def _get_bucket_operation(connection: Connection, name: BucketOperationName) -> Any:
    parent = statements.find_job(connection, name.project, name.job)
    row = parent and statements.find_bucket_operation(connection, parent.id, name.bucket_operation)
    if parent is None or row is None:
        raise not_found(name)
    [counted] = statements.count_bucket_operations(connection, [row])
    return messages.bucket_operation_message(counted, parent, messages.load(parent.message))


def _list_bucket_operations(connection: Connection, name: JobName, listing: Listing) -> Any:
    parent = _find(connection, name)
    found = lists.list_bucket_operations(connection, parent.id, listing.page)
    config = messages.load(parent.message)
    page, token = listing.fill(
        found, lambda one: messages.bucket_operation_message(one, parent, config)
    )
    return wire.ListBucketOperationsResponse(bucket_operations=page, next_page_token=token)
