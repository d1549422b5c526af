"""``matchGlob`` as a regular expression.

docs: cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob:
``*`` is any number of characters but ``/``, ``**`` of any, ``?`` is one but ``/``, ``[…]`` one of a
set, ``{a,b}`` one of several patterns.
"""

from __future__ import annotations

import re
from functools import lru_cache

from longshore.emulator.refusals import invalid

GLOB_MAX_CHARACTERS = 1024


@lru_cache(maxsize=64)
def compiled(glob: str) -> re.Pattern[str]:
    """What a whole name must match; raises Refused for what is no pattern."""
    if len(glob) > GLOB_MAX_CHARACTERS:
        raise invalid(f"matchGlob has more than {GLOB_MAX_CHARACTERS} characters.")
    parts, depth, position = [], 0, 0
    while position < len(glob):
        sign = glob[position]
        position += 1
        if sign == "*":
            stars = len(glob) - position - len(glob[position:].lstrip("*")) + 1
            position += stars - 1
            parts.append(".*" if stars > 1 else "[^/]*")
        elif sign == "?":
            parts.append("[^/]")
        elif sign == "[":
            text, position = _set(glob, position)
            parts.append(text)
        elif sign == "{":
            depth += 1
            parts.append("(?:")
        elif sign == "}" and depth:
            depth -= 1
            parts.append(")")
        elif sign == "," and depth:
            parts.append("|")
        elif sign == "\\" and position < len(glob):
            parts.append(re.escape(glob[position]))
            position += 1
        else:
            parts.append(re.escape(sign))
    if depth:
        raise invalid(f"A '{{' of matchGlob has no end: {glob[:100]!r}.")
    return re.compile("".join(parts), re.DOTALL)


def _set(glob: str, start: int) -> tuple[str, int]:
    """The set that begins before ``start``, and where the rest begins."""
    negated = glob[start : start + 1] in ("!", "^")
    start += negated
    end = glob.find("]", start + 1)
    if end < 0:
        raise invalid(f"A '[' of matchGlob has no end: {glob[:100]!r}.")
    inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", glob[start:end])
    return f"[{'^' if negated else ''}{inside}]", end + 1
