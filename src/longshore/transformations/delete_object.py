"""Delete objects: ``deleteObject``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.transformation import Delete


def from_message(message: Any) -> dict[str, Any]:
    """The plain data of a DeleteObject; every one is valid, since clients do not send false."""
    return {"permanent": message.permanent_object_deletion_enabled}


def open_transformation(data: Mapping[str, Any]) -> Delete:
    """What the data asks for. Without ``permanent``, noncurrent versions are left alone."""
    return Delete(permanent=data["permanent"])
