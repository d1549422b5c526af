"""The jobs of a storm: what they ask for, and, in the plainest words there are, what that means.

Nothing here uses longshore's own idea of a patch: it is what the reckoning judges by.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.crash.chaos.journal import Version

CLASSES = ("NEARLINE", "COLDLINE", "ARCHIVE")
"""What rewrites ask for; what anybody writes is STANDARD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``message``: of the API. ``wanted``: the columns of a version as the job is to make them;
    None for a delete."""

    kind: str
    message: Mapping[str, Any]
    wanted: Callable[[Version], Mapping[str, Any]] | None

    @property
    def deletes(self) -> bool:
        return self.wanted is None

    @property
    def rewrites(self) -> bool:
        return self.kind == "rewriteObject"

    @property
    def removes(self) -> bool:
        """Whether the version that is acted upon is no more, which a hold forbids."""
        return self.deletes or self.rewrites

    def needs(self, version: Version) -> bool:
        """Whether a version is not yet as the job is to make it."""
        return self.wanted is None or version != version._replace(**self.wanted(version))

    def made(self, old: Version, new: Version | None) -> bool:
        """Whether this is the change that the job was to make, and no more than that."""
        if self.wanted is None or new is None:
            return self.wanted is None and new is None
        wanted = old._replace(**self.wanted(old))
        if self.rewrites:
            return new.generation > old.generation and new == wanted._replace(
                generation=new.generation
            )
        return new == wanted


def choose(random_: random.Random, number: int) -> Order:
    """An order unlike those before it: its values have its number in them."""
    return random_.choice(_KINDS)(random_, number)


def _delete(random_: random.Random, number: int) -> Order:
    permanent = random_.random() < 0.5
    message = {"permanentObjectDeletionEnabled": True} if permanent else {}
    return Order(kind="deleteObject", message={"deleteObject": message}, wanted=None)


def _hold(random_: random.Random, number: int) -> Order:
    # What is held can be neither deleted nor rewritten; that is tried, too, but not too often.
    held = random_.random() < 0.35
    return Order(
        kind="putObjectHold",
        message={"putObjectHold": {"temporaryHold": "SET" if held else "UNSET"}},
        wanted=lambda version: {"temporary_hold": int(held)},
    )


def _metadata(random_: random.Random, number: int) -> Order:
    return Order(
        kind="putMetadata",
        message={
            "putMetadata": {
                "contentType": f"text/x-{number}",
                "customMetadata": {"voyage": str(number)},
            }
        },
        wanted=lambda version: {
            "content_type": f"text/x-{number}",
            "custom_metadata": _merged(version.custom_metadata, {"voyage": str(number)}),
        },
    )


def _contexts(random_: random.Random, number: int) -> Order:
    if random_.random() < 0.2:
        return Order(
            kind="updateObjectCustomContext",
            message={"updateObjectCustomContext": {"clearAll": True}},
            wanted=lambda version: {"contexts": ""},
        )
    team = f"dock-{number}"
    updates = {"updates": {"team": {"value": team}}, "keysToClear": ["old"]}
    return Order(
        kind="updateObjectCustomContext",
        message={"updateObjectCustomContext": {"customContextUpdates": updates}},
        wanted=lambda version: {"contexts": _merged(version.contexts, {"team": team}, "old")},
    )


def _acls(random_: random.Random, number: int) -> Order:
    role = random_.choice(("READER", "OWNER"))
    updates = {
        "grants": [{"entity": "allUsers", "role": role}],
        "removeEntities": ["allAuthenticatedUsers"],
    }
    return Order(
        kind="setObjectAcls",
        message={"setObjectAcls": {"accessControlsUpdates": updates}},
        wanted=lambda version: {
            "acl": _merged(version.acl, {"allUsers": role}, "allAuthenticatedUsers")
        },
    )


def _rewrite(random_: random.Random, number: int) -> Order:
    storage_class = random_.choice(CLASSES)
    return Order(
        kind="rewriteObject",
        message={"rewriteObject": {"storageClass": storage_class}},
        wanted=lambda version: {"storage_class": storage_class},
    )


_KINDS = (_delete, _hold, _metadata, _contexts, _acls, _rewrite)


def contexts_changed(old: Version, new: Version) -> tuple[int, int, int]:
    """How many contexts were created, deleted and updated."""
    before, after = _map(old.contexts), _map(new.contexts)
    return (
        len(after.keys() - before.keys()),
        len(before.keys() - after.keys()),
        sum(before[key] != after[key] for key in before.keys() & after.keys()),
    )


def _map(text: str) -> dict[str, str]:
    return dict(json.loads(text)) if text else {}


def _merged(text: str, updates: Mapping[str, str], *removed: str) -> str:
    after = {key: value for key, value in _map(text).items() if key not in removed}
    after |= updates
    return json.dumps(after, sort_keys=True, separators=(",", ":")) if after else ""
