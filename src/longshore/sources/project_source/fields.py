"""What a filter can ask of a bucket or an object, and which column has the answer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

Tree = list[Any]
"""A checked filter as plain data, which the database keeps: [operator, operand, …].

``and`` ``or`` (any number of operands), ``not``; ``==`` ``!=`` ``<`` ``<=`` ``>`` ``>=``
``startsWith`` ``endsWith`` ``contains`` (two values); ``in`` (a value and a list of constants);
``exists`` (a records field's name and the condition on its entries). A value is
``["const", constant]`` (a time in microseconds), ``["field", name]`` or, inside ``exists``,
``["entry", "key" or "value"]``; a bool is a condition by itself.
"""


class Kind(Enum):
    """The type of a field; a RECORDS field is a list of entries with a key and a value."""

    TEXT = "text"
    INT = "number"
    BOOL = "bool"
    TIME = "timestamp"
    RECORDS = "list of entries"


class Field(NamedTuple):
    """A field's type and its column. ``optional``: "" and 0 stand for "not set"."""

    kind: Kind
    column: str
    optional: bool = False


Fields = Mapping[str, Field]

OBJECT_FIELDS: Fields = {
    "name": Field(Kind.TEXT, "name"),
    "size": Field(Kind.INT, "size"),
    "storageClass": Field(Kind.TEXT, "storage_class", optional=True),
    "contentType": Field(Kind.TEXT, "content_type", optional=True),
    "contentEncoding": Field(Kind.TEXT, "content_encoding", optional=True),
    "contentLanguage": Field(Kind.TEXT, "content_language", optional=True),
    "contentDisposition": Field(Kind.TEXT, "content_disposition", optional=True),
    "cacheControl": Field(Kind.TEXT, "cache_control", optional=True),
    "timeCreated": Field(Kind.TIME, "create_time_us", optional=True),
    "updated": Field(Kind.TIME, "update_time_us", optional=True),
    "customTime": Field(Kind.TIME, "custom_time_us", optional=True),
    "temporaryHold": Field(Kind.BOOL, "temporary_hold"),
    "eventBasedHold": Field(Kind.BOOL, "event_based_hold"),
    "contexts": Field(Kind.RECORDS, "contexts"),
    "metadata": Field(Kind.RECORDS, "custom_metadata"),
}
"""The columns are those of store.COLUMNS, besides the name and the size of a Batch."""

BUCKET_FIELDS: Fields = {
    "name": Field(Kind.TEXT, "name"),
    "location": Field(Kind.TEXT, "location", optional=True),
    "labels": Field(Kind.RECORDS, "labels"),
    "timeCreated": Field(Kind.TIME, "create_time_us", optional=True),
    "autoclass.enabled": Field(Kind.BOOL, "autoclass"),
    "softDeletePolicy.retentionDurationSeconds": Field(
        Kind.INT, "soft_delete_seconds", optional=True
    ),
}
"""The columns are the fields of store.Bucket."""
