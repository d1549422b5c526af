"""Messages of a request, from their JSON."""

from typing import Any

from google.protobuf import json_format

from longshore.api import wire


def message(name: str, fields: dict[str, Any]) -> Any:
    """The message ``name`` of the API, with the announced fields."""
    return json_format.ParseDict(fields, wire.message_class(f"{wire.PACKAGE}.{name}")())
