"""Every method of the API, by its descriptor: what REST and gRPC both call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from longshore.api import wire
from longshore.api.jobs import Jobs
from longshore.api.locations import Locations
from longshore.api.operations import Operations
from longshore.clock import Clock
from longshore.database import Database


class Methods:
    """The servicers, whose methods are looked up by the names on their descriptors."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._servicers: Mapping[str, Any] = {
            wire.SERVICE: Jobs(database, clock),
            wire.OPERATIONS: Operations(database, clock),
            wire.LOCATIONS: Locations(),
        }

    async def call(self, method: MethodDescriptor, request: Any, headers: Mapping[str, str]) -> Any:
        """The reply message of ``method``; raises errors.Error.

        ``headers`` are those of the HTTP request or the metadata of the gRPC call, by lower-case
        name.
        """
        servicer = self._servicers[method.containing_service.full_name]
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
        return await getattr(servicer, name)(request)
