"""Project sources as the API makes them of what a user writes."""

from __future__ import annotations

from typing import Any

from longshore import extensions
from longshore.api import wire


def project_source(
    *, buckets: str = "", objects: str = "", locations: tuple[str, ...] = ()
) -> tuple[str, dict[str, Any]]:
    """The name and the plain data of a source with these filters."""
    message = wire.message_class(f"{wire.PACKAGE}.ProjectSource")(project="projects/p")
    if buckets:
        message.bucket_filters.expression = buckets
    if objects:
        message.object_filters.expression = objects
    if locations:
        message.target_locations.locations.extend(locations)
    return "project_source", extensions.load("sources", "project_source").from_message(message)
