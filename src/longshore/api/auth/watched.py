"""What a file says, and says anew once it has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from longshore import telemetry
from longshore.clock import Clock
from longshore.errors import Error

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How long a change may go unnoticed."""


class Watched(Generic[T]):
    """The value of ``read()``, taken again when ``file`` changes; None: it never does.

    A file that is gone or wrong leaves the value as it was, and is logged once. May be asked by
    several threads. Raises the error of the first ``read()``.
    """

    def __init__(self, name: str, file: Path | None, read: Callable[[], T], clock: Clock) -> None:
        self._name = name
        self._file = file
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        # Looked at before it is read: a change in between is seen at the next look.
        self._seen = self._look()
        self._looked = clock.monotonic()
        self._value = read()

    def now(self) -> T:
        """The value; the file is looked at once in LOOK_SECONDS at most."""
        if self._file is not None and self._lock.acquire(blocking=False):
            try:
                self._look_again()
            finally:
                self._lock.release()
        return self._value

    def _look_again(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._value = self._read()
        except Error as error:
            telemetry.warning(
                f"{self._name} not read again", file=self._file, why=error, until="it is mended"
            )
        else:
            telemetry.event(f"{self._name} read again", file=self._file)

    def _look(self) -> tuple[int, ...]:
        if self._file is None:
            return ()
        try:
            stat = self._file.stat()
        except OSError:
            return ()
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
