"""Statements that are made into text once, for the one transaction that runs with every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Dialect, Executable

_Converter = Callable[[Any], Any]


class Prepared:
    """A statement of SQLAlchemy's, given to the driver directly: to look it up, to check its
    parameters and to make a result of its rows takes three times as long as to run it.

    Its parameters must be single values.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._made: dict[str, _Made] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """The driver's cursor, after the statement with these values of its parameters. Raises the
        driver's own errors."""
        dialect = connection.dialect
        made = self._made.get(dialect.name)
        if made is None:
            made = self._made[dialect.name] = _Made(self._statement, dialect)
        cursor = connection.connection.cursor()
        dialect.do_execute(cursor, made.text, made.parameters(values))
        return cursor


class _Made:
    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self._constants: Mapping[str, Any] = compiled.params
        self._order: list[str] | None = compiled.positiontup if compiled.positional else None
        self._converters: dict[str, _Converter] = {}
        for name, parameter in compiled.binds.items():
            converter = parameter.type.dialect_impl(dialect).bind_processor(dialect)
            if converter is not None:
                self._converters[name] = converter

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """As the driver takes them."""
        all_ = {**self._constants, **values}
        for name, convert in self._converters.items():
            all_[name] = convert(all_[name])
        return all_ if self._order is None else [all_[name] for name in self._order]
