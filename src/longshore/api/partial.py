"""Partial responses: the fields that ``fields`` or X-Goog-FieldMask ask for, and nothing else.

``a,b`` are fields, ``a/b`` and ``a.b`` a field of a field, ``a(b,c)`` several of them, ``*`` all.
Lists are looked through: the rest of a path applies to each element. After a map comes a key (in
backquotes if it has signs that mean something here), and after an Any a field of what is inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from longshore.api import json_messages, wire
from longshore.errors import InvalidArgument, Violation

MASK_MAX_CHARACTERS = 4_096
DEPTH_MAX = 20

_TOKEN = re.compile(r"\s*(?:([^\s,/.()`]+)|`([^`]+)`|([,/.()]))\s*")
_SHOWN_CHARACTERS = 200
_ANY = "google.protobuf.Any"
_SCALARS = frozenset({"google.protobuf.Timestamp"})  # messages that are printed as one value

_Tree = dict[str, Any]
"""Names as written, each with the tree below it; None: all of it."""


class Mask(NamedTuple):
    """What is kept of a message, a map or an Any; where None stands for one, all of it."""

    parts: Mapping[str, Mask | None]
    """By JSON name, or by key; "*" is every key that has no entry of its own."""

    inside: _Tree | None = None
    """Of an Any: the names as written, since the type is not known before the reply is."""

    def part(self, name: str) -> tuple[bool, Mask | None]:
        """Is this one kept, and what of it?"""
        if name in self.parts:
            return True, self.parts[name]
        return "*" in self.parts, self.parts.get("*")


def parse(text: str, descriptor: Descriptor) -> Mask | None:
    """The mask that ``text`` writes down for a message.

    Raises InvalidArgument for one that is too long, is not well-formed or names what the message
    lacks.
    """
    if not text or text.isspace():
        return None
    if len(text) > MASK_MAX_CHARACTERS:
        raise _invalid(text, f"It has more than {MASK_MAX_CHARACTERS} characters.")
    try:
        return _of_message(_Parser(text).parse(), descriptor, "")
    except _NoSuchFieldError as error:
        raise _invalid(text, f"Cannot find matching fields for path '{error}'.") from error


def of_plain(value: Any, text: str) -> Any:
    """What the mask ``text`` leaves of plain data that no descriptor describes; names that are not
    there are left out. Raises InvalidArgument for one that is too long or not well-formed."""
    return of_json(value, _plain_mask(text))


@lru_cache(maxsize=64)
def _plain_mask(text: str) -> Mask | None:
    if len(text) > MASK_MAX_CHARACTERS:
        raise _invalid(text, f"It has more than {MASK_MAX_CHARACTERS} characters.")
    return _plain(_Parser(text).parse())


def _plain(tree: _Tree | None) -> Mask | None:
    return None if tree is None else Mask({name: _plain(below) for name, below in tree.items()})


def of_json(value: Any, mask: Mask | None) -> Any:
    """What ``mask`` leaves of a message that is printed as JSON."""
    if mask is None or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [of_json(one, mask) for one in value]
    kept = {}
    if mask.inside is not None:
        kept["@type"] = value["@type"]
        descriptor = wire.descriptor(value["@type"].rpartition("/")[2])
        mask = _of_message(mask.inside, descriptor, None)
        if mask is None:
            return value
    for name, one in value.items():
        is_kept, part = mask.part(name)
        if is_kept:
            kept[name] = of_json(one, part)
    return kept


def of_message(message: Any, mask: Mask | None) -> None:
    """Clear all of ``message`` but what ``mask`` leaves."""
    if mask is None:
        return
    if mask.inside is not None:
        content = wire.unpack(message)
        of_message(content, _of_message(mask.inside, content.DESCRIPTOR, None))
        message.CopyFrom(wire.pack(content))
        return
    for field, value in message.ListFields():
        is_kept, part = mask.part(field.json_name)
        if not is_kept:
            message.ClearField(field.name)
        elif part is not None:
            _of_value(value, field, part)


def _of_value(value: Any, field: FieldDescriptor, mask: Mask) -> None:
    if wire.map_value(field) is not None:
        for key in list(value):
            is_kept, part = mask.part(str(key))
            if not is_kept:
                del value[key]
            elif part is not None:
                of_message(value[key], part)
    elif field.is_repeated:
        for one in value:
            of_message(one, mask)
    else:
        of_message(value, mask)


class _NoSuchFieldError(Exception):
    """A mask names what its message lacks."""


def _invalid(text: str, why: str) -> InvalidArgument:
    """As other APIs of Google's have it: the text says nothing, the violation has the mask."""
    violation = Violation(
        text[:_SHOWN_CHARACTERS], f"Error expanding 'fields' parameter. {why[:_SHOWN_CHARACTERS]}"
    )
    return InvalidArgument("Request contains an invalid argument.", violations=(violation,))


class _Parser:
    """selection = path {"," path};  path = name {("/" | ".") name} ["(" selection ")"]."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, bool]] = []  # and: is it a name?
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _invalid(text, f"Unexpected {text[position]!r} at {position}.")
            name = match[1] or match[2]
            self._tokens.append((name or match[3], name is not None))
            position = match.end()
        self._next = 0

    def parse(self) -> _Tree:
        tree = self._selection(DEPTH_MAX)
        if self._next < len(self._tokens):
            raise _invalid(self._text, f"Unexpected {self._tokens[self._next][0]!r}.")
        return tree

    def _selection(self, depth: int) -> _Tree:
        tree = self._path(depth)
        while self._take(","):
            _add(tree, self._path(depth))
        return tree

    def _path(self, depth: int) -> _Tree:
        names = [self._name()]
        while self._take("/") or self._take("."):
            names.append(self._name())
        if len(names) > depth:
            raise _invalid(self._text, f"It goes deeper than {DEPTH_MAX} fields.")
        below = None
        if self._take("("):
            below = self._selection(depth - len(names))
            if not self._take(")"):
                raise _invalid(self._text, "A ')' is missing.")
        for name in reversed(names):
            below = {name: below}
        assert below is not None  # noqa: S101 - there is at least one name
        return below

    def _name(self) -> str:
        if self._next == len(self._tokens) or not self._tokens[self._next][1]:
            raise _invalid(self._text, "A field's name is missing.")
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _take(self, sign: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] == (sign, False):
            self._next += 1
            return True
        return False


def _merged(one: _Tree | None, other: _Tree | None) -> _Tree | None:
    if one is None or other is None:
        return None
    tree = dict(one)
    _add(tree, other)
    return tree


def _add(tree: _Tree, other: _Tree) -> None:
    for name, below in other.items():
        tree[name] = _merged(tree[name], below) if name in tree else below


def _of_message(tree: _Tree, descriptor: Descriptor, path: str | None) -> Mask | None:
    """``path``: where the message stands, ending in "."; None: behind a "*" or in an Any, where a
    name need not be known, as it may be meant for others."""
    below_of: _Tree = {}
    sent: dict[str, str] = {}
    inner = path if "*" not in tree else None
    for name, below in tree.items():
        reader = json_messages.reader_of(descriptor, name)
        if name == "*":
            if below is None:
                return None
            _add(below_of, {field.name: below for field in descriptor.fields if _message_in(field)})
        elif reader is not None:
            _add(below_of, {reader.field.name: below})
            sent.setdefault(reader.field.name, name)
        elif path is not None:
            raise _NoSuchFieldError(path + name)
    parts = {}
    for name, below in below_of.items():
        field = descriptor.fields_by_name[name]
        parts[field.json_name] = _of_field(
            below, field, None if inner is None else inner + sent[name]
        )
    return Mask(parts)


def _of_field(below: _Tree | None, field: FieldDescriptor, path: str | None) -> Mask | None:
    if below is None:
        return None
    inner = None if path is None else f"{path}."
    if (value := wire.map_value(field)) is not None:
        return Mask(
            {
                key: _of_field(one, value, None if inner is None else inner + key)
                for key, one in below.items()
            }
        )
    message = _message_in(field)
    if message is not None and message.full_name == _ANY:
        return Mask({}, below)
    if message is not None:
        return _of_message(below, message, inner)
    if inner is None:
        return None
    raise _NoSuchFieldError(inner + next(iter(below)))


def _message_in(field: FieldDescriptor) -> Descriptor | None:
    message = field.message_type
    return None if message is None or message.full_name in _SCALARS else message
