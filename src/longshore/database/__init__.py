"""The SQL side: who may run a statement, and when.

Statements are plain functions of a connection, written once in SQLAlchemy Core (``jobs``,
``shards``), so that they can be read, tested and composed without a loop. A Database runs them in
threads, on SQLite as on PostgreSQL: synchronous drivers, because one for asyncio costs three times
as much there and nothing waits for a thread here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from longshore import telemetry
from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.database import engines, notices, schema
from longshore.database.failures import Trouble, trouble
from longshore.database.glances import Look, Rounds
from longshore.database.transaction import Kept, Reading, Undecided, Writing, glance, jot
from longshore.errors import Unavailable
from longshore.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

CONFLICTS = 20
"""How often in a row a transaction that meets others is run again."""
_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 2.0


class Database:
    """The service's database. One per process; ``close`` it in the end.

    While it is down, ``read`` and ``write`` wait for it and then go on by themselves, for as long
    as ``patience_seconds``. A worker's patience has no end: nothing that it could do instead is of
    any use, and its leases and deadlines are judged elsewhere.
    """

    def __init__(
        self,
        where: Path | str,
        *,
        patience_seconds: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``where``: the file of an SQLite database, made if need be, or a URL of PostgreSQL."""
        self._url = where if isinstance(where, str) else None
        ways = engines.sqlite(where) if isinstance(where, Path) else engines.postgresql(where)
        self._reader = Kept(ways.reader)
        self._glancer = Kept(ways.glancer)
        self._rounds: dict[tuple[Any, ...], Rounds[Any, Any]] = {}
        self._writer = Kept(ways.writer)
        self._begin = ways.begin
        self._read_threads = ThreadPoolExecutor(ways.reader_threads, "database-read")
        self._write_threads = ThreadPoolExecutor(ways.writer_threads, "database-write")
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._down = False

    @classmethod
    def open(cls, settings: Settings, *, patience_seconds: float) -> Database:
        """The database that ``settings`` name."""
        return cls(settings.database or settings.database_path, patience_seconds=patience_seconds)

    async def create(self) -> None:
        """Make the tables of an empty database; does nothing if they are there."""
        await self.write(schema.create)

    async def read(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``function(connection, …)`` on one consistent view of the database.

        Raises Unavailable when the database has been down for ``patience_seconds``.
        """
        reading = Reading(self._reader, lambda connection: function(connection, *args, **kwargs))
        return await self._persist(self._read_threads, reading.attempt)

    async def glance(self, quick: Look[K, T], whole: Look[K, T], key: K) -> T | None:
        """What ``quick`` finds for ``key``, which has no more than one statement and so needs no
        transaction; where it finds nothing, what ``whole`` does, as in ``read``.

        Those who ask the same at about the same time are answered together (Rounds). Raises what
        ``read`` does.
        """
        question = (asyncio.get_running_loop(), quick, whole)
        rounds = self._rounds.get(question)
        if rounds is None:
            rounds = self._rounds[question] = Rounds(self._clock, partial(self._look, quick, whole))
        found: T | None = await rounds.ask(key)
        return found

    async def _look(self, quick: Look[K, T], whole: Look[K, T], keys: Sequence[K]) -> Mapping[K, T]:
        def attempt() -> Mapping[K, T]:
            found = glance(self._glancer, lambda connection: quick(connection, keys))
            left = [key for key in keys if key not in found]
            if not left:
                return found
            reading = Reading(self._reader, lambda connection: whole(connection, left))
            return {**found, **reading.attempt()}

        return await self._persist(self._read_threads, attempt)

    async def write(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``function(connection, …)`` in a transaction: durable once this returns, else undone.

        It takes effect once, but may be called again after a failure or where it met another
        transaction. On SQLite it is alone; on PostgreSQL it takes row locks before it decides.

        Raises Unavailable when the database has been down for ``patience_seconds``; then, and only
        then, it is not known whether a commit under way took effect. Raises it, too, where others
        were in the way CONFLICTS times.
        """
        writing = Writing(self._writer, lambda connection: function(connection, *args, **kwargs))
        return await self._persist(self._write_threads, writing.attempt)

    async def jot(
        self,
        quick: Callable[Concatenate[Connection, P], T | None],
        thorough: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """``quick(connection, …)``, all of whose statements are Prepared, in a transaction, at half
        of the cost of ``write``; where it gives None or fails, ``thorough(connection, …)`` as
        ``write``, which must do no harm where the first one took effect after all.

        Raises what ``write`` does.
        """
        writing = Writing(self._writer, lambda connection: thorough(connection, *args, **kwargs))
        tried = False

        def attempt() -> T:
            nonlocal tried
            answer = None
            if not tried:
                tried = True
                answer = jot(
                    self._writer, self._begin, lambda connection: quick(connection, *args, **kwargs)
                )
            return writing.attempt() if answer is None else answer

        return await self._persist(self._write_threads, attempt)

    async def listen(self, channel: str, heard: notices.Heard) -> None:
        """Have ``heard`` called with each word that is told on a channel of ``notices`` until this
        is cancelled. Nothing is ever told on SQLite, which one machine has alone."""
        if self._url is not None:
            await notices.listen(self._url, channel, heard, self._clock)

    async def _persist(self, threads: ThreadPoolExecutor, attempt: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        conflicts = failures = 0
        began = self._clock.monotonic()
        while True:
            try:
                answer = await loop.run_in_executor(threads, attempt)
            except DBAPIError as error:
                kind = trouble(error)
                if kind is None:
                    raise
                if kind is Trouble.CONFLICT:
                    conflicts += 1
                    if conflicts > CONFLICTS and isinstance(error, IntegrityError):
                        raise  # nobody else writes that row: it is a mistake of ours
                    if conflicts > CONFLICTS:
                        raise Unavailable(f"The database is busy: {_reason(error)}.") from error
                    await self._pause(0.0, 0.002 * conflicts)
                    continue
                self._complain(error)
                if self._clock.monotonic() - began >= self._patience_seconds:
                    raise Unavailable(f"The database is down: {_reason(error)}.") from error
            except Undecided:
                pass
            else:
                self._recover()
                return answer
            longest = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**failures)
            failures = min(failures + 1, 10)
            await self._pause(longest / 2, longest)

    async def _pause(self, shortest: float, longest: float) -> None:
        seconds = random.uniform(shortest, longest)  # noqa: S311 - jitter, no secret
        await self._clock.wait(asyncio.Event(), seconds)

    def _complain(self, error: DBAPIError) -> None:
        if not self._down:
            telemetry.warning("database down", why=_reason(error))
        self._down = True

    def _recover(self) -> None:
        if self._down:
            telemetry.event("database back")
        self._down = False

    async def close(self) -> None:
        """Wait for what runs and close every connection."""
        self._read_threads.shutdown()
        self._write_threads.shutdown()
        for kept in (self._reader, self._glancer, self._writer):
            kept.close()


def _reason(error: DBAPIError) -> str:
    """The first line of what the driver says; it never has a password in it."""
    return str(error.orig).strip().partition("\n")[0]
