"""What to change in an object's metadata: every field is unchanged, cleared or set.

One value serves every transformation that changes metadata and every store that can do so, which
keeps (transformations × stores) from becoming a matrix of code. It answers two questions: which
columns it must see, and which objects already are as it wants them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from operator import and_
from typing import Any, Final, TypeVar

import orjson

from longshore.errors import InvalidArgument

T = TypeVar("T")

_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Unchanged(Enum):
    """The type of UNCHANGED, which is not None: None clears a field."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


def dump_map(value: Mapping[str, str]) -> str:
    """The one text of a map in a column: JSON with sorted keys; "" for an empty map."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if value else ""


def load_map(text: str) -> dict[str, str]:
    """The map behind a column's text."""
    return dict(orjson.loads(text)) if text else {}


def memoised(function: Callable[[str], T], column: Sequence[str]) -> list[T]:
    """``function`` over a column, called once per distinct text: metadata repeats a great deal."""
    known = {text: function(text) for text in dict.fromkeys(column)}
    return [known[text] for text in column]


def parse_time(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 text; digits beyond the sixth are cut off.

    Takes what Google's services take: one to nine fractional digits, ``Z`` or an offset below 24
    hours, either case of ``T`` and ``Z``; no leap second, no blank for the ``T``. Raises
    InvalidArgument. (``datetime.fromisoformat`` takes week dates, bare dates and commas as well.)
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            f"{text!r} is no RFC 3339 time; it must be like 2030-01-31T23:59:59.5Z or"
            " 2030-01-31T23:59:59+01:00."
        )
    date, clock, fraction, sign, hours, minutes = match.groups(default="")
    try:
        local = datetime.fromisoformat(f"{date}T{clock}+00:00")
    except ValueError as error:
        raise InvalidArgument(f"{text!r} is no time: {error}.") from error
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    since_epoch = local - _EPOCH - (-offset if sign == "-" else offset)
    return since_epoch // _MICROSECOND + int(f"{fraction:0<6}"[:6])


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """An object's own retention: nobody deletes or replaces it before ``until_us``.

    ``mode`` is "Unlocked" or "Locked", as Cloud Storage spells it.
    """

    mode: str
    until_us: int

    def dump(self) -> str:
        """The text of the ``retention`` column: ``MODE@MICROSECONDS``; "" stands for none."""
        return f"{self.mode}@{self.until_us}"

    @staticmethod
    def load(text: str) -> Retention | None:
        """The retention behind a column's text."""
        mode, _, until_us = text.partition("@")
        return Retention(mode=mode, until_us=int(until_us)) if text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPatch:
    """A change of a map of text to text: first ``clear``, then ``removals``, then ``updates``."""

    updates: Mapping[str, str]
    removals: frozenset[str] = frozenset()
    clear: bool = False

    def leaves(self, text: str) -> bool:
        """Whether the map already is as this change would make it."""
        return self.apply(text) == text

    def apply(self, text: str) -> str:
        """The map (as its column's text) after the change; keys that are not there are ignored."""
        before = {} if self.clear else load_map(text)
        kept = {key: value for key, value in before.items() if key not in self.removals}
        return dump_map(kept | dict(self.updates))


def satisfied(
    wanted: Mapping[str, Any], columns: Mapping[str, list[Any]], count: int
) -> list[bool]:
    """For each of ``count`` objects: whether its columns are as ``wanted``, by name a value or a
    MapPatch that would change nothing.

    Looks at each distinct value once, and at the objects only where they are not all alike.
    """
    answer = [True] * count
    for name, value in wanted.items():
        distinct = set(columns[name])
        if isinstance(value, MapPatch):
            good = set(filter(value.leaves, distinct))
        else:
            good = distinct & {value}
        if not good:
            return [False] * count
        if len(good) < len(distinct):
            answer = list(map(and_, answer, map(good.__contains__, columns[name])))
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A change of metadata. The names of its fields are the names of the columns they change.

    Text and time fields: None clears. ``custom_time_us`` and the retention's time are microseconds
    since 1970. ``acl`` maps entity to role, ``contexts`` key to value.
    ``override_unlocked_retention`` is no column: it allows an Unlocked retention to be shortened,
    cleared or locked (Cloud Storage's ``overrideUnlockedRetention``).
    """

    temporary_hold: bool | Unchanged = UNCHANGED
    event_based_hold: bool | Unchanged = UNCHANGED
    content_type: str | None | Unchanged = UNCHANGED
    content_encoding: str | None | Unchanged = UNCHANGED
    content_language: str | None | Unchanged = UNCHANGED
    content_disposition: str | None | Unchanged = UNCHANGED
    cache_control: str | None | Unchanged = UNCHANGED
    custom_time_us: int | None | Unchanged = UNCHANGED
    retention: Retention | None | Unchanged = UNCHANGED
    custom_metadata: MapPatch | Unchanged = UNCHANGED
    contexts: MapPatch | Unchanged = UNCHANGED
    acl: MapPatch | Unchanged = UNCHANGED
    override_unlocked_retention: bool = False

    def changes(self) -> dict[str, Any]:
        """Column name → wanted value as the column holds it, or a MapPatch; only what changes.

        A cleared text is "", a cleared time is 0, a cleared retention is "".
        """
        wanted: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is UNCHANGED or field.name == "override_unlocked_retention":
                continue
            if isinstance(value, Retention):
                value = value.dump()
            elif value is None:
                value = 0 if field.name.endswith("_us") else ""
            wanted[field.name] = value
        return wanted

    def satisfied(self, columns: Mapping[str, list[Any]], count: int) -> list[bool]:
        """For each of ``count`` objects: whether its columns already are as this patch wants."""
        return satisfied(self.changes(), columns, count)
