"""Deleting many objects by one request: what it says, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from longshore.stores.s3.entries import Kind, read_entries
from longshore.stores.s3.markup import NAMESPACE, escape

MAX_OBJECTS = 1000
_AT = ("Key", "VersionId")
_DELETED = Kind("Deleted", _AT, frozenset({"VersionId"}))
_ERROR = Kind("Error", (*_AT, "Code", "Message"), frozenset({"VersionId", "Message"}))


class Refusal(NamedTuple):
    """Why an object was not deleted, in the store's own words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a reply says: the ``names`` and ``version_ids`` of what was deleted, as columns, none
    if it is a quiet one; and by both what was ``refused``. "" is no version id."""

    names: Sequence[str]
    version_ids: Sequence[str]
    refused: Mapping[tuple[str, str], Refusal]


def body(
    names: Sequence[str],
    version_ids: Sequence[str] = (),
    *,
    etags: Sequence[str] = (),
    quiet: bool = False,
) -> bytes:
    """The body of DeleteObjects for one to MAX_OBJECTS objects.

    ``version_ids`` and ``etags`` (without quotes), where given, go with the names; "" is none.
    A name that ``markup.is_expressible`` denies must not be among them: servers refuse the whole
    body for it.
    """
    keys = _escaped(names)
    given = [
        (f"<{element}>{quote}", _escaped(texts), f"{quote}</{element}>")
        for element, texts, quote in (("VersionId", version_ids, ""), ("ETag", etags, '"'))
        if any(texts)
    ]
    if not given:
        objects = f"{'</Key></Object><Object><Key>'.join(keys)}</Key>"
    elif len(given) == 1 and all(given[0][1]):
        ((before, texts, after),) = given
        rows = zip(keys, texts, strict=True)
        objects = f"{after}</Object><Object><Key>".join(
            [f"{key}</Key>{before}{text}" for key, text in rows]
        )
        objects += after
    else:
        parts = [[f"{key}</Key>" for key in keys]]
        for before, texts, after in given:
            parts.append([f"{before}{text}{after}" if text else "" for text in texts])
        objects = "</Object><Object><Key>".join(map("".join, zip(*parts, strict=True)))
    said = "<Quiet>true</Quiet>" if quiet else ""
    return f'<Delete xmlns="{NAMESPACE}">{said}<Object><Key>{objects}</Object></Delete>'.encode()


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    """``markup.escape`` of each, at once, separated by what none of them can have."""
    joined = "\0".join(texts)
    escaped = escape(joined)
    return texts if escaped == joined else escaped.split("\0")


def read_result(reply: bytes) -> Result:
    """A reply to DeleteObjects; raises Internal for what is none."""
    (deleted, errors), _ = read_entries(reply, (_DELETED, _ERROR), ("DeleteResult",))
    at = zip(errors["Key"], errors["VersionId"], strict=True)
    why = map(Refusal, errors["Code"], errors["Message"])
    return Result(
        names=list(deleted["Key"]),
        version_ids=list(deleted["VersionId"]),
        refused=dict(zip(at, why, strict=True)),
    )
