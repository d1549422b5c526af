"""Guess a name in the middle of what a listing has left, from a few of its names.

No store tells how many names there are, or what the last one is. So a name is read as a number: the
characters that were seen behind the prefix are its digits. Two guesses are made of that: halfway to
the end, which is right where names are spread evenly (UUIDs, sub-folders), and some pages ahead,
which is right where they differ only in their last places (numbers, dates).
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence

_PLACES = 40
"""How many characters behind the prefix count."""
_SAMPLE = 64
_DIGITS_KEPT = 4
"""How many characters a guess has behind the first one in which it differs."""


class Scale:
    """Names behind a prefix as numbers, and numbers as names, in the order of names."""

    def __init__(self, prefix: str, names: Sequence[str]) -> None:
        """``names``: some that were seen, in order; at least one."""
        step = max(1, len(names) // _SAMPLE)
        tails = [name[len(prefix) :] for name in (*names[::step], names[-1])]
        # By code point, as Python sorts: the order of the UTF-8 bytes is the same.
        seen = set("".join(tails)) or {"0"}
        self._digits = sorted(seen | set(_beyond(max(seen))))
        self._prefix = prefix
        self._places = min(_PLACES, max(1, *map(len, tails)))

    @property
    def end(self) -> int:
        """The number behind all names."""
        end: int = (len(self._digits) + 1) ** self._places
        return end

    def number(self, name: str) -> int:
        """Where a name lies; 0 is the prefix itself."""
        base, number = len(self._digits) + 1, 0
        tail = name[len(self._prefix) :] if name.startswith(self._prefix) else ""
        for place in range(self._places):
            digit = 0
            if place < len(tail):
                digit = min(bisect_left(self._digits, tail[place]) + 1, base - 1)
            number = number * base + digit
        return number

    def name(self, number: int, after: str) -> str:
        """The name at ``number``, as short as will do to tell it from ``after``."""
        base, places = len(self._digits) + 1, []
        for _ in range(self._places):
            number, digit = divmod(number, base)
            places.append(digit)
        text = self._prefix
        differs = _DIGITS_KEPT
        for place, digit in enumerate(reversed(places)):
            if not digit or not differs:
                break
            text += self._digits[digit - 1]
            at = len(self._prefix) + place
            if differs < _DIGITS_KEPT or after[at : at + 1] != text[-1]:
                differs -= 1
        return text


def _beyond(highest: str) -> list[str]:
    """Characters behind the highest that was seen. ASCII has few, and a few pages show most of what
    is used of it; of a larger script they show next to nothing."""
    code = ord(highest)
    if code < 0x80:
        return []
    further = (code + (1 << power) for power in range(4, 21, 2))
    return [chr(one) for one in further if one <= sys.maxunicode and not 0xD800 <= one <= 0xDFFF]


def halfway(prefix: str, names: Sequence[str], end: str | None) -> str | None:
    """A name about halfway between the last of ``names`` and ``end`` (None: the prefix's end), or
    None where there is none between them."""
    scale = Scale(prefix, names)
    last = scale.number(names[-1])
    stop = scale.end if end is None else scale.number(end)
    return _between(scale.name((last + stop) // 2, names[-1]), names[-1], end)


def ahead(prefix: str, names: Sequence[str], pages: int, end: str | None) -> str | None:
    """A name about ``pages`` times as far behind ``names`` as they reach, or None where that is not
    before ``end``."""
    scale = Scale(prefix, names)
    last = scale.number(names[-1])
    there = last + pages * max(1, last - scale.number(names[0]))
    stop = scale.end if end is None else scale.number(end)
    if there >= stop:
        return None
    return _between(scale.name(there, names[-1]), names[-1], end)


def _between(guess: str, after: str, before: str | None) -> str | None:
    return guess if guess > after and (before is None or guess < before) else None
