"""Who calls."""

from __future__ import annotations

from typing import NamedTuple

PRINCIPAL_MAX_CHARACTERS = 256


class Caller(NamedTuple):
    """A principal, and the scopes of the token that it came with."""

    principal: str
    scopes: frozenset[str]


def is_principal(text: str) -> bool:
    """Whether ``text`` can be a principal: it goes into logs and settings as one word."""
    return 0 < len(text) <= PRINCIPAL_MAX_CHARACTERS and text.isprintable() and " " not in text
