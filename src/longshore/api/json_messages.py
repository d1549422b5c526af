"""JSON ⇄ messages, driven by the descriptors, with the texts of Google's own transcoder.

``json_format`` cannot read for us: it stops at the first problem, words it differently, refuses a
repeated key (the last one wins) and takes a list for a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import orjson
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from longshore.api import wire
from longshore.errors import VIOLATIONS_MAX, InvalidArgument, Violation, refuse

_SHOWN_VALUE_CHARACTERS = 500
_TIMESTAMP = "google.protobuf.Timestamp"
_ANY = "google.protobuf.Any"
_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):([0-5]\d))",
    re.ASCII,
)
_TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)  # the years 1 to 9999
_ALWAYS_PRINTED: Mapping[str, tuple[str, ...]] = {
    "google.longrunning.Operation": ("done",),
    f"{wire.PACKAGE}.OperationMetadata": ("requested_cancellation",),
}


class Problems:
    """What is wrong with a request; all of it is reported at once, up to VIOLATIONS_MAX."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """``field``: the snake_case path, "" for the root; ``description`` is the message too."""
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(Violation(field, description))

    def unknown(self, name: str, path: str, why: str) -> None:
        """A name that means nothing where it stands."""
        where = f" at '{path}'" if path else ""
        shown = name[:_SHOWN_VALUE_CHARACTERS]
        text = f'Invalid JSON payload received. Unknown name "{shown}"{where}: {why}'
        self.add(path, text)

    def invalid(self, path: str, type_: str, value: Any) -> None:
        """A value that its field cannot hold."""
        self.add(path, f"Invalid value at '{path}' ({type_}), {_shown(value)}")

    def raise_any(self) -> None:
        """Raises InvalidArgument if there is any."""
        refuse(self._violations)


def _shown(value: Any) -> str:
    """A value in an error text; not what is in a container, which may be deeper than orjson
    prints."""
    if isinstance(value, list | dict):
        return "[...]" if isinstance(value, list) else "{...}"
    return orjson.dumps(value).decode()[:_SHOWN_VALUE_CHARACTERS]


def parse(body: bytes) -> Any:
    """The JSON value in ``body``; an empty or blank one is ``{}``. Raises InvalidArgument."""
    if not body.strip():
        return {}
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error


class _Reader(NamedTuple):
    """How one field is read. ``scalar`` raises ValueError for a value that it refuses."""

    field: FieldDescriptor
    type: str
    scalar: Callable[[Any], Any] | None
    oneof: str
    repeated: bool
    map: bool


def read(value: Any, message: Any, path: str, problems: Problems) -> None:
    """Fill ``message``, which stands at ``path`` of the request, from a JSON value."""
    if not isinstance(value, dict):
        if path:
            problems.invalid(path, wire.TYPE_URL_PREFIX + message.DESCRIPTOR.full_name, value)
        else:
            problems.unknown("", "", "Root element must be a message.")
        return
    readers = _readers(message.DESCRIPTOR)
    members: set[str] = set()
    for name, one in value.items():
        reader = readers.get(name)
        if reader is None:
            problems.unknown(name, path, "Cannot find field.")
            continue
        if one is None:
            continue
        if reader.oneof:
            if reader.oneof in members:
                text = f"oneof field '{reader.oneof}' is already set. Cannot set '{name}'"
                problems.add(path, f"Invalid value at '{path}' (oneof), {text}")
                continue
            members.add(reader.oneof)
        _read_field(one, message, reader, _join(path, reader.field.name), problems)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _read_field(value: Any, message: Any, reader: _Reader, path: str, problems: Problems) -> None:
    name = reader.field.name
    if isinstance(value, list) and not reader.repeated:
        parent = path.rpartition(".")[0]
        problems.unknown(name, parent, "Proto field is not repeating, cannot start list.")
    elif reader.map:
        message.ClearField(name)
        _read_map(value, getattr(message, name), reader, path, problems)
    elif reader.repeated:
        message.ClearField(name)
        _read_list(value, getattr(message, name), reader, path, problems)
    elif reader.scalar is not None:
        read_scalar(value, reader, path, problems, lambda one: setattr(message, name, one))
    else:
        child = getattr(message, name)
        child.SetInParent()
        _read_message(value, child, path, problems)


def _read_list(values: Any, container: Any, reader: _Reader, path: str, problems: Problems) -> None:
    if not isinstance(values, list):
        problems.invalid(path, reader.type, values)
        return
    for index, value in enumerate(values):
        place = f"{path}[{index}]"
        if reader.scalar is not None:
            read_scalar(value, reader, place, problems, container.append)
        else:
            _read_message(value, container.add(), place, problems)


def _read_map(values: Any, container: Any, reader: _Reader, path: str, problems: Problems) -> None:
    if not isinstance(values, dict):
        problems.invalid(path, "Map", values)
        return
    entry = _readers(reader.field.message_type)["value"]
    for index, (key, value) in enumerate(values.items()):
        place = f"{path}[{index}].value"
        if entry.scalar is not None:
            read_scalar(value, entry, place, problems, partial(container.__setitem__, key))
        else:
            _read_message(value, container[key], place, problems)


def _read_message(value: Any, message: Any, path: str, problems: Problems) -> None:
    if message.DESCRIPTOR.full_name == _TIMESTAMP:
        _read_timestamp(value, message, path, problems)
    else:
        read(value, message, path, problems)


def read_scalar(
    value: Any, reader: _Reader, path: str, problems: Problems, take: Callable[[Any], None]
) -> None:
    """Hand ``value``, converted for its field, to ``take``; otherwise say why not."""
    assert reader.scalar is not None  # noqa: S101 - the callers have just looked
    if isinstance(value, dict):
        problems.add(
            path,
            f"Invalid value at '{path}' ({reader.type}), Starting an object on a scalar field",
        )
        return
    try:
        converted = reader.scalar(value)
    except ValueError:
        problems.invalid(path, reader.type, value)
        return
    take(converted)


def bind(text: str, message: Any, reader: _Reader, path: str, problems: Problems) -> None:
    """Read a scalar field of ``message`` from a text; a repeated one gets it as one more element,
    another takes the last of several."""
    field = reader.field.name
    take = getattr(message, field).append if reader.repeated else partial(setattr, message, field)
    read_scalar(text, reader, path, problems, take)


def _read_timestamp(value: Any, message: Any, path: str, problems: Problems) -> None:
    try:
        message.seconds, message.nanos = parse_timestamp(_to_text(value))
    except ValueError:
        field = path.rpartition(".")[2]
        problems.add(
            path,
            f"Invalid value at '{path}' ({wire.TYPE_URL_PREFIX}{_TIMESTAMP}), Field '{field}',"
            " Illegal timestamp format; timestamps must end with 'Z' or have a valid timezone"
            " offset.",
        )


def parse_timestamp(text: str) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds of an RFC 3339 text; raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 timestamp.")
    date, time, fraction, sign, hours, minutes = match.groups()
    moment = datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=UTC)
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(hours=24):
        raise ValueError(f"{text!r} has an impossible offset.")
    seconds = int(moment.timestamp()) - int(offset.total_seconds()) * (-1 if sign == "-" else 1)
    if seconds not in _TIMESTAMP_SECONDS:
        raise ValueError(f"{text!r} is not in the years 1 to 9999.")
    return seconds, int((fraction or "0").ljust(9, "0"))


def reader_of(descriptor: Descriptor, name: str) -> _Reader | None:
    """How the field that JSON calls ``name`` (camelCase or snake_case) is read."""
    return _readers(descriptor).get(name)


@cache
def _readers(descriptor: Descriptor) -> Mapping[str, _Reader]:
    readers = {}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        type_, scalar = _scalar(field)
        reader = _Reader(
            field=field,
            type=type_,
            scalar=scalar,
            # A proto3 optional is a oneof of one, whose name starts with "_".
            oneof="" if oneof is None or oneof.name.startswith("_") else oneof.name,
            repeated=field.is_repeated,
            map=wire.map_value(field) is not None,
        )
        readers[field.name] = readers[field.json_name] = reader
    return readers


def _scalar(field: FieldDescriptor) -> tuple[str, Callable[[Any], Any] | None]:
    """The name of the field's type in error texts, and its conversion (None: a message)."""
    if field.message_type is not None:
        return wire.TYPE_URL_PREFIX + field.message_type.full_name, None
    if field.enum_type is not None:
        enum = field.enum_type
        return wire.TYPE_URL_PREFIX + enum.full_name, lambda value: _to_enum(value, enum)
    return _SCALARS[field.type]


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - a bad value of the request, not of the program
    return value


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = _to_text(value).lower()
    if text not in _TRUE and text not in _FALSE:
        raise ValueError(value)
    return text in _TRUE


def _to_int(value: Any, bits: int) -> int:
    number = value
    if isinstance(value, str):
        if not re.fullmatch(r"-?\d{1,20}", value, re.ASCII):
            raise ValueError(value)
        number = int(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    limit = 1 << (bits - 1)
    if isinstance(number, bool) or not isinstance(number, int) or not -limit <= number < limit:
        raise ValueError(value)
    return number


def _to_enum(value: Any, enum: EnumDescriptor) -> int:
    if isinstance(value, str) and value in enum.values_by_name:
        return int(enum.values_by_name[value].number)
    return _to_int(value, 32)


_SCALARS: Mapping[int, tuple[str, Callable[[Any], Any]]] = {
    FieldDescriptor.TYPE_STRING: ("TYPE_STRING", _to_text),
    FieldDescriptor.TYPE_BOOL: ("TYPE_BOOL", _to_bool),
    FieldDescriptor.TYPE_INT32: ("TYPE_INT32", lambda value: _to_int(value, 32)),
    FieldDescriptor.TYPE_INT64: ("TYPE_INT64", lambda value: _to_int(value, 64)),
}
"""The scalars that the service's messages have; another one is a KeyError when it is first read."""


Print = Callable[[Any], Any]


def to_json(message: Any, *, enum_numbers: bool = False) -> Any:
    """``message`` as a value for a JSON writer, as ``json_format`` would print it.

    A few fields that pollers look at are printed even when false (``_ALWAYS_PRINTED``). An Any
    whose type is not of this API raises KeyError.
    """
    return _message_printer(message.DESCRIPTOR, enum_numbers)(message)


@cache
def _message_printer(descriptor: Descriptor, enum_numbers: bool) -> Print:
    if descriptor.full_name == _TIMESTAMP:
        return lambda message: message.ToJsonString()
    if descriptor.full_name == _ANY:
        return lambda packed: _any_to_json(packed, enum_numbers)
    # Made once a type; no message of this API has one of its own type in it.
    printers = {
        field.number: (field.json_name, _printer(field, enum_numbers))
        for field in descriptor.fields
    }
    always = [
        (name, descriptor.fields_by_name[name].json_name)
        for name in _ALWAYS_PRINTED.get(descriptor.full_name, ())
    ]

    def print_(message: Any) -> dict[str, Any]:
        printed = {}
        for field, value in message.ListFields():
            name, print_field = printers[field.number]
            printed[name] = value if print_field is None else print_field(value)
        for name, json_name in always:
            printed.setdefault(json_name, getattr(message, name))
        return printed

    return print_


def _any_to_json(packed: Any, enum_numbers: bool) -> dict[str, Any]:
    message = wire.unpack(packed)
    return {"@type": packed.type_url, **to_json(message, enum_numbers=enum_numbers)}


def _printer(field: FieldDescriptor, enum_numbers: bool) -> Print | None:
    """How the value of a field is printed; None: as it is."""
    if (entry := wire.map_value(field)) is not None:
        value = _value_printer(entry, enum_numbers) or _same
        return lambda entries: {str(key): value(entries[key]) for key in entries}
    one = _value_printer(field, enum_numbers)
    if not field.is_repeated:
        return one
    return list if one is None else lambda values: [one(value) for value in values]


def _value_printer(field: FieldDescriptor, enum_numbers: bool) -> Print | None:
    if field.message_type is not None:
        return _message_printer(field.message_type, enum_numbers)
    if field.enum_type is not None and not enum_numbers:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_INT64:
        return str
    return None


def _same(value: Any) -> Any:
    return value
