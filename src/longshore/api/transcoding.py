"""HTTP → method and request message, by the google.api.http rules on the descriptors.

There is no route per method: templates are compiled from the rules once, and whatever carries a
rule can be called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from longshore.api import json_messages, partial, wire
from longshore.api.json_messages import Problems
from longshore.api.parameters import Query, refuse_nul
from longshore.api.partial import Mask
from longshore.api.status import Refusal
from longshore.errors import Code, InvalidArgument

_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")
_SHOWN_CHARACTERS = 500
_ESCAPED_SLASH = re.compile(r"(%2[fF])")


class NoSuchPath(Exception):
    """No rule has this path."""


class WrongVerb(Refusal):
    """The path exists, under other HTTP methods."""

    def __init__(self, verb: str, allowed: Sequence[str]) -> None:
        names = ", ".join(allowed)
        text = f"{verb[:20]} is not a method of this resource, which has {names}."
        super().__init__(405, Code.UNIMPLEMENTED, text, [(b"allow", names.encode())])


class Content(NamedTuple):
    """The body of a request; ``proto``: a serialized message instead of JSON."""

    data: bytes = b""
    proto: bool = False


class Call(NamedTuple):
    """A method to call, with its request, and what is wanted of its reply."""

    method: MethodDescriptor
    request: Any
    mask: Mask | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """A path template: literal segments or "*", an optional verb, and the variables' spans."""

    segments: tuple[str, ...]
    verb: str
    variables: Mapping[str, tuple[int, int]]

    @staticmethod
    def parse(text: str) -> _Template:
        path, verb = text, ""
        head, colon, tail = text.rpartition(":")
        if colon and "/" not in tail:
            path, verb = head, tail
        segments: list[str] = []
        variables = {}
        for part in re.split(r"/(?![^{]*\})", path.removeprefix("/")):
            match = _VARIABLE.fullmatch(part)
            pieces = (match[2] or "*").split("/") if match else [part]
            if match:
                variables[match[1]] = (len(segments), len(segments) + len(pieces))
            segments.extend(pieces)
        if "**" in segments:
            raise ValueError(f"{text!r}: '**' is not implemented.")
        return _Template(segments=tuple(segments), verb=verb, variables=variables)

    def match(self, segments: Sequence[str], verb: str) -> dict[str, str] | None:
        """The variables' decoded values, or None."""
        if verb != self.verb or len(segments) != len(self.segments):
            return None
        for mine, theirs in zip(self.segments, segments, strict=True):
            if not theirs or (mine not in ("*", theirs)):
                return None
        return {
            name: "/".join(
                _decode(segment, keep_slash=end - start > 1) for segment in segments[start:end]
            )
            for name, (start, end) in self.variables.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Binding:
    verb: str
    template: _Template
    body: str
    method: MethodDescriptor

    def request(
        self, variables: Mapping[str, str], query: Sequence[tuple[str, str]], body: Content
    ) -> Any:
        """The request message; raises InvalidArgument with everything that is wrong in it."""
        message = GetMessageClass(self.method.input_type)()
        problems = Problems()
        if self.body:
            self._read(body, message, problems)
        elif body.data:
            # Nothing takes it: what is in it has no field, as the transcoder would say.
            json_messages.read(json_messages.parse(body.data), wire.Empty(), "", problems)
        for name, value in query:
            self._bind(name, value, message, problems)
        for name, value in variables.items():
            # Google's open transcoder takes the other one, or refuses it if told to: to act on
            # another resource than that of the path is what nobody wants.
            if (other := getattr(message, name)) not in ("", value):
                why = f"{other[:_SHOWN_CHARACTERS]!r}: the path has {value[:_SHOWN_CHARACTERS]!r}."
                problems.add(name, f"Invalid {name} {why}")
            setattr(message, name, value)
        problems.raise_any()
        return message

    def _read(self, body: Content, message: Any, problems: Problems) -> None:
        path = "" if self.body == "*" else self.body
        part = getattr(message, path) if path else message
        if path:
            part.SetInParent()
        if not body.proto:
            json_messages.read(json_messages.parse(body.data), part, path, problems)
            return
        try:
            part.CopyFrom(wire.from_published(part.DESCRIPTOR, body.data))
        except DecodeError as error:
            name = part.DESCRIPTOR.full_name
            raise InvalidArgument(
                f"Invalid PROTO payload received. The body is no serialized {name}."
            ) from error

    def _bind(self, name: str, value: str, message: Any, problems: Problems) -> None:
        """A parameter ``a.b`` is the field b of the message in the field a."""
        first, *rest = name.split(".")
        holder = message
        reader = json_messages.reader_of(message.DESCRIPTOR, first)
        if reader is not None and self.body in ("*", reader.field.name):
            reader = None
        path = [] if reader is None else [reader.field.name]
        for part in rest:
            if reader is None or reader.scalar is not None or reader.repeated:
                reader = None
                break
            holder = getattr(holder, reader.field.name)
            reader = json_messages.reader_of(holder.DESCRIPTOR, part)
            path.append(part if reader is None else reader.field.name)
        if reader is None:
            why = f"Field '{name}' could not be found in request message."
            problems.unknown(name, "", f"Cannot bind query parameter. {why}")
        elif reader.scalar is None:
            why = f"'{name}' is a message type. Parameters can only be bound to primitive types."
            problems.unknown(name, "", f"Cannot bind query parameter. {why}")
        else:
            json_messages.bind(value, holder, reader, ".".join(path), problems)


class Found(NamedTuple):
    """The method at a path, and what the path says."""

    binding: _Binding
    variables: Mapping[str, str]

    @property
    def method(self) -> MethodDescriptor:
        """Its descriptor."""
        return self.binding.method

    def call(self, query: Query, body: Content, fields: str) -> Call:
        """What a request asks for; ``fields`` is the mask of the reply.

        Raises InvalidArgument with a violation for each bad field.
        """
        method = self.binding.method
        mask = partial.parse(fields, method.output_type)
        return Call(method, self.binding.request(self.variables, query.parameters, body), mask)


class Transcoder:
    """All methods with a rule, by path and verb."""

    def __init__(self, methods: Sequence[MethodDescriptor]) -> None:
        self._bindings = [
            _Binding(
                verb=rule.verb.upper(),
                template=_Template.parse(rule.path),
                body=rule.body,
                method=method,
            )
            for method in methods
            if (rule := wire.rule_of(method)) is not None
        ]
        self._verbs = {binding.template.verb for binding in self._bindings} - {""}

    def find(self, verb: str, raw_path: str) -> Found:
        """The method at a path, which is as sent, percent-encoded.

        Raises NoSuchPath, WrongVerb, or InvalidArgument if the path is no text.
        """
        *segments, last = raw_path.removeprefix("/").split("/")
        # Only the last segment can have a verb, and only one that some rule has: elsewhere ":" is
        # part of an id, as in the project "example.com:mine" or in a mistyped job id.
        head, _, suffix = last.rpartition(":")
        custom_verb = suffix if suffix in self._verbs else ""
        segments.append(head if custom_verb else last)
        allowed = []
        for binding in self._bindings:
            variables = binding.template.match(segments, custom_verb)
            if variables is None:
                continue
            if binding.verb == verb:
                return Found(binding, variables)
            allowed.append(binding.verb)
        if allowed:
            raise WrongVerb(verb, sorted(set(allowed)))
        raise NoSuchPath(raw_path)


def _decode(segment: str, *, keep_slash: bool) -> str:
    """A path segment without its percent-encoding; an escaped slash stays one where the variable
    spans several segments, as the rules of google.api.http have it."""
    if "%" not in segment and segment.isascii():
        refuse_nul(segment)
        return segment
    pieces = _ESCAPED_SLASH.split(segment) if keep_slash else [segment]
    try:
        text = "".join(
            piece if keep_slash and _ESCAPED_SLASH.fullmatch(piece) else _unquote(piece)
            for piece in pieces
        )
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"The path segment {segment!r} is not valid UTF-8.") from error
    refuse_nul(text)
    return text


def _unquote(text: str) -> str:
    """Raises UnicodeDecodeError. ``text`` has the bytes above 127 that should have been escaped, if
    there are any, as Latin-1."""
    return unquote_to_bytes(text.encode("latin-1")).decode()
