"""Every method of the API, by its descriptor: what REST and gRPC both call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import MethodDescriptor

from longshore import names, telemetry
from longshore.api import wire
from longshore.api.auth import Auth
from longshore.api.auth.caller import Caller
from longshore.api.by_size import BySize
from longshore.api.jobs import Jobs
from longshore.api.locations import Locations
from longshore.api.operations import Operations
from longshore.clock import Clock
from longshore.database import Database
from longshore.errors import Code, Error
from longshore.settings import Settings

PREFIX = "storagebatchoperations"


class _Rule(NamedTuple):
    """The permission that a method needs, and the field with the name that it is about.

    ``audited``: each call leaves a record (reference 6.2; bucket operations are newer than that).
    """

    permission: str
    field: str = "name"
    audited: bool = True


_RULES: Mapping[str, _Rule] = {
    "CreateJob": _Rule("jobs.create", "parent"),
    "GetJob": _Rule("jobs.get"),
    "ListJobs": _Rule("jobs.list", "parent"),
    "CancelJob": _Rule("jobs.cancel"),
    "DeleteJob": _Rule("jobs.delete"),  # with ``force`` too, says the contract
    "GetBucketOperation": _Rule("bucketOperations.get"),
    "ListBucketOperations": _Rule("bucketOperations.list", "parent"),
    "GetOperation": _Rule("operations.get"),
    "ListOperations": _Rule("operations.list"),
    "CancelOperation": _Rule("operations.cancel"),
    "DeleteOperation": _Rule("operations.delete"),
    "WaitOperation": _Rule("operations.get", audited=False),
    "GetLocation": _Rule("locations.get", audited=False),
    "ListLocations": _Rule("locations.list", audited=False),
}
METRICS_PERMISSION = f"{PREFIX}.jobs.list"
"""Which a caller must have in every project, whose jobs are counted on the page."""
_RESOURCE_MAX_CHARACTERS = 1024


class Methods:
    """The servicers, whose methods are looked up by the names on their descriptors.

    A call is ``authenticate``, for which a transport need not have read the request yet, and then
    ``perform``.
    """

    def __init__(self, database: Database, clock: Clock, auth: Auth | None = None) -> None:
        self._auth = auth or Auth.fixed(Settings(), clock)
        self.by_size = BySize()
        """For the transports, too."""
        self._servicers: Mapping[str, Any] = {
            wire.SERVICE: Jobs(database, clock, self.by_size, self._auth.may_use),
            wire.OPERATIONS: Operations(database, clock, self.by_size),
            wire.LOCATIONS: Locations(),
        }

    async def authenticate(self, method: MethodDescriptor, headers: Mapping[str, str]) -> Caller:
        """Who calls; raises Unauthenticated, or PermissionDenied for a token without the scope.

        ``headers`` are those of the HTTP request or the metadata of the gRPC call, by lower-case
        name.
        """
        caller = None
        try:
            caller = await self._auth.identify(headers, method.full_name)
            self._auth.check_scope(caller, method.full_name)
        except Error as error:
            why = type(error.__cause__).__name__ if error.__cause__ else error.reason
            _audit(method, caller, "", error.code, why=why)
            raise
        return caller

    async def perform(self, method: MethodDescriptor, request: Any, caller: Caller) -> Any:
        """The reply message of ``method`` for one who has authenticated; raises errors.Error.

        Permission comes before everything that could tell whether a resource exists.
        """
        rule = _RULES[method.name]
        resource = getattr(request, rule.field)
        code = Code.INTERNAL
        told: dict[str, str] = {}
        try:
            project = names.project_of(resource)
            self._auth.authorize(caller, f"{PREFIX}.{rule.permission}", project, resource)
            servicer = self._servicers[method.containing_service.full_name]
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
            if method.name == "CreateJob":
                reply = await servicer.create_job(request, caller.principal)
                # The last record is housekeeping's, when the operation has ended.
                told = {"operation": reply.name, "first": "true"}
            else:
                reply = await getattr(servicer, name)(request)
            code = Code.OK
        except Error as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        else:
            return reply
        finally:
            _audit(method, caller, resource, code, **told)

    def gave_up(
        self, method: MethodDescriptor, variables: Mapping[str, str], caller: Caller
    ) -> None:
        """Who has authenticated went away before the request had arrived whole; ``variables``: what
        has arrived of it."""
        _audit(method, caller, variables.get(_RULES[method.name].field, ""), Code.CANCELLED)

    async def admit_to_metrics(self, headers: Mapping[str, str]) -> None:
        """Raises Unauthenticated or PermissionDenied for one who may not see every project."""
        caller = await self._auth.identify(headers, "metrics")
        self._auth.check_scope(caller, "metrics")
        self._auth.authorize_everywhere(caller, METRICS_PERMISSION)


def _audit(
    method: MethodDescriptor, caller: Caller | None, resource: str, code: Code, **more: str
) -> None:
    if _RULES[method.name].audited:
        telemetry.event(
            "audit",
            principal=caller.principal if caller else "",
            method=method.full_name,
            resource=resource[:_RESOURCE_MAX_CHARACTERS],
            status=code.name,
            **more,
        )
