"""Objects as the JSON API has them ⇄ columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import orjson

from longshore import object_rules as rules
from longshore.errors import Internal, InvalidArgument
from longshore.patch import Retention, dump_map, parse_time
from longshore.store import ABSENT, COLUMNS, Batch

Resource = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME, _SIZE = itemgetter("name"), itemgetter("size")
_GENERATION, _METAGENERATION = itemgetter("generation"), itemgetter("metageneration")
_ALWAYS = ("name", "generation", "metageneration", "size")
_COUNTED = "name,size"
TEXTS: Mapping[str, str] = {
    "content_type": "contentType",
    "content_encoding": "contentEncoding",
    "content_language": "contentLanguage",
    "content_disposition": "contentDisposition",
    "cache_control": "cacheControl",
    "storage_class": "storageClass",
}
HOLDS: Mapping[str, str] = {
    "temporary_hold": "temporaryHold",
    "event_based_hold": "eventBasedHold",
}
TIMES: Mapping[str, str] = {
    "custom_time_us": "customTime",
    "create_time_us": "timeCreated",
    "update_time_us": "updated",
}
_FIELDS: Mapping[str, str] = {
    **TEXTS,
    **HOLDS,
    **TIMES,
    "retention": "retention",
    "custom_metadata": "metadata",
    "contexts": "contexts(custom)",
    "acl": "acl(entity,role)",
    "kms_key": "kmsKeyName",
    "checksum": "crc32c",
    "live": "timeDeleted",
}
"""What must be asked for, for a column. A noncurrent version is one that has a time at which it
became so (docs.cloud.google.com/storage/docs/json_api/v1/objects)."""


def check_columns(columns: Iterable[str]) -> None:
    """Raises InvalidArgument for what is no column."""
    for name in columns:
        rules.check_known("column of an object", name, COLUMNS)


def fields_of(columns: Iterable[str] | None) -> str:
    """The ``fields`` of an object that has these columns; None: that is but counted."""
    if columns is None:
        return _COUNTED
    return ",".join((*_ALWAYS, *(_FIELDS[name] for name in columns)))


def projection(columns: Iterable[str]) -> Mapping[str, str]:
    """ACLs are among an object's fields only where all of it is asked for."""
    return {"projection": "full"} if "acl" in columns else {}


def read(body: bytes) -> Any:
    """The JSON of a reply; raises Internal for what is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Internal(f"The store's reply is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise Internal("The store's reply is no JSON object.")
    return found


def batch_of(resources: Sequence[Resource], columns: Sequence[str] | None) -> Batch:
    """Objects as a batch, of made up generations where ``columns`` is None; raises Internal for
    what is no object."""
    try:
        names, sizes = list(map(_NAME, resources)), list(map(int, map(_SIZE, resources)))
        if columns is None:
            ones = [1] * len(names)
            return Batch(names=names, generations=ones, metagenerations=ones, sizes=sizes)
        return Batch(
            names=names,
            generations=list(map(int, map(_GENERATION, resources))),
            metagenerations=list(map(int, map(_METAGENERATION, resources))),
            sizes=sizes,
            columns={name: _column(name, resources) for name in columns},
        )
    except (LookupError, TypeError, ValueError, AttributeError, InvalidArgument) as error:
        raise Internal(f"The store describes an object as nobody does: {error!r}.") from error


def found_or_not(
    names: Sequence[str], found: Sequence[Resource | None], columns: Sequence[str]
) -> Batch:
    """A batch of ``names``, with ABSENT and zero values where nothing was found."""
    there = [index for index, one in enumerate(found) if one is not None]
    batch = batch_of([one for one in found if one is not None], columns)
    if len(there) == len(found):
        return batch

    def spread(column: Sequence[Any], zero: Any) -> list[Any]:
        row = [zero] * len(found)
        for index, value in zip(there, column, strict=True):
            row[index] = value
        return row

    return Batch(
        names=list(names),
        generations=spread(batch.generations, ABSENT),
        metagenerations=spread(batch.metagenerations, 0),
        sizes=spread(batch.sizes, 0),
        columns={name: spread(batch.columns[name], rules.ZERO[name]) for name in columns},
    )


def _column(name: str, resources: Sequence[Resource]) -> list[Any]:
    if name in TEXTS:
        field = TEXTS[name]
        return [one.get(field) or "" for one in resources]
    if name in HOLDS:
        field = HOLDS[name]
        return [field in one and one[field] is True for one in resources]
    if name == "live":
        return ["timeDeleted" not in one for one in resources]
    if name in TIMES:
        field = TIMES[name]
        return [parse_time(one[field]) if one.get(field) else 0 for one in resources]
    return list(map(_READERS[name], resources))


def retention_of(resource: Resource) -> str:
    found = resource.get("retention")
    if not found:
        return ""
    return Retention(mode=found["mode"], until_us=parse_time(found["retainUntilTime"])).dump()


def _metadata(resource: Resource) -> str:
    found = resource.get("metadata") or {}
    return dump_map({key: text for key, text in found.items() if text is not None})


def _contexts(resource: Resource) -> str:
    found = (resource.get("contexts") or {}).get("custom") or {}
    return dump_map({key: one["value"] for key, one in found.items()})


def _acl(resource: Resource) -> str:
    return dump_map({one["entity"]: one["role"] for one in resource.get("acl") or ()})


def key_of(resource: Resource) -> str:
    """The key of an object without the version of the key, which nobody can ask for."""
    return str(resource.get("kmsKeyName") or "").partition("/cryptoKeyVersions/")[0]


_READERS: Mapping[str, Callable[[Resource], Any]] = {
    "retention": retention_of,
    "custom_metadata": _metadata,
    "contexts": _contexts,
    "acl": _acl,
    "kms_key": key_of,
    "checksum": lambda resource: resource.get("crc32c") or "",
}


def time_text(us: int) -> str:
    """Microseconds since 1970 as RFC 3339."""
    try:
        text = (_EPOCH + timedelta(microseconds=us)).isoformat()
    except OverflowError:
        raise InvalidArgument(f"No time lies {us} microseconds after 1970.") from None
    return text.replace("+00:00", "Z")
