"""How the command line shows what it found: ``--format``, and tables for people.

Rows are resources as the REST API writes them (or as it would write a bucket or an object).
``table`` is a table on a terminal and, in a pipe, one line of tab-separated fields per row without
a heading, whole and unadorned. ``json`` and ``yaml`` are the resources; ``value(a,b.c)`` are
single fields. Lists are written while they are read, however long they are.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

ROWS_PER_TABLE = 1000
"""A longer list becomes several tables, so that listing a large bucket needs little memory."""

FOLDED_WIDTH = 24
"""Extra columns leave at least so much to one that folds."""

GAP = 2

_VALUE = re.compile(r"value\(\s*([\w.-]+(?:\s*,\s*[\w.-]+)*)\s*\)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Column(NamedTuple):
    """A column of a table: its heading, and the text of a row's cell in it.

    ``plain``: the text for a pipe, where ``text`` is dressed up for people. ``folds``: long texts
    go on in the next line. ``extra``: left out where the terminal is too narrow for all.
    """

    heading: str
    text: Callable[[Row], str]
    right: bool = False
    style: str = ""
    plain: Callable[[Row], str] | None = None
    folds: bool = False
    extra: bool = False


class Format(NamedTuple):
    """What ``--format`` asks for; ``fields`` are those of ``value(…)``."""

    kind: str
    fields: tuple[str, ...] = ()


def parse_format(text: str) -> Format:
    """The format behind ``--format``; raises typer.BadParameter, which is a usage error."""
    match = _VALUE.fullmatch(text)
    if match:
        return Format("value", tuple(re.split(r"\s*,\s*", match[1])))
    if text in ("table", "json", "yaml"):
        return Format(text)
    raise typer.BadParameter(f"{text!r} is none of table, json, yaml, value(FIELD[,FIELD…]).")


FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="table, json, yaml, or value(FIELD,…) for single fields.",
        callback=lambda text: parse_format(text) and text,
    ),
]
"""``--format`` of a command; give its text to Writer or ``write_one``."""


class Writer:
    """Writes the rows of a list as they come; a context manager, since JSON must be closed."""

    def __init__(self, format_: str, columns: Sequence[Column]) -> None:
        self._format = parse_format(format_)
        self._columns = columns
        self._table: list[Row] = []
        self._count = 0

    def __enter__(self) -> Writer:
        return self

    def write(self, row: Row) -> None:
        """Write one row, or keep it until its table is full."""
        first = self._count == 0
        self._count += 1
        if self._format.kind == "json":
            sys.stdout.write("[\n" if first else ",\n")
            sys.stdout.write(_indented(_json(row)))
        elif self._format.kind == "yaml":
            sys.stdout.write(f"---\n{_yaml(row)}")
        elif self._format.kind == "value":
            _write_line(_field(row, name) for name in self._format.fields)
        elif not sys.stdout.isatty():
            _write_line((column.plain or column.text)(row) for column in self._columns)
        else:
            self._table.append(row)
            if len(self._table) == ROWS_PER_TABLE:
                self._flush_table()

    def write_all(self, rows: Iterable[Row]) -> None:
        """Write every row of a list."""
        for row in rows:
            self.write(row)

    async def write_pages(self, pages: AsyncIterator[Iterable[Row]]) -> None:
        """Write every row of a list that comes in pages."""
        async for page in pages:
            self.write_all(page)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        if self._format.kind == "json":
            sys.stdout.write("\n]\n" if self._count else "[]\n")
        elif self._table:
            self._flush_table()
        elif self._count == 0 and sys.stdout.isatty():
            console().print("[dim]Nothing to list.[/]")

    def _flush_table(self) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        target = console()
        cells = {
            column: [printable(column.text(row)) for row in self._table] for column in self._columns
        }
        _leave_out_extras(cells, target.width)
        table = Table(
            box=SIMPLE_HEAD,
            header_style="bold",
            padding=(0, GAP - 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        for column in cells:
            table.add_column(
                column.heading,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                min_width=len(column.heading),
                overflow="fold",
                style=column.style,
            )
        for texts in zip(*cells.values(), strict=True):
            table.add_row(*(Text(text, style=STATE_STYLES.get(text, "")) for text in texts))
        target.print(table)
        self._table.clear()


def _leave_out_extras(cells: dict[Column, list[str]], width: int) -> None:
    """Take out extra columns, from the right, until the others fit well or none is left."""
    from rich.cells import cell_len

    def needed(column: Column) -> int:
        widest = max(map(cell_len, (column.heading, *cells[column])))
        return min(widest, FOLDED_WIDTH) if column.folds else widest

    for column in reversed([column for column in cells if column.extra]):
        if sum(map(needed, cells)) + GAP * (len(cells) - 1) <= width:
            return
        del cells[column]


STATE_STYLES: Mapping[str, str] = {
    "QUEUED": "yellow",
    "RUNNING": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "CANCELED": "magenta",
    "works": "green",
    "weaker": "yellow",
    "refused": "bold red",
    "not tried": "dim",
}


def write_one(format_: str, row: Row) -> None:
    """Write a single resource; as a table, one line per field."""
    wanted = parse_format(format_)
    if wanted.kind == "json":
        sys.stdout.write(f"{_json(row)}\n")
    elif wanted.kind == "yaml":
        sys.stdout.write(_yaml(row))
    elif wanted.kind == "value":
        _write_line(_field(row, name) for name in wanted.fields)
    elif sys.stdout.isatty():
        _write_fields(row)
    else:
        for name, value in _flat(row):
            _write_line((name, value))


def write_changed(told: str, format_: str, row: Row) -> None:
    """Tell what was done, and write the resource if a format other than table asks for it."""
    say(told)
    if format_ != "table":
        write_one(format_, row)


def say(text: str) -> None:
    """Tell a person, on stderr: the standard output is for what was asked for."""
    sys.stderr.write(f"{printable(text)}\n")


def console(*, stderr: bool = False) -> Console:
    """A terminal's console, which leaves highlighting to us."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def printable(text: str) -> str:
    """``text`` with control characters spelt out: a name must not move the cursor."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def rfc3339(microseconds: int) -> str:
    """A time, given in microseconds since 1970, as the API writes it."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return time.isoformat().replace("+00:00", "Z")


def local_time(text: str) -> str:
    """An RFC 3339 time to the minute in the time zone of this machine; "" stays ""."""
    if not text:
        return ""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"


def number(value: Any) -> str:
    """A count (an int64 of the API is text) with thousands separated; absent is 0."""
    return f"{int(value or 0):,}"


def size(value: Any) -> str:
    """A size in bytes as people read it: ``1.5 MiB``."""
    amount = float(value or 0)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"


def time_column(heading: str, *path: str) -> Column:
    """An extra column of times: local ones for people, those of the API for a pipe."""
    read = field(*path)
    return Column(heading, lambda row: local_time(read(row)), style="dim", plain=read, extra=True)


def field(*path: str) -> Callable[[Row], str]:
    """A cell that shows what lies at ``path`` in a row, or nothing."""
    return lambda row: _field(row, ".".join(path))


def _field(row: Any, name: str) -> str:
    for key in name.split("."):
        row = row.get(key) if isinstance(row, Mapping) else None
    return _scalar(row)


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(_scalar(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Every leaf of a resource with its dotted name."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{name}[{index}]")
    else:
        yield name, _scalar(value)


def _tree(value: Row, indent: str = "", first: str = "") -> Iterable[tuple[str, str]]:
    """The lines of a resource, label and value; ``first`` stands before the first label."""
    for key, inner in value.items():
        label = f"{first or indent}{key}"
        first = ""
        if isinstance(inner, Mapping) and inner:
            yield label, ""
            yield from _tree(inner, f"{indent}  ")
        elif isinstance(inner, list) and any(isinstance(item, Mapping) for item in inner):
            yield label, ""
            for item in inner:
                yield from _tree(item, f"{indent}    ", f"{indent}  - ")
        else:
            yield label, _scalar(inner)


def _write_fields(row: Row) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _tree(row):
        text = Text(printable(value), style=STATE_STYLES.get(value, ""))
        table.add_row(Text(printable(label)), text)
    console().print(table)


def _write_line(cells: Iterable[str]) -> None:
    sys.stdout.write("\t".join(printable(cell) for cell in cells) + "\n")


def _json(row: Row) -> str:
    return json.dumps(row, indent=2, ensure_ascii=False)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _yaml(row: Row) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(row), allow_unicode=True, sort_keys=True, width=1000)
    return text
