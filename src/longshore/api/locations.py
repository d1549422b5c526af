"""The servicer of google.cloud.location.Locations: every project has one location, "global"."""

from __future__ import annotations

from typing import Any

from longshore import names
from longshore.api import page_tokens, wire
from longshore.api.filter import invalid_filter
from longshore.api.listing import page_size
from longshore.errors import invalid_field


class Locations:
    """Get and list locations."""

    async def get_location(self, request: Any) -> Any:
        """The location; raises NotFound for any other than ``global``."""
        return _location(names.parse_location(request.name))

    async def list_locations(self, request: Any) -> Any:
        """The one location."""
        project = names.parse_project(request.name)
        page_size(request.page_size)
        if request.page_token:
            text = "Invalid page_token: locations have one page only."
            raise invalid_field("page_token", text, reason=page_tokens.INVALID)
        if request.filter.strip():
            raise invalid_filter(f"locations can't be filtered; there is one, {names.LOCATION!r}.")
        return wire.ListLocationsResponse(locations=[_location(project)])


def _location(project: str) -> Any:
    name = f"projects/{project}/locations/{names.LOCATION}"
    return wire.Location(name=name, location_id=names.LOCATION)
