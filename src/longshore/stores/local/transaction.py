"""What the work of one transaction of a bucket sees."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from longshore.store import Bucket


@dataclass(slots=True, kw_only=True)
class Transaction:
    """What the work of one transaction sees.

    ``unused_files``: files that are in ``gc`` once this commits, to be removed then.
    """

    connection: sqlite3.Connection
    bucket: Bucket
    now_us: int
    content: Path
    map_patches: dict[str, Callable[[str], str | None]]
    unused_files: list[int] = field(default_factory=list)

    def numbers(self, count: int) -> range:
        """``count`` numbers greater than any given before in this bucket, near the time in µs."""
        (last,) = self.connection.execute("SELECT last_number FROM bucket").fetchone()
        first = max(last + 1, self.now_us)
        self.connection.execute("UPDATE bucket SET last_number = ?", (first + count - 1,))
        return range(first, first + count)

    def discard(self, file: int) -> None:
        """Note a file whose object is gone."""
        self.connection.execute("INSERT OR IGNORE INTO gc VALUES (?)", (file,))
        self.unused_files.append(file)
