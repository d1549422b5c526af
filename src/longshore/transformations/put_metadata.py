"""Change fixed and custom metadata, custom time and retention: ``putMetadata``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.errors import InvalidArgument, Violation, refuse
from longshore.patch import MapPatch, Patch, Retention, parse_time
from longshore.transformation import PatchObjects

_TEXTS = (
    "content_disposition",
    "content_encoding",
    "content_language",
    "content_type",
    "cache_control",
)
_CONTENT_LANGUAGE_MAX_LENGTH = 100
_MODES = {1: "Locked", 2: "Unlocked"}  # ObjectRetention.RetentionMode → Cloud Storage's spelling
_UNSPECIFIED = 0


def from_message(message: Any) -> dict[str, Any]:
    """Column → wanted value for what changes; raises InvalidArgument.

    A field that is absent stays; one that is there and empty is cleared: None, and "" for the
    retention. Custom metadata is merged, and a key whose value is "" is removed.
    """
    violations: list[Violation] = []
    data: dict[str, Any] = {
        name: getattr(message, name) or None for name in _TEXTS if message.HasField(name)
    }
    if len(message.content_language) > _CONTENT_LANGUAGE_MAX_LENGTH:
        text = f"content_language has more than {_CONTENT_LANGUAGE_MAX_LENGTH} characters."
        violations.append(Violation("content_language", text))
    if message.HasField("custom_time"):
        data["custom_time_us"] = _custom_time_us(message.custom_time, violations)
    if message.custom_metadata:
        data["custom_metadata"] = dict(message.custom_metadata)
    if "" in message.custom_metadata:
        violations.append(Violation("custom_metadata", "A key of custom_metadata is empty."))
    if message.HasField("object_retention"):
        data |= _retention(message.object_retention, violations)
    if not message.ListFields():
        violations.append(Violation("", "put_metadata must have a field to set or to clear."))
    refuse(violations)
    return data


def _custom_time_us(text: str, violations: list[Violation]) -> int | None:
    if not text:
        return None
    try:
        time_us = parse_time(text)
    except InvalidArgument as error:
        violations.append(Violation("custom_time", f"custom_time: {error}"))
        return None
    if time_us == 0:
        reason = "custom_time cannot be 1970-01-01T00:00:00Z, which stands for no time at all."
        violations.append(Violation("custom_time", reason))
    return time_us


def _retention(message: Any, violations: list[Violation]) -> dict[str, str]:
    """``{"retention": …}``, or ``{}`` where nothing changes.

    Nothing in the message clears, as it always did; a mode that is there but UNSPECIFIED, without a
    time, has been a no-op since September 2026. Of mode and time one alone says too little.
    """
    has_mode, has_time = message.HasField("retention_mode"), message.HasField("retain_until_time")
    if not has_time and (not has_mode or message.retention_mode == _UNSPECIFIED):
        return {} if has_mode else {"retention": ""}
    path = "object_retention"
    mode = _MODES.get(message.retention_mode)
    if mode is None:
        text = "object_retention must have a retention_mode, LOCKED or UNLOCKED, beside its time."
        violations.append(Violation(f"{path}.retention_mode", text))
    if not has_time:
        text = "object_retention must have a retain_until_time beside its mode."
        violations.append(Violation(f"{path}.retain_until_time", text))
        return {}
    try:
        until_us = parse_time(message.retain_until_time)
    except InvalidArgument as error:
        text = f"retain_until_time: {error}"
        violations.append(Violation(f"{path}.retain_until_time", text))
        return {}
    return {"retention": Retention(mode=mode or "", until_us=until_us).dump()}


def open_transformation(data: Mapping[str, Any]) -> PatchObjects:
    """What the data asks for.

    A job acts with the rights of the service, so it may also shorten, clear or lock an Unlocked
    retention; a Locked one is kept by the store.
    """
    changes = dict(data)
    if "custom_metadata" in data:
        pairs = data["custom_metadata"]
        changes["custom_metadata"] = MapPatch(
            updates={key: value for key, value in pairs.items() if value},
            removals=frozenset(key for key, value in pairs.items() if not value),
        )
    if "retention" in data:
        changes["retention"] = Retention.load(data["retention"])
    return PatchObjects(patch=Patch(**changes, override_unlocked_retention=True))
