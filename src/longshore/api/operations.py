"""The servicer of google.longrunning.Operations: each operation is a view of a job's row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from longshore import names
from longshore.api import messages, wire
from longshore.api.by_size import BySize
from longshore.api.fields import operation_fields
from longshore.api.job_watch import JobWatch
from longshore.api.jobs import not_found
from longshore.api.listing import Listing, Order
from longshore.api.page_tokens import TokenKey
from longshore.clock import Clock
from longshore.database import Database, lists
from longshore.database import jobs as statements
from longshore.database.jobs import Counted
from longshore.database.tables import jobs
from longshore.errors import Unimplemented, invalid_field
from longshore.names import OperationName

WAIT_MAX_SECONDS = 300.0
"""How long WaitOperation waits at most, and how long where the request says nothing."""

# Ids begin with the time, so the order of names is that of creation.
_ORDER = Order(columns={"name": jobs.c.operation_id}, id=jobs.c.id, default="name")


class Operations:
    """Get, list, cancel, delete the operations of jobs, and wait for them."""

    def __init__(self, database: Database, clock: Clock, by_size: BySize) -> None:
        self._database = database
        self._by_size = by_size
        self._clock = clock
        self._token_key = TokenKey(database)
        self._watch = JobWatch(database, clock, statements.open_operations)

    async def get_operation(self, request: Any) -> Any:
        """The operation as its job's row has it now."""
        counted = await self._counted(names.parse_operation(request.name))
        return await self._message(counted)

    async def _counted(self, name: OperationName) -> Counted:
        counted = await self._database.glance(
            statements.ended_operations, statements.counted_operations, name
        )
        if counted is None:
            raise not_found(name)
        return counted

    async def _message(self, counted: Counted) -> Any:
        size = messages.size_bytes(counted.row)
        return await self._by_size.run(size, messages.operation_message, counted)

    async def list_operations(self, request: Any) -> Any:
        """A page of the project's operations, by name."""
        project = names.parse_location(request.name, wildcard=True)
        if request.return_partial_success:
            raise Unimplemented("return_partial_success is not supported: leave it out.")
        listing = Listing.of(
            request,
            scope=f"operations of {request.name}",
            order_by="",
            order=_ORDER,
            fields=operation_fields(project),
            token_key=await self._token_key.get(),
        )
        return await self._database.read(_list, project, listing)

    async def cancel_operation(self, request: Any) -> Any:
        """{}; the operation ends soon after with code 1. A finished one stays as it is."""
        name = names.parse_operation(request.name)
        await self._database.write(_cancel, name, self._clock.now_us())
        return wire.Empty()

    async def delete_operation(self, request: Any) -> Any:
        """{}; the operation is gone from get and list. Its job stays and is not cancelled."""
        name = names.parse_operation(request.name)
        await self._database.write(_delete, name, self._clock.now_us())
        return wire.Empty()

    async def wait_operation(self, request: Any) -> Any:
        """The operation once it is done, or as it is after ``timeout``.

        Raises NotFound also where the operation is deleted meanwhile.
        """
        name = names.parse_operation(request.name)
        seconds = _timeout(request)
        counted = await self._counted(name)
        if counted.row.complete_us is None:
            await self._watch.ended(counted.row.id, seconds)
            counted = await self._counted(name)
        return await self._message(counted)


def _timeout(request: Any) -> float:
    if not request.HasField("timeout"):
        return WAIT_MAX_SECONDS
    seconds = float(request.timeout.seconds + request.timeout.nanos / 1e9)
    if seconds < 0:
        text = f"Invalid timeout: {seconds:g} s must not be negative."
        raise invalid_field("timeout", text, reason="TIMEOUT_INVALID")
    return min(seconds, WAIT_MAX_SECONDS)


def _find(connection: Connection, name: OperationName) -> Row[Any]:
    row = statements.find_operation(connection, *name, lock=True)
    if row is None:
        raise not_found(name)
    return row


def _list(connection: Connection, project: str, listing: Listing) -> Any:
    found = lists.list_operations(connection, project, listing.page)
    page, token = listing.fill(found, messages.operation_message)
    return wire.ListOperationsResponse(operations=page, next_page_token=token)


def _cancel(connection: Connection, name: OperationName, now_us: int) -> None:
    statements.cancel_job(connection, _find(connection, name).id, now_us)


def _delete(connection: Connection, name: OperationName, now_us: int) -> None:
    statements.delete_operation(connection, _find(connection, name), now_us)
