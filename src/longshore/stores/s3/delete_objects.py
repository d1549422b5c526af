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
    # All names are escaped at once, separated by what none of them can have.
    keys = escape("\0".join(names))
    if any(version_ids) or any(etags):
        absent = [""] * len(names)
        rows = zip(keys.split("\0"), version_ids or absent, etags or absent, strict=True)
        objects = "</Object><Object>".join(
            [
                f"<Key>{key}</Key>"
                f"{f'<VersionId>{escape(version_id)}</VersionId>' if version_id else ''}"
                f"{f'<ETag>{escape(etag)}</ETag>' if etag else ''}"
                for key, version_id, etag in rows
            ]
        )
    else:
        objects = f"<Key>{keys}</Key>".replace("\0", "</Key></Object><Object><Key>")
    said = "<Quiet>true</Quiet>" if quiet else ""
    return f'<Delete xmlns="{NAMESPACE}">{said}<Object>{objects}</Object></Delete>'.encode()


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
