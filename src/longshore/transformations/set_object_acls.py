"""Grant and revoke public access by ACL: ``setObjectAcls``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.errors import Violation, refuse
from longshore.patch import MapPatch, Patch
from longshore.transformation import PatchObjects

_FIELD = "access_controls_updates"
_ENTITIES = ("allUsers", "allAuthenticatedUsers")
_ROLES = ("READER", "OWNER")


def from_message(message: Any) -> dict[str, Any]:
    """Entity → role to grant, and the entities to remove; raises InvalidArgument."""
    updates = message.access_controls_updates
    removals = list(updates.remove_entities)
    violations = _wrong_grants(updates.grants, set(removals))
    violations += [
        Violation(f"{_FIELD}.remove_entities[{index}]", _wrong_entity(entity))
        for index, entity in enumerate(removals)
        if entity not in _ENTITIES
    ]
    if not updates.grants and not removals:
        violations.append(
            Violation(_FIELD, f"{_FIELD} must have grants or remove_entities (or both).")
        )
    refuse(violations)
    return {
        "grants": {grant.entity: grant.role for grant in updates.grants},
        "removals": sorted(set(removals)),
    }


def _wrong_grants(grants: Any, removals: set[str]) -> list[Violation]:
    violations = []
    seen: set[str] = set()
    for index, grant in enumerate(grants):
        path = f"{_FIELD}.grants[{index}]"
        if grant.entity not in _ENTITIES:
            violations.append(Violation(f"{path}.entity", _wrong_entity(grant.entity)))
        elif grant.entity in removals:
            text = f"{grant.entity} is in grants and in remove_entities; it can be in one only."
            violations.append(Violation(f"{path}.entity", text))
        elif grant.entity in seen:
            text = f"{grant.entity} is granted a role twice; an entity has one role."
            violations.append(Violation(f"{path}.entity", text))
        if grant.role not in _ROLES:
            text = f"{grant.role!r} is no role to grant; use {' or '.join(_ROLES)}."
            violations.append(Violation(f"{path}.role", text))
        seen.add(grant.entity)
    return violations


def _wrong_entity(entity: str) -> str:
    return f"{entity!r} is no entity that a job can change; use {' or '.join(_ENTITIES)}."


def open_transformation(data: Mapping[str, Any]) -> PatchObjects:
    """What the data asks for; other entities keep their roles."""
    change = MapPatch(updates=data["grants"], removals=frozenset(data["removals"]))
    return PatchObjects(patch=Patch(acl=change))
