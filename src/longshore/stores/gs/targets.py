"""Paths and queries of the JSON API, percent-encoded as they stand in a request line."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from longshore import object_rules as rules
from longshore.names import is_bucket_name

API = "/storage/v1"
_PLAIN = re.compile(r"[A-Za-z0-9._~/-]*", re.ASCII)
_NEVER = re.compile(r"[\0\r\n]|\A\.{1,2}\Z")
_PLAIN_LINES = (string.ascii_letters + string.digits + "._~/-\n").encode()
_QUERY_SAFE = "-._~/,():"
"""What stands for itself in a query, so that ``fields`` can be read."""


def is_possible(name: str) -> bool:
    """Whether an object can be called so. Others must not be asked for: with an empty name, or one
    of dots that somebody on the way resolves, a path is that of the bucket. None is called so, and
    none has line breaks (docs.cloud.google.com/storage/docs/objects#naming), or U+0000: Google's
    front ends refuse it in paths."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 1 <= size <= rules.NAME_MAX_BYTES and not _NEVER.search(name)


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    if _PLAIN.fullmatch(name):
        return name.replace("/", "%2F")
    return quote(name, safe="")


def are_plain(names: Sequence[str]) -> bool:
    """Whether all names are possible and have no character but those that most names have; True
    for most columns of names, and had for less than to look at each."""
    lines = "\n".join(names)
    return (
        lines.isascii()
        and not lines.encode().translate(None, _PLAIN_LINES)
        and lines.count("\n") == len(names) - 1
        and len(min(names, key=len)) > len("..")
        and len(max(names, key=len)) <= rules.NAME_MAX_BYTES
    )


def all_quoted(names: Sequence[str]) -> list[str]:
    """Each name as one segment of a path."""
    if are_plain(names):
        return "\n".join(names).replace("/", "%2F").split("\n")
    return list(map(quoted, names))


def bucket_path(bucket: str) -> str:
    """The path of a bucket. Raises NotFound for what no bucket is called: it could be another
    path."""
    if not is_bucket_name(bucket):
        raise rules.no_bucket(bucket)
    return f"{API}/b/{bucket}"


def objects_path(bucket: str) -> str:
    """The path of all objects of a bucket; raises as ``bucket_path`` does."""
    return f"{bucket_path(bucket)}/o"


def query(parameters: Mapping[str, str | int | bool]) -> str:
    """Parameters encoded, in their order; booleans as JSON spells them."""
    return "&".join(
        f"{name}={quote(_text(value), safe=_QUERY_SAFE)}" for name, value in parameters.items()
    )


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
