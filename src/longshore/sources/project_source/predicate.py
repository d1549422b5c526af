"""A checked filter as a function over columns.

It is compiled to one list comprehension, as a Python syntax tree put together of the few kinds of
nodes below; what the user wrote is in it as constants, and is never read as Python.

A comparison with a value that is not set is neither true nor false, as in BigQuery, and so not true
under ``!`` either. Conditions are therefore compiled together with whether they are negated:
``!(a && b)`` is ``!a || !b``, and a comparison, negated or not, asks first for what it compares.
"""

from __future__ import annotations

import ast
import math
import os.path
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from longshore.patch import load_map, memoised
from longshore.sources.project_source.fields import Fields, Kind, Tree

PREFIXES_MAX: Final = 1000
_COMPARISONS: Mapping[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
}
_METHODS: Mapping[str, str] = {"startsWith": "startswith", "endsWith": "endswith"}
_ROWS = "rows"


class Predicate:
    """Which rows of a table, given as columns, a filter chooses. ``columns`` is what it asks."""

    def __init__(self, tree: Tree, fields: Fields) -> None:
        compiling = _Compiling(fields)
        condition = compiling.condition(tree, positive=True)
        self._choose = _function(list(compiling.used), condition)
        self._records = {
            field.column: field.kind is Kind.RECORDS
            for name, field in fields.items()
            if field.column in compiling.used
        }
        self.columns = tuple(compiling.used)

    def __call__(self, columns: Mapping[str, Sequence[Any]], count: int) -> list[int]:
        """The indexes of the rows that are chosen, in order, of ``count`` rows."""
        given = [
            memoised(_entries, columns[name]) if self._records[name] else columns[name]
            for name in self.columns
        ]
        return self._choose(range(count), *given)


def prefixes(tree: Tree) -> list[str]:
    """Prefixes of ``name`` that together cover everything that a filter of objects can choose;
    [""] where it does not say."""
    found = _prefixes(tree)
    if len(found) > PREFIXES_MAX:
        return [os.path.commonprefix(found)]  # noqa: RUF071 - they are no paths
    return found


def _prefixes(tree: Tree) -> list[str]:
    operator, *operands = tree
    if operator == "and":
        return max(
            map(_prefixes, operands), key=lambda found: min(map(len, found), default=math.inf)
        )
    if operator == "or":
        return [prefix for operand in operands for prefix in _prefixes(operand)]
    if operands[0] == ["field", "name"]:
        if operator in ("==", "startsWith") and operands[1][0] == "const":
            return [operands[1][1]]
        if operator == "in":
            return list(operands[1])
    return [""]


def _entries(text: str) -> list[tuple[str, str]]:
    return list(load_map(text).items())


def _function(columns: list[str], condition: ast.expr) -> Callable[..., list[int]]:
    """``lambda rows, A, …: [row for row, a, … in zip(rows, A, …) if condition]``."""
    given = [_ROWS, *(_column(name) for name in columns)]
    target = ast.Tuple([_stored(one) for one in ("row", *map(_value, columns))], ast.Store())
    rows = ast.Call(_name("zip"), [_name(one) for one in given], [])
    loop = ast.comprehension(target, rows, [condition], 0)
    arguments = ast.arguments([], [ast.arg(one) for one in given], None, [], [], None, [])
    tree = ast.Expression(ast.Lambda(arguments, ast.ListComp(_name("row"), [loop])))
    code = compile(ast.fix_missing_locations(tree), "<filter>", "eval")
    # Nothing but zip is within its reach, and nothing in it is text that was parsed as Python.
    function: Callable[..., list[int]] = eval(code, {"__builtins__": {}, "zip": zip})  # noqa: S307
    return function


class _Compiling:
    """Syntax trees of conditions. ``used``: the columns of the fields that they ask, in order."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.used: dict[str, None] = {}

    def condition(self, tree: Tree, *, positive: bool) -> ast.expr:
        """An expression that is truthy where the condition is true (``positive``) or false."""
        operator, *operands = tree
        if operator == "not":
            return self.condition(operands[0], positive=not positive)
        if operator in ("and", "or"):
            parts = [self.condition(one, positive=positive) for one in operands]
            return ast.BoolOp(ast.And() if (operator == "and") is positive else ast.Or(), parts)
        if operator == "exists":
            return _negated(self._exists(*operands), positive)
        if operator in ("field", "const"):
            return _negated(self._value(tree), positive)
        if operator == "in":
            values = [operands[0]]
            test = self._in(*operands)
        else:
            values = operands
            test = self._comparison(operator, *operands)
        guards = [self._value(value) for value in values if self._may_lack(value)]
        test = _negated(test, positive)
        return ast.BoolOp(ast.And(), [*guards, test]) if guards else test

    def _may_lack(self, value: Tree) -> bool:
        return value[0] == "field" and self._fields[value[1]].optional

    def _exists(self, name: str, body: Tree) -> ast.expr:
        """``[1 for key, value in entries if body]``, which is cheaper than any()."""
        target = ast.Tuple([_stored("key"), _stored("value")], ast.Store())
        condition = self.condition(body, positive=True)
        loop = ast.comprehension(target, self._value(["field", name]), [condition], 0)
        return ast.ListComp(ast.Constant(1), [loop])

    def _in(self, value: Tree, constants: list[Any]) -> ast.expr:
        if not constants:
            return ast.Constant(False)
        # Python makes one constant of such a set.
        values = ast.Set([ast.Constant(one) for one in dict.fromkeys(constants)])
        return _compare(self._value(value), ast.In, values)

    def _comparison(self, operator: str, left: Tree, right: Tree) -> ast.expr:
        one, other = self._value(left), self._value(right)
        if operator in _COMPARISONS:
            return _compare(one, _COMPARISONS[operator], other)
        if operator == "contains":
            return _compare(other, ast.In, one)
        return ast.Call(ast.Attribute(one, _METHODS[operator], ast.Load()), [other], [])

    def _value(self, value: Tree) -> ast.expr:
        kind, what = value
        if kind == "const":
            return ast.Constant(what)
        if kind == "entry":
            return _name(what)
        column = self._fields[what].column
        self.used[column] = None
        return _name(_value(column))


def _negated(test: ast.expr, positive: bool) -> ast.expr:
    return test if positive else ast.UnaryOp(ast.Not(), test)


def _compare(left: ast.expr, operator: type[ast.cmpop], right: ast.expr) -> ast.expr:
    return ast.Compare(left, [operator()], [right])


def _column(name: str) -> str:
    return f"all_{name}"


def _value(column: str) -> str:
    return f"one_{column}"


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _stored(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())
