"""Which principal may do what in which project: roles, and what they are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from longshore.errors import InvalidArgument
from longshore.settings import EVERY_PROJECT, Settings

PREFIX = "storagebatchoperations"
_READ = frozenset(
    f"{PREFIX}.{resource}.{verb}"
    for resource in ("jobs", "bucketOperations", "operations", "locations")
    for verb in ("get", "list")
)
_OPERATE = _READ | {
    f"{PREFIX}.jobs.create",
    f"{PREFIX}.jobs.cancel",
    f"{PREFIX}.operations.cancel",
}
_ALL = _OPERATE | {f"{PREFIX}.jobs.delete", f"{PREFIX}.operations.delete"}

ROLES: Mapping[str, frozenset[str]] = {"viewer": _READ, "operator": _OPERATE, "admin": _ALL}
"""The permissions of each role. Who deletes jobs removes what tells of them: only admins do."""


class Rules:
    """The rules of ``settings``; raises InvalidArgument for a role or permission that is none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._permissions = {
            (principal, project): frozenset(_permissions(grants, f"{principal}.{project}"))
            for principal, projects in settings.auth.roles.items()
            for project, grants in projects.items()
        }

    def permits(self, principal: str, permission: str, project: str) -> bool:
        """Whether the principal has that permission there, by a rule for the project or for all."""
        return any(
            permission in self._permissions.get((principal, place), ())
            for place in (project, EVERY_PROJECT)
        )


def _permissions(grants: Iterable[str], where: str) -> Iterable[str]:
    for grant in grants:
        if grant in ROLES:
            yield from ROLES[grant]
        elif grant in _ALL:
            yield grant
        else:
            known = [*ROLES, *sorted(_ALL)]
            (nearest,) = difflib.get_close_matches(grant, known, n=1, cutoff=0.0)
            raise InvalidArgument(
                f"Unknown role or permission {grant!r} in auth.roles.{where}: the nearest known one"
                f" is {nearest!r}."
            )
