"""SQL conditions of AIP-160 filters, over a table of fields.

A comparison with an absent value is false, and so its NOT is true: conditions never are NULL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, literal, not_, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from longshore.api import filter as aip160
from longshore.api.filter import All, Node, Not, Restriction, Some
from longshore.api.json_messages import parse_timestamp
from longshore.model import State

_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_TRUE, _FALSE = "true", "false"
INT64_MAX = (1 << 63) - 1


class Kind(Enum):
    """What a field holds, which says how a filter's value is read."""

    TEXT = "text"
    STATE = "state"
    TIME = "time"
    BOOL = "bool"
    INT = "int"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that filters may name. ``prefix`` + the column is a resource's full name, of which
    the column alone may be given as well."""

    kind: Kind
    column: ColumnElement[Any]
    prefix: str = ""


Fields = Mapping[str, Field]
"""Fields by path in snake_case; "name" is where bare words are looked for."""


def condition(text: str, fields: Fields) -> ColumnElement[bool]:
    """The condition that a filter stands for; always true for a blank one.

    Raises InvalidArgument, with the position, for what is no filter of these fields.
    """
    node = aip160.parse(text)
    return true() if node is None else _condition(node, fields)


def _condition(node: Node, fields: Fields) -> ColumnElement[bool]:
    match node:
        case All(terms=terms):
            return and_(*(_condition(term, fields) for term in terms))
        case Some(terms=terms):
            return or_(*(_condition(term, fields) for term in terms))
        case Not(term=term):
            return not_(_condition(term, fields))
        case Restriction(path=""):
            return _contains(fields["name"], node.value)
        case Restriction():
            return _restriction(node, fields)


def _restriction(node: Restriction, fields: Fields) -> ColumnElement[bool]:
    field = fields.get(_CAMEL.sub(lambda match: "_" + match[1].lower(), node.path))
    if field is None:
        known = ", ".join(sorted(fields))
        raise aip160.invalid(
            node.position, f"there is no field {node.path!r} to filter by; there are {known}."
        )
    present = field.column.is_not(None)
    if node.operator == ":" and node.value == "*" and not node.quoted:
        return present
    return and_(present, _BY_KIND[field.kind](node, field))


def _text(node: Restriction, field: Field) -> ColumnElement[bool]:
    value = node.value
    if node.operator == ":" and "*" not in value:
        return _contains(field, value)
    if node.operator in (":", "=", "!=") and "*" in value:
        pieces = re.split(r"(?<!\\)\*", value)
        alike = _glob(field, [piece.replace(r"\*", "*") for piece in pieces])
        return not_(alike) if node.operator == "!=" else alike
    if field.prefix and "/" in value:
        if not value.startswith(field.prefix):
            return _COMPARE[node.operator](literal(field.prefix) + field.column, value)
        value = value.removeprefix(field.prefix)
    return _COMPARE[node.operator](field.column, value)


def _contains(field: Field, value: str) -> ColumnElement[bool]:
    return _glob(field, ["", value, ""])


def _glob(field: Field, pieces: list[str]) -> ColumnElement[bool]:
    alike: ColumnElement[bool] = Glob(field.column, pieces)
    if field.prefix:
        alike = or_(alike, Glob(literal(field.prefix) + field.column, pieces))
    return alike


def _state(node: Restriction, field: Field) -> ColumnElement[bool]:
    name = node.value.upper()
    if name not in State.__members__:
        known = ", ".join(State.__members__)
        raise aip160.invalid(node.position, f"{node.value!r} is no state; there are {known}.")
    return _equality(node, field, name)


def _bool(node: Restriction, field: Field) -> ColumnElement[bool]:
    value = node.value.lower()
    if value not in (_TRUE, _FALSE):
        raise aip160.invalid(node.position, f"{node.path} is true or false, not {node.value!r}.")
    return _equality(node, field, value == _TRUE)


def _equality(node: Restriction, field: Field, value: Any) -> ColumnElement[bool]:
    if node.operator not in ("=", "!=", ":"):
        raise aip160.invalid(node.position, f"{node.path} can't be compared by {node.operator!r}.")
    return _COMPARE[node.operator](field.column, value)


def _time(node: Restriction, field: Field) -> ColumnElement[bool]:
    try:
        seconds, nanos = parse_timestamp(node.value)
    except ValueError as error:
        raise aip160.invalid(
            node.position,
            f"{node.path} is compared with an RFC 3339 time like 2026-01-31T12:00:00Z, not with"
            f" {node.value!r}.",
        ) from error
    return _COMPARE[node.operator](field.column, seconds * 1_000_000 + nanos // 1000)


def _int(node: Restriction, field: Field) -> ColumnElement[bool]:
    if not re.fullmatch(r"-?\d{1,19}", node.value, re.ASCII) or abs(int(node.value)) > INT64_MAX:
        raise aip160.invalid(node.position, f"{node.path} is a number, not {node.value!r}.")
    return _COMPARE[node.operator](field.column, int(node.value))


_BY_KIND: Mapping[Kind, Callable[[Restriction, Field], ColumnElement[bool]]] = {
    Kind.TEXT: _text,
    Kind.STATE: _state,
    Kind.TIME: _time,
    Kind.BOOL: _bool,
    Kind.INT: _int,
}
_COMPARE: Mapping[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    ":": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


class Glob(ColumnElement[bool]):
    """Whether a text is ``pieces`` with anything between them, by case.

    Each database has its own way: LIKE ignores case on SQLite, and PostgreSQL has no GLOB.
    """

    inherit_cache = False

    def __init__(self, column: ColumnElement[str], pieces: list[str]) -> None:
        self.column = column
        self.pieces = pieces


@compiles(Glob, "sqlite")
def _sqlite_glob(element: Glob, compiler: SQLCompiler, **options: Any) -> str:
    pattern = "*".join(re.sub(r"([*?\[])", r"[\1]", piece) for piece in element.pieces)
    return _operation(element, "GLOB", pattern, compiler, options)


@compiles(Glob)
def _like(element: Glob, compiler: SQLCompiler, **options: Any) -> str:
    pattern = "%".join(re.sub(r"([%_\\])", r"\\\1", piece) for piece in element.pieces)
    return _operation(element, "LIKE", pattern, compiler, options)


def _operation(
    element: Glob, operator: str, pattern: str, compiler: SQLCompiler, options: dict[str, Any]
) -> str:
    value: ColumnElement[str] = bindparam(None, pattern, unique=True)
    return str(compiler.process(element.column.op(operator)(value), **options))
