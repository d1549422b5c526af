"""Set and clear custom contexts, and count them: ``updateObjectCustomContext``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from longshore.errors import Violation, refuse
from longshore.patch import MapPatch, Patch, load_map
from longshore.transformation import ContextDelta, PatchObjects

_MAX_LENGTH = 256
_SYNTAX = f"must have 1 to {_MAX_LENGTH} characters and begin with a letter or a digit"
_FIELD = "custom_context_updates"


def from_message(message: Any) -> dict[str, Any]:
    """The contexts to set, the keys to clear and whether to clear all; raises InvalidArgument.

    An update without a value leaves its key as it is, so it is checked and then left out.
    """
    action = message.WhichOneof("action")
    if action == _FIELD:
        return _from_updates(message.custom_context_updates)
    violations = []
    if action is None:
        text = f"update_object_custom_context must have {_FIELD} or clear_all."
        violations.append(Violation("", text))
    elif not message.clear_all:
        text = f"clear_all must be true if it is set; to keep contexts, use {_FIELD}."
        violations.append(Violation("clear_all", text))
    refuse(violations)
    return {"updates": {}, "removals": [], "clear": True}


def _from_updates(message: Any) -> dict[str, Any]:
    payloads = sorted(message.updates.items())
    removals = sorted(set(message.keys_to_clear))
    violations = _wrong_updates(payloads, set(removals))
    violations += [
        Violation(f"{_FIELD}.keys_to_clear[{index}]", f"The key {key!r} {_SYNTAX}.")
        for index, key in enumerate(message.keys_to_clear)
        if not _is_text(key)
    ]
    if not payloads and not removals:
        text = f"{_FIELD} must have updates or keys_to_clear (or both)."
        violations.append(Violation(_FIELD, text))
    refuse(violations)
    updates = {key: payload.value for key, payload in payloads if payload.HasField("value")}
    return {"updates": updates, "removals": removals, "clear": False}


def _wrong_updates(payloads: Iterable[tuple[str, Any]], removals: set[str]) -> list[Violation]:
    violations = []
    for key, payload in payloads:
        path = f"{_FIELD}.updates[{key}]"
        if not _is_text(key):
            violations.append(Violation(path, f"The key {key!r} {_SYNTAX}."))
        if key in removals:
            text = f"The key {key!r} is in updates and in keys_to_clear; it can be in one only."
            violations.append(Violation(path, text))
        if payload.HasField("value") and not _is_text(payload.value):
            text = f"The value of {key!r} {_SYNTAX}; leave it out to keep the value there is."
            violations.append(Violation(f"{path}.value", text))
    return violations


def _is_text(text: str) -> bool:
    return 1 <= len(text) <= _MAX_LENGTH and text[0].isalnum()


def open_transformation(data: Mapping[str, Any]) -> PatchObjects:
    """What the data asks for, with the three counters of contexts."""
    change = MapPatch(
        updates=data["updates"], removals=frozenset(data["removals"]), clear=data["clear"]
    )
    return PatchObjects(patch=Patch(contexts=change), count_contexts=partial(_count, change))


def _count(change: MapPatch, text: str) -> ContextDelta:
    before, after = load_map(text), load_map(change.apply(text))
    return ContextDelta(
        created=len(after.keys() - before.keys()),
        deleted=len(before.keys() - after.keys()),
        updated=sum(before[key] != after[key] for key in before.keys() & after.keys()),
    )
