"""Targets of requests: names and queries percent-encoded just as S3 signs them.

S3 signs the path and the query as they stand in the request, once encoded, so there is one spelling
for both: everything but letters, digits and ``-._~`` is encoded, in capitals, and ``/`` only in
queries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

_PLAIN_PATH = re.compile(r"[A-Za-z0-9\-._~/]*", re.ASCII).fullmatch
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9\-._~]*", re.ASCII).fullmatch


def quote_path(name: str) -> str:
    """``name`` as a path has it; most names stay as they are, which costs a tenth."""
    return name if _PLAIN_PATH(name) else quote(name, safe="/~")


def quote_value(text: str) -> str:
    """``text`` as a query has it, and the header ``x-amz-tagging``."""
    return text if _PLAIN_VALUE(text) else quote(text, safe="~")


def query(parameters: Mapping[str, str]) -> str:
    """The query of a target, in the order in which it is signed.

    A parameter whose value is "" stands without ``=``, as sub-resources do ("legal-hold").
    """
    pairs = sorted((quote_value(name), quote_value(text)) for name, text in parameters.items())
    return "&".join(f"{name}={text}" if text else name for name, text in pairs)


class Address(NamedTuple):
    """Where a bucket is, or with ``bucket`` "" the service itself.

    ``host`` is what the header ``host`` says: with the port, if that is not the usual one.
    ``base`` is what every path begins with, encoded, without a slash at its end.
    """

    host: str
    base: str = ""

    def bucket(self, name: str, *, virtual: bool) -> Address:
        """The address of a bucket of this service: in the host's name, or in the path."""
        if virtual:
            return Address(f"{name}.{self.host}", self.base)
        return Address(self.host, f"{self.base}/{quote_path(name)}")

    def target(self, key: str = "", query: str = "") -> str:
        """The target of a request for the bucket, or for the object ``key`` in it."""
        path = f"{self.base}/{quote_path(key)}" if key or not self.base else self.base
        return f"{path}?{query}" if query else path
