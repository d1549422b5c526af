"""Rewrite objects in place, under another key or in another storage class: ``rewriteObject``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from longshore.errors import Violation, refuse
from longshore.transformation import Rewrite

_UNSPECIFIED = 0
_KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")


def from_message(message: Any) -> dict[str, Any]:
    """The wanted storage class and key, "" where it stays; raises InvalidArgument.

    No way to clear a key is documented, so an empty one is refused.
    """
    violations = []
    if message.HasField("kms_key") and not _KMS_KEY.fullmatch(message.kms_key):
        violations.append(
            Violation(
                "kms_key",
                f"kms_key must be the full name of a key, without a version (projects/…/locations/"
                f"…/keyRings/…/cryptoKeys/…), not {message.kms_key!r}.",
            )
        )
    storage_class = _storage_class(message, violations)
    if not violations and not storage_class and not message.kms_key:
        violations.append(Violation("", "rewrite_object must have kms_key or storage_class."))
    refuse(violations)
    return {"storage_class": storage_class, "kms_key": message.kms_key}


def _storage_class(message: Any, violations: list[Violation]) -> str:
    """The name of the class, by the descriptor, since the published package lacks the enum; as
    long as it does, messages of gRPC clients lack the field."""
    field = message.DESCRIPTOR.fields_by_name.get("storage_class")
    number = message.storage_class if field else _UNSPECIFIED
    if number == _UNSPECIFIED:
        return ""
    classes = field.enum_type.values_by_number
    if number not in classes:
        names = ", ".join(one.name for one in classes.values() if one.number != _UNSPECIFIED)
        violations.append(
            Violation("storage_class", f"{number} is no storage_class; there are {names}.")
        )
        return ""
    return str(classes[number].name)


def open_transformation(data: Mapping[str, Any]) -> Rewrite:
    """What the data asks for."""
    return Rewrite(storage_class=data["storage_class"], kms_key=data["kms_key"])
