"""Where a manifest may be cut: at the beginning of a line that no quoted name can contain."""

from __future__ import annotations

import csv
from collections.abc import AsyncGenerator
from contextlib import aclosing

from longshore.sources.manifest.rows import MAX_ROW_BYTES


async def boundary(content: AsyncGenerator[bytes, None], begin: int) -> int | None:
    """The offset of the first line that begins a row for sure, if there is one among the lines that
    are read of ``content``, which begins at ``begin``; None otherwise.

    A row has at most MAX_ROW_BYTES, or it is refused and the next line begins the next row. So
    where so many bytes hold none but whole rows, the line behind them begins a row, whatever stands
    before them.
    """
    data = b""
    async with aclosing(content) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > 4 * MAX_ROW_BYTES:
                break
    start = data.find(b"\n") + 1
    since = at = start
    while start and (end := data.find(b"\n", at) + 1):
        if at - since > MAX_ROW_BYTES:
            return begin + at
        if not _is_whole(data[at:end]):
            since = end
        at = end
    return None


def _is_whole(line: bytes) -> bool:
    """Whether a line is a row, or nothing but a bad one, if a row begins with it."""
    if b'"' not in line:
        return True
    try:
        return len(list(csv.reader([line.decode(errors="surrogateescape")], strict=True))) == 1
    except csv.Error:
        return False
