"""HTTP → method and request message, by the google.api.http rules on the descriptors.

There is no route per method: templates are compiled from the rules once, and whatever carries a
rule can be called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from google.protobuf.descriptor import Descriptor, MethodDescriptor

from longshore.api import json_messages, wire
from longshore.api.json_messages import Problems
from longshore.errors import InvalidArgument

QUERY_PARAMETERS_MAX = 200
_SYSTEM_PARAMETERS = frozenset(
    {
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "userProject",
        "xgafv",
    }
)
_ENUM_NUMBERS = "json;enum-encoding=int"
_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")
_ESCAPED_SLASH = re.compile(r"(%2[fF])")


class NoSuchPath(Exception):
    """No rule has this path."""


class WrongVerb(Exception):
    """The path exists, under other HTTP methods."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(", ".join(allowed))
        self.allowed = tuple(allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How the caller wants the reply printed."""

    enum_numbers: bool = False
    pretty: bool = True


class Call(NamedTuple):
    """A method to call, with its request; ``reply`` says how to print what it gives."""

    method: MethodDescriptor
    request: Any
    reply: Reply


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
        self, variables: Mapping[str, str], query: Sequence[tuple[str, str]], body: bytes
    ) -> Any:
        """The request message; raises InvalidArgument with everything that is wrong in it."""
        message = wire.message_class(self.method.input_type.full_name)()
        problems = Problems()
        if self.body == "*":
            json_messages.read(json_messages.parse(body), message, "", problems)
        elif self.body:
            part = getattr(message, self.body)
            part.SetInParent()
            json_messages.read(json_messages.parse(body), part, self.body, problems)
        for name, value in query:
            self._bind(name, value, message, problems)
        problems.raise_any()
        for name, value in variables.items():
            setattr(message, name, value)
        return message

    def _bind(self, name: str, value: str, message: Any, problems: Problems) -> None:
        descriptor: Descriptor = message.DESCRIPTOR
        reader = json_messages.reader_of(descriptor, name)
        if reader is None or self.body in ("*", reader.field.name):
            why = f"Field '{name}' could not be found in request message."
            problems.unknown(name, "", f"Cannot bind query parameter. {why}")
        elif reader.scalar is None:
            why = f"'{name}' is a message type. Parameters can only be bound to primitive types."
            problems.unknown(name, "", f"Cannot bind query parameter. {why}")
        else:
            field = reader.field.name
            take = (
                getattr(message, field).append
                if reader.repeated
                else lambda one: setattr(message, field, one)
            )
            json_messages.read_scalar(value, reader, field, problems, take)


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

    def call(self, verb: str, raw_path: str, raw_query: str, body: bytes) -> Call:
        """What a request asks for.

        ``raw_path`` and ``raw_query`` are as sent, percent-encoded. Raises NoSuchPath, WrongVerb,
        or InvalidArgument with a violation for each bad field.
        """
        binding, variables = self._find(verb, raw_path)
        reply, query = _split_query(raw_query)
        return Call(binding.method, binding.request(variables, query, body), reply)

    def method(self, verb: str, raw_path: str) -> MethodDescriptor:
        """Which method a request is for; raises NoSuchPath, WrongVerb, or InvalidArgument."""
        binding, _ = self._find(verb, raw_path)
        return binding.method

    def _find(self, verb: str, raw_path: str) -> tuple[_Binding, dict[str, str]]:
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
                return binding, variables
            allowed.append(binding.verb)
        if allowed:
            raise WrongVerb(sorted(set(allowed)))
        raise NoSuchPath(raw_path)


def _decode(segment: str, *, keep_slash: bool) -> str:
    """A path segment without its percent-encoding; an escaped slash stays one where the variable
    spans several segments, as the rules of google.api.http have it."""
    pieces = _ESCAPED_SLASH.split(segment) if keep_slash else [segment]
    try:
        text = "".join(
            piece if keep_slash and _ESCAPED_SLASH.fullmatch(piece) else _strict_unquote(piece)
            for piece in pieces
        )
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"The path segment {segment!r} is not valid UTF-8.") from error
    _refuse_nul(text)
    return text


def _strict_unquote(text: str) -> str:
    return unquote(text, errors="strict")


def _refuse_nul(text: str) -> None:
    if "\x00" in text:
        raise InvalidArgument("Paths and query parameters must not contain the NUL character.")


def _split_query(raw_query: str) -> tuple[Reply, list[tuple[str, str]]]:
    """How to print the reply, and the parameters that are the method's own."""
    try:
        pairs = parse_qsl(
            raw_query,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_PARAMETERS_MAX,
        )
    except ValueError as error:
        raise InvalidArgument(
            "The query string is not valid UTF-8 or has more than"
            f" {QUERY_PARAMETERS_MAX} parameters."
        ) from error
    system: dict[str, str] = {}
    own = []
    for name, value in pairs:
        _refuse_nul(name + value)
        plain = name.removeprefix("$").removeprefix(".")
        if plain in _SYSTEM_PARAMETERS:
            system[plain] = value
        else:
            own.append((name, value))
    return _reply(system), own


def _reply(system: Mapping[str, str]) -> Reply:
    alt = system.get("alt", "json")
    if alt not in ("", "json", _ENUM_NUMBERS):
        raise InvalidArgument(
            f"Unsupported output format {alt!r}: alt must be json or {_ENUM_NUMBERS}."
        )
    if system.get("callback"):
        raise InvalidArgument("JSONP is not supported: send no `callback` parameter.")
    pretty = system.get("prettyPrint", "true").lower() not in ("false", "0", "f", "no")
    return Reply(enum_numbers=alt == _ENUM_NUMBERS, pretty=pretty)
