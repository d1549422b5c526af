"""Place and release holds: ``putObjectHold``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.errors import Violation, refuse
from longshore.patch import Patch
from longshore.transformation import PatchObjects

_HOLDS = ("temporary_hold", "event_based_hold")
_UNSPECIFIED = 0
_IS_HELD = {1: True, 2: False}  # HoldStatus: SET, UNSET


def from_message(message: Any) -> dict[str, Any]:
    """The holds that change, by name; raises InvalidArgument if that is none.

    Both fields are marked as required, but Google's own clients send only one.
    """
    given = {hold: getattr(message, hold) for hold in _HOLDS}
    changes = {hold: status for hold, status in given.items() if status != _UNSPECIFIED}
    violations = [
        Violation(hold, f"{status} is no status of {hold}; use SET or UNSET.")
        for hold, status in changes.items()
        if status not in _IS_HELD
    ]
    if not changes:
        violations.append(
            Violation("", "put_object_hold must SET or UNSET temporary_hold or event_based_hold.")
        )
    refuse(violations)
    return {hold: _IS_HELD[status] for hold, status in changes.items()}


def open_transformation(data: Mapping[str, Any]) -> PatchObjects:
    """What the data asks for."""
    return PatchObjects(patch=Patch(**data))
