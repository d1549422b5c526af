"""SQL conditions of AIP-160 filters, over a table of fields.

A comparison with an absent value is false, and so its NOT is true: conditions never are NULL.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Text,
    TypeDecorator,
    and_,
    bindparam,
    false,
    func,
    literal,
    not_,
    or_,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from longshore.api import filter as aip160
from longshore.api.filter import All, Node, Not, Restriction, Some
from longshore.api.json_messages import parse_timestamp
from longshore.model import State

_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TRUE, _FALSE = "true", "false"
_LAST = "\U0010ffff"
INT64_MAX = (1 << 63) - 1


class Kind(Enum):
    """What a field holds, which says how a filter's value is read."""

    TEXT = "text"
    STATE = "state"
    TIME = "time"
    BOOL = "bool"
    INT = "int"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that filters may name. ``prefix`` + the column is a resource's full name, of which
    the column alone may be given as well.

    ``indexed``: an index finds equal ones in each order of the list; ``counted``: a value of what
    is open has to be counted first.
    """

    kind: Kind
    column: ColumnElement[Any]
    prefix: str = ""
    indexed: bool = False
    counted: bool = False


Fields = Mapping[str, Field]
"""Fields by path in snake_case. Bare words are looked for in all that are text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter as SQL: all of ``seek``, which an index of the list's order finds, and ``rest``.
    ``terms``: how many comparisons the rest has; ``counts``: whether one is with a counted field.
    """

    seek: Sequence[ColumnElement[bool]] = ()
    rest: ColumnElement[bool] | None = None
    terms: int = 0
    counts: bool = False


def compiled(text: str, fields: Fields, first: ColumnElement[Any]) -> Filter:
    """What a filter stands for; ``first`` is the column that the list is ordered by.

    Raises InvalidArgument, with the position, for what is no filter of these fields.
    """
    node = aip160.parse(text)
    seek: list[ColumnElement[bool]] = []
    rest: list[Node] = []
    for term in [] if node is None else _conjuncts(node):
        found, whole = _seek(term, fields, first)
        seek += found
        if not whole:
            rest.append(term)
    conditions = [_condition(term, fields) for term in rest]
    left = [one for term in rest for one in aip160.restrictions(term)]
    return Filter(
        seek=seek,
        rest=and_(*conditions) if conditions else None,
        terms=len(left),
        counts=any(_field(one, fields).counted for one in left if one.path),
    )


def _conjuncts(node: Node) -> Sequence[Node]:
    if isinstance(node, All):
        return [one for term in node.terms for one in _conjuncts(term)]
    return [node]


def _seek(
    node: Node, fields: Fields, first: ColumnElement[Any]
) -> tuple[list[ColumnElement[bool]], bool]:
    """What an index finds of a term, and whether that is all of it."""
    if not isinstance(node, Restriction) or not node.path or node.asks_presence:
        return [], False
    field = _field(node, fields)
    equals = field.indexed and node.operator in ("=", ":")
    if node.operator == "!=" or not (equals or field.column is first):
        return [], False
    if field.kind is not Kind.TEXT:
        return [_BY_KIND[field.kind](node, field)], True
    whole_name = bool(field.prefix) and node.pieces[0].startswith(field.prefix)
    if node.operator == ":" or ("/" in node.value and not whole_name):
        return [], False
    if node.operator != "=" or len(node.pieces) == 1:
        return [_text(node, field)], True
    if field.column is not first:
        return [], False
    start = node.pieces[0]
    if field.prefix.startswith(start) and not whole_name:  # every whole name may begin so
        return [], False
    start = start.removeprefix(field.prefix)
    return [field.column >= start, field.column < start + _LAST], False


def _condition(node: Node, fields: Fields) -> ColumnElement[bool]:
    match node:
        case All(terms=terms):
            return and_(*(_condition(term, fields) for term in terms))
        case Some(terms=terms):
            return or_(*(_condition(term, fields) for term in terms))
        case Not(term=term):
            return not_(_condition(term, fields))
        case Restriction(path=""):
            return _anywhere(node, fields)
        case Restriction():
            return _restriction(node, _field(node, fields))


def _field(node: Restriction, fields: Fields) -> Field:
    field = fields.get(_CAMEL.sub(lambda match: "_" + match[1].lower(), node.path))
    if field is None:
        known = ", ".join(sorted(fields))
        raise aip160.invalid(
            node.position, f"there is no field {node.path!r} to filter by; there are {known}."
        )
    return field


def _restriction(node: Restriction, field: Field) -> ColumnElement[bool]:
    present = field.column.is_not(None)
    if node.asks_presence:
        # As in JSON, where false is left out.
        return field.column.is_(True) if field.kind is Kind.BOOL else present
    compared = _BY_KIND[field.kind](node, field)
    column = field.column
    return (
        compared if isinstance(column, Column) and not column.nullable else and_(present, compared)
    )


def _anywhere(node: Restriction, fields: Fields) -> ColumnElement[bool]:
    """Whether a bare word is in any text, in whichever case: of ASCII letters, as the databases
    agree on no others."""
    pieces = ["", *(piece.translate(_LOWER) for piece in node.pieces), ""]
    # Some fields are one column under two names.
    texts = {id(one.column): one for one in fields.values() if one.kind is Kind.TEXT}.values()
    return or_(
        *(and_(one.column.is_not(None), _alike(func.lower(_whole(one)), pieces)) for one in texts)
    )


def _whole(field: Field) -> ColumnElement[str]:
    return literal(field.prefix) + field.column if field.prefix else field.column


def _text(node: Restriction, field: Field) -> ColumnElement[bool]:
    if node.operator == ":":
        return _alike(_whole(field), ["", *node.pieces, ""])
    if node.operator in ("=", "!=") and len(node.pieces) > 1:
        alike = _alike(field.column, node.pieces)
        if field.prefix:
            alike = or_(alike, _alike(_whole(field), node.pieces))
        return not_(alike) if node.operator == "!=" else alike
    value = node.value
    if field.prefix and "/" in value and not value.startswith(field.prefix):
        return _COMPARE[node.operator](_whole(field), value)
    return _COMPARE[node.operator](field.column, value.removeprefix(field.prefix))


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
    micros, between = seconds * 1_000_000 + nanos // 1000, nanos % 1000 > 0
    if not between:
        return _COMPARE[node.operator](field.column, micros)
    # Times are kept to the microsecond, so this one lies between two that there can be.
    if node.operator in ("=", ":", "!="):
        return true() if node.operator == "!=" else false()
    return _COMPARE["<=" if node.operator in ("<", "<=") else ">"](field.column, micros)


def _int(node: Restriction, field: Field) -> ColumnElement[bool]:
    if not re.fullmatch(r"-?\d{1,19}", node.value, re.ASCII) or abs(int(node.value)) > INT64_MAX:
        raise aip160.invalid(node.position, f"{node.path} is a number, not {node.value!r}.")
    return _COMPARE[node.operator](field.column, int(node.value))


def _message(node: Restriction, _field: Field) -> ColumnElement[bool]:
    raise aip160.invalid(
        node.position, f"{node.path} is there or not, which is asked by '{node.path}:*'."
    )


_BY_KIND: Mapping[Kind, Callable[[Restriction, Field], ColumnElement[bool]]] = {
    Kind.TEXT: _text,
    Kind.STATE: _state,
    Kind.TIME: _time,
    Kind.BOOL: _bool,
    Kind.INT: _int,
    Kind.MESSAGE: _message,
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


class _Pattern(TypeDecorator[Sequence[str]]):
    """Pieces of text with anything between them, as each database's operator takes it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> str:
        """The pattern, in which nothing but what is between the pieces is special."""
        pieces = value or ()
        if dialect.name == "sqlite":
            return "*".join(re.sub(r"([*?\[])", r"[\1]", piece) for piece in pieces)
        return "%".join(re.sub(r"([%_\\])", r"\\\1", piece) for piece in pieces)


class _Glob(FunctionElement[bool]):
    """Whether a text is what a pattern says, by case.

    Each database has its own way: LIKE ignores case on SQLite, and PostgreSQL has no GLOB.
    """

    inherit_cache = True
    name = "glob"
    type = Boolean()


@compiles(_Glob, "sqlite")
def _sqlite_glob(element: _Glob, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(one, **options) for one in element.clauses)
    return f"({column} GLOB {pattern})"


@compiles(_Glob)
def _like(element: _Glob, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(one, **options) for one in element.clauses)
    return f"({column} LIKE {pattern})"


def _alike(text: ColumnElement[str], pieces: Sequence[str]) -> ColumnElement[bool]:
    """Whether ``text`` is ``pieces`` with anything between them."""
    return _Glob(text, bindparam(None, tuple(pieces), type_=_Pattern(), unique=True))
