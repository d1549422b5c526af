"""The rows of a manifest, and the place of the next one."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate

from longshore.errors import Code
from longshore.store import ABSENT, PAGE_BYTES, Failure

_GENERATION = re.compile(r"[0-9]{1,19}")
_MAX_GENERATION = 2**63 - 1
_NAME_MAX_BYTES = 1024
MAX_ROW_BYTES = 64 << 10
_SCAN_BYTES = 4 << 20
"""How far rows of other buckets are passed over before the cursor is moved."""
_decode = partial(str, encoding="utf-8", errors="surrogateescape")


@dataclass(slots=True, kw_only=True)
class Rows:
    """What the rows of a file name in one bucket; ``problems``: why others cannot be tried, by the
    number of their first line, counted from behind ``lines_before``.

    ``size_bytes``: of the names."""

    bucket: str
    file: str
    names: list[str] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    lines_before: int = 0
    size_bytes: int = 0

    def __len__(self) -> int:
        return len(self.names) + len(self.problems)

    @property
    def refused(self) -> dict[str, Failure]:
        """The failures of the rows that cannot be tried, by where each stands."""
        name, refused = self.file.rpartition("/")[2], {}
        for line, problem in self.problems.items():
            number = self.lines_before + line
            message = f"Line {number} of the manifest {self.file}: {problem}"
            refused[f"{name} line {number}"] = Failure(Code.INVALID_ARGUMENT, message)
        return refused

    def add_plain(self, text: str, count: int) -> bool:
        """Take in ``count`` lines if each is a row that needs no CSV parser; False, and none
        taken, otherwise. Only for speed: what it takes, ``add`` would take likewise."""
        longest = _NAME_MAX_BYTES if text.isascii() else _NAME_MAX_BYTES // 4
        pairs = _plain_rows(self.bucket, longest).findall(text)
        if len(pairs) != count:
            return False
        own = [pair for pair in pairs if pair[0]]
        self.names.extend([name for name, _ in own])
        self.size_bytes += sum([len(name.encode()) for name, _ in own])
        self.generations.extend([int(generation or ABSENT) for _, generation in own])
        return True

    def add(self, cells: list[str], line: int) -> None:
        """Take in a row; blank ones and those of other buckets are passed over."""
        if cells[1:] and cells[0] != self.bucket and _is_utf8(cells[0]):
            return
        if not cells[1:] and not "".join(cells).strip():
            return
        if problem := _problem(cells):
            self.refuse(line, problem)
            return
        self.names.append(cells[1])
        self.size_bytes += len(cells[1].encode())
        self.generations.append(int(cells[2] or ABSENT) if cells[2:] else ABSENT)

    def refuse(self, line: int, problem: str) -> None:
        """Note that the row which begins at ``line`` cannot be tried."""
        self.problems[line] = problem


@lru_cache(maxsize=16)
def _plain_rows(bucket: str, name_length: int) -> re.Pattern[str]:
    """A line that is a row of ``bucket`` (name and generation) or another bucket's (two ""), and
    has neither quotes nor a name of more than ``name_length`` characters."""
    own = re.escape(bucket) + ","
    name, generation = rf'[^,"\r\n]{{1,{name_length}}}', "[1-9][0-9]{0,17}"
    others = r'[^,"\r\n]+,[^"\r\n]*'
    return re.compile(
        f"^(?:{own}({name})(?:,({generation})?)?|(?!{own}){others})\r?$", re.MULTILINE
    )


def _problem(cells: list[str]) -> str:
    """What keeps a row from naming an object; "" if nothing does."""
    if not 2 <= len(cells) <= 3:
        return f"it must have the cells bucket,name[,generation], not {len(cells)}."
    name = cells[1]
    if not (_is_utf8(name) and _is_utf8(cells[0])):
        return "it is not valid UTF-8."
    if not name:
        return "the object's name is empty."
    if len(name) > _NAME_MAX_BYTES // 4 and len(name.encode()) > _NAME_MAX_BYTES:
        return f"the object's name has more than {_NAME_MAX_BYTES} bytes."
    if cells[2:] and cells[2] and not _is_generation(cells[2]):
        return f"{cells[2][:50]!r} is no generation: a number from 1 to {_MAX_GENERATION}."
    return ""


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:  # bytes that are not UTF-8 were decoded as surrogates
        return False


def _is_generation(text: str) -> bool:
    return _GENERATION.fullmatch(text) is not None and 1 <= int(text) <= _MAX_GENERATION


class Reader:
    """The rows of a file, one after the other, and the exact place of the next one. A block has at
    most 64 KiB.

    Between two rows there is no state but that place, so reading may begin anew at any of them.
    Memory is bounded, whatever the file holds: a row that is longer than 64 KiB, or is no CSV, is
    refused for its first line, and the next line begins the next row.
    """

    def __init__(self, blocks: AsyncIterator[bytes], *, offset: int, line: int) -> None:
        self._blocks = blocks
        self._all_read = False
        self._first_row = offset == 0
        self._first_line = line
        self._start = offset
        self._lines: list[bytes] = []  # with their ends; the last one may lack its own
        self._ends: list[int] = []  # the offsets at which they end
        self._next = 0  # the index of the line at which the next row begins
        self._received = offset
        self._tail = b""

    @property
    def offset(self) -> int:
        """The offset of the next row."""
        return self._ends[self._next - 1] if self._next else self._start

    @property
    def line(self) -> int:
        """The line number of the next row, from 1."""
        return self._first_line + self._next

    async def at_end(self) -> bool:
        """Whether no row is left."""
        return self._next == len(self._lines) and not await self._fill()

    async def take(self, rows: Rows, limit: int) -> Rows:
        """``rows``, filled up to ``limit`` or PAGE_BYTES, as far as the file and _SCAN_BYTES of it
        go."""
        stop = self.offset + _SCAN_BYTES
        while len(rows) < limit and rows.size_bytes < PAGE_BYTES and self.offset < stop:
            if await self.at_end():
                break
            if not (self._parse_plain(rows, limit) or self._parse(rows, limit)):
                await self._fill()
        return rows

    def _parse_plain(self, rows: Rows, limit: int) -> bool:
        """Take in the next lines if all of them are plain: a short cut to ``_parse``."""
        lines = self._lines[self._next : self._next + limit - len(rows)]
        try:
            text = b"".join(lines).decode()
        except UnicodeDecodeError:
            return False
        if self._first_row or not rows.add_plain(text, len(lines)):
            return False
        self._next += len(lines)
        return True

    def _parse(self, rows: Rows, limit: int) -> bool:
        """Take in rows of the lines there are; False if the next row needs more of them."""
        while len(rows) < limit and self._next < len(self._lines):
            if not self._parse_until_refused(rows, limit):
                return False
        return True

    def _parse_until_refused(self, rows: Rows, limit: int) -> bool:
        begin = self._next
        lines = map(self._lines.__getitem__, range(begin, len(self._lines)))
        reader = csv.reader(map(_decode, lines), strict=True)
        while len(rows) < limit:
            try:
                cells = next(reader)
            except StopIteration:
                return True
            except csv.Error as error:
                return self._refuse(rows, begin + reader.line_num, f"it is no CSV ({error}).")
            after = begin + reader.line_num
            if after - self._next > 1 and self._ends[after - 1] - self.offset > MAX_ROW_BYTES:
                return self._refuse(rows, after, "")
            if not self._first_row:
                rows.add(cells, self.line)
            elif "".join(cells).strip():
                self._first_row = False
                if [cell.lower() for cell in cells[:2]] != ["bucket", "name"]:
                    rows.add(cells, self.line)
            self._next = after
        return True

    def _refuse(self, rows: Rows, after: int, problem: str) -> bool:
        """Refuse the next row, of which the lines before the index ``after`` have been seen, for
        its first line; False if it may still turn out to be whole."""
        is_long = self._ends[after - 1] - self.offset > MAX_ROW_BYTES
        if after == len(self._lines) and not is_long and not self._all_read:
            return False
        if is_long:
            problem = f"its row has more than {MAX_ROW_BYTES} bytes; is a quote not closed?"
        rows.refuse(self.line, problem)
        self._first_row = False
        self._next += 1
        return True

    async def _fill(self) -> bool:
        """Read on until there is one more line at least; False if the file is at its end."""
        self._first_line, self._start = self.line, self.offset
        del self._lines[: self._next], self._ends[: self._next]
        self._next = 0
        while not self._all_read:
            block = await anext(self._blocks, b"")
            head, newline, rest = block.partition(b"\n")
            # Of a longer line the rest is not kept: it is refused whatever follows.
            line = (self._tail + head)[: MAX_ROW_BYTES + 1] + newline
            line_end = self._received + len(head + newline)
            self._received += len(block)
            self._tail = b""
            self._all_read = not block
            if newline:
                lines = [line, *io.BytesIO(rest).readlines()]
                if not lines[-1].endswith(b"\n"):
                    self._tail = lines.pop()
                self._append(lines, line_end)
                return True
            if not self._all_read:
                self._tail = line
            elif line:
                self._append([line], line_end)
                return True
        return False

    def _append(self, lines: list[bytes], first_end: int) -> None:
        self._ends += accumulate(map(len, lines[1:]), initial=first_end)
        if self._start == 0 and not self._lines:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        self._lines += lines
