"""CEL as the user writes it, checked and made into plain data; only the API does this.

Google's own checker finds syntax errors, unknown fields and wrong types. What is left is a small
language: its tree is walked once, and whatever is not in that language is refused where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from longshore.errors import InvalidArgument, Unimplemented, Violation
from longshore.patch import parse_time
from longshore.sources.project_source.fields import Fields, Kind, Tree

TEXT_MAX_BYTES: Final = 16 << 10
EXISTS_MAX: Final = 32
"""How often a filter may ask for entries: each time it looks at all that an object has."""
_TOO_DEEP = "is nested too deeply: at most 32 levels are allowed"
_PROBLEM = re.compile(
    r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE
)
_NOISE = re.compile(r" \(in container ''\)| \[[A-Z_]+\]$")
_ORDERED = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_EQUAL = {"_==_": "==", "_!=_": "!="}
_LOGICAL = {"_&&_": "and", "_||_": "or"}
_METHODS = ("startsWith", "endsWith", "contains")
_CONSTANTS = {"bool_value": Kind.BOOL, "int64_value": Kind.INT, "string_value": Kind.TEXT}


def check(expression: str, fields: Fields) -> Tree:
    """The tree of a filter, which a Predicate takes.

    Raises InvalidArgument with a violation, of the field "", for each thing that is wrong, with its
    line and column; Unimplemented where the library is not installed.
    """
    if len(expression.encode()) > TEXT_MAX_BYTES:
        raise _invalid([f"The filter has more than {TEXT_MAX_BYTES} bytes."])
    checked = _checked(expression, fields)
    positions = {entry.key: entry.value for entry in checked.source_info.positions}
    try:
        return _Walk(expression, positions, fields).condition(checked.expr, None)
    except _Refused as refused:
        raise _invalid([str(refused)]) from None


def _checked(expression: str, fields: Fields) -> Any:
    try:
        from cel_expr_python import cel  # type: ignore[import-untyped]
    except ImportError as error:
        raise Unimplemented("Filters need a library: install longshore[cel].") from error
    from google.protobuf.message import DecodeError

    from longshore.sources.project_source.messages import checked_expr

    entries = cel.Type.List(cel.Type.Map(cel.Type.STRING, cel.Type.STRING))
    types = {
        Kind.TEXT: cel.Type.STRING,
        Kind.INT: cel.Type.INT,
        Kind.BOOL: cel.Type.BOOL,
        Kind.TIME: cel.Type.TIMESTAMP,
        Kind.RECORDS: entries,
    }
    environment = cel.NewEnv(variables={name: types[one.kind] for name, one in fields.items()})
    try:
        compiled = environment.compile(expression)
    except RuntimeError as error:  # the library has no class of its own
        raise _invalid(_problems(str(error), fields)) from error
    result = compiled.return_type().name()
    if result != cel.Type.BOOL.name():
        raise _invalid(
            [f"The filter gives a value of type {result}, where it must be true or false."]
        )
    try:
        return checked_expr(compiled.serialize())
    except DecodeError as error:
        raise _invalid([f"The filter {_TOO_DEEP}."]) from error


def _invalid(problems: list[str]) -> InvalidArgument:
    return InvalidArgument(
        "\n".join(problems), violations=tuple(Violation("", problem) for problem in problems)
    )


def _problems(text: str, fields: Fields) -> list[str]:
    """What the library says, a line for each mistake, without its pictures of the place."""
    if "recursion" in text:
        return [f"The filter {_TOO_DEEP}."]
    problems = []
    for line, column, what in _PROBLEM.findall(text):
        problem = f"Line {line}, column {column}: {_NOISE.sub('', what)}."
        if what.startswith("undeclared reference"):
            problem += f" The fields are {', '.join(fields)}."
        problems.append(problem)
    return problems or [f"The filter cannot be read: {text}"]


class _Refused(Exception):
    """Something is not in the language of filters; the message says what and where."""


class _Value(NamedTuple):
    tree: Tree
    kind: Kind


class _Walk:
    """From the checker's tree to ours. ``entry`` is the variable of the ``exists`` around."""

    def __init__(self, text: str, positions: Mapping[int, int], fields: Fields) -> None:
        self._text = text
        self._positions = positions
        self._fields = fields
        self._exists_count = 0

    def condition(self, expr: Any, entry: str | None) -> Tree:
        """The tree of something that is true or false."""
        call = expr.call_expr
        function = call.function if expr.WhichOneof("kind") == "call_expr" else ""
        if function in _LOGICAL:
            return self._joined(_LOGICAL[function], call.args, entry)
        if function == "!_":
            return ["not", self.condition(call.args[0], entry)]
        if function in _ORDERED or function in _EQUAL:
            return self._comparison(expr, function, entry)
        if function in _METHODS:
            return self._method(expr, entry)
        if function == "@in":
            return self._membership(call.args, entry)
        if expr.WhichOneof("kind") == "comprehension_expr":
            return self._exists(expr, entry)
        value = self._value(expr, entry)
        if value.kind is not Kind.BOOL:
            raise self._refused(expr, "this is a value, where a condition must stand")
        return value.tree

    def _joined(self, operator: str, args: Any, entry: str | None) -> Tree:
        """One node for a whole chain, however the checker has nested it."""
        operands: list[Any] = []
        for arg in args:
            operand = self.condition(arg, entry)
            operands += operand[1:] if operand[0] == operator else [operand]
        return [operator, *operands]

    def _comparison(self, expr: Any, function: str, entry: str | None) -> Tree:
        left, right = (self._value(arg, entry) for arg in expr.call_expr.args)
        if left.kind is not right.kind:
            what = f"a {left.kind.value} cannot be compared with a {right.kind.value}"
            raise self._refused(expr, what)
        if left.kind is Kind.RECORDS or (left.kind is Kind.BOOL and function in _ORDERED):
            raise self._refused(expr, f"a {left.kind.value} cannot be compared so")
        return [(_ORDERED | _EQUAL)[function], left.tree, right.tree]

    def _method(self, expr: Any, entry: str | None) -> Tree:
        call = expr.call_expr
        operands = [self._value(one, entry) for one in (call.target, *call.args)]
        if any(one.kind is not Kind.TEXT for one in operands):
            raise self._refused(expr, f"{call.function} takes texts")
        return [call.function, *(one.tree for one in operands)]

    def _membership(self, args: Any, entry: str | None) -> Tree:
        value = self._value(args[0], entry)
        if args[1].WhichOneof("kind") != "list_expr":
            raise self._refused(args[1], "after `in` must stand a list of constants in brackets")
        constants = []
        for element in args[1].list_expr.elements:
            one = self._value(element, entry)
            if one.tree[0] != "const" or one.kind is not value.kind:
                what = f"this must be a constant, a {value.kind.value} like what is looked for"
                raise self._refused(element, what)
            constants.append(one.tree[1])
        return ["in", value.tree, constants]

    def _exists(self, expr: Any, entry: str | None) -> Tree:
        loop = expr.comprehension_expr
        if entry is not None:
            raise self._refused(expr, "exists cannot stand inside exists")
        step, accu = loop.loop_step.call_expr, loop.accu_var
        is_exists = (
            loop.accu_init.const_expr.WhichOneof("kind") == "bool_value"
            and not loop.accu_init.const_expr.bool_value
            and step.function == "_||_"
            and loop.result.ident_expr.name == accu == step.args[0].ident_expr.name
            and not loop.iter_var2
        )
        if not is_exists:
            raise self._refused(expr, "of the macros there is only exists(entry, condition)")
        self._exists_count += 1
        if self._exists_count > EXISTS_MAX:
            raise self._refused(expr, f"exists may stand in a filter {EXISTS_MAX} times at most")
        records = self._value(loop.iter_range, None)
        if records.kind is not Kind.RECORDS:
            raise self._refused(loop.iter_range, "exists asks for entries of a field")
        return ["exists", records.tree[1], self.condition(step.args[1], loop.iter_var)]

    def _value(self, expr: Any, entry: str | None) -> _Value:
        """The tree of a field, a constant, or the key or value of an entry."""
        kind = expr.WhichOneof("kind")
        if kind == "ident_expr":
            name = expr.ident_expr.name
            if name in self._fields and name != entry:
                return _Value(["field", name], self._fields[name].kind)
        elif kind == "const_expr":
            member = expr.const_expr.WhichOneof("kind")
            if member in _CONSTANTS:
                return _Value(["const", getattr(expr.const_expr, member)], _CONSTANTS[member])
        elif kind == "select_expr":
            return self._entry(expr, entry)
        elif kind == "call_expr" and expr.call_expr.function == "timestamp":
            return self._time(expr.call_expr.args[0])
        what = "here must stand a field or a constant"
        if kind == "call_expr":
            what += f", not the result of {expr.call_expr.function.strip('@_')!r}"
        raise self._refused(expr, what)

    def _entry(self, expr: Any, entry: str | None) -> _Value:
        select = expr.select_expr
        known = select.operand.ident_expr.name == entry and select.field in ("key", "value")
        if entry is None or not known or select.test_only:
            raise self._refused(
                expr, "an entry has a key and a value, and nothing else is selected"
            )
        return _Value(["entry", select.field], Kind.TEXT)

    def _time(self, argument: Any) -> _Value:
        text = argument.const_expr
        if text.WhichOneof("kind") != "string_value":
            raise self._refused(argument, "timestamp takes a text in quotes")
        try:
            return _Value(["const", parse_time(text.string_value)], Kind.TIME)
        except InvalidArgument as error:
            raise self._refused(argument, error.message.removesuffix(".")) from None

    def _refused(self, expr: Any, what: str) -> _Refused:
        before = self._text[: self._positions.get(expr.id, 0)]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return _Refused(f"Line {line}, column {column}: {what}.")
