"""One bucket as this process has it open: a reader and a writer, each in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from longshore.clock import Clock
from longshore.stores.local import contents, schema, soft_deleting
from longshore.stores.local.failures import Gone, to_its_end, translate
from longshore.stores.local.transaction import Transaction

T = TypeVar("T")
_ROUND_SECONDS = 0.001
"""For how long answers are gathered before they are handed over."""
_VACUUM_PAGES = 256
_VACUUM_SECONDS = 0.5


class OpenBucket:
    """The two connections of a bucket; both are made when they are first needed.

    ``users`` counts the calls that are under way.

    Every transaction begins by reading the bucket's own row, so it goes by the rules that hold
    now, and one that comes after the bucket's deletion raises Gone and writes nothing.
    """

    def __init__(self, name: str, home: Path, clock: Clock) -> None:
        self.name = name
        self.home = home
        self.users = 0
        self._content = home / schema.CONTENT
        self._clock = clock
        self._reader = _Thread(name, home, read_only=True)
        self._writer = _Thread(name, home, read_only=False)
        self._swept = False

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """What ``work`` gives, in a transaction that sees one state of the bucket."""
        return await self._reader.run_in_round(lambda: self._transact(self._reader, "BEGIN", work))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """What ``work`` gives, once its changes are durable; none are made if it raises."""
        return await self._writer.run(lambda: self._write(work))

    def discard(self, files: list[int]) -> None:
        """Remove files that are in ``gc``, some time soon."""
        self._writer.later(lambda: self._collect(files))

    async def close(self) -> None:
        """Give freed space back and let go; waits for what is running."""
        await self._reader.close(lambda connection: None)
        await self._writer.close(_vacuum)

    def _write(self, work: Callable[[Transaction], T]) -> T:
        if not self._swept:
            self._transact(self._writer, "BEGIN IMMEDIATE", soft_deleting.expire)
            self._transact(self._writer, "BEGIN IMMEDIATE", contents.sweep)
            self._swept = True
        transactions = []

        def note(transaction: Transaction) -> T:
            transactions.append(transaction)
            return work(transaction)

        answer = self._transact(self._writer, "BEGIN IMMEDIATE", note)
        if files := transactions[0].unused_files:
            self.discard(files)
        return answer

    def _collect(self, files: list[int]) -> None:
        # What fails here stays in gc and is swept when the bucket is next opened.
        with contextlib.suppress(OSError, sqlite3.Error, Gone):
            self._transact(self._writer, "BEGIN IMMEDIATE", lambda t: contents.remove(t, files))

    def _transact(self, thread: _Thread, begin: str, work: Callable[[Transaction], T]) -> T:
        connection = thread.connection()
        connection.execute(begin)
        try:
            answer = work(self._transaction(thread, connection))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answer

    def _transaction(self, thread: _Thread, connection: sqlite3.Connection) -> Transaction:
        bucket = schema.read_rules(connection, self.name)
        if bucket is None:
            raise Gone
        return Transaction(
            connection=connection,
            bucket=bucket,
            now_us=self._clock.now_us(),
            content=self._content,
            map_patches=thread.map_patches,
        )


class _Asked(NamedTuple):
    work: Callable[[], Any]
    answer: asyncio.Future[Any]


class _Answered(NamedTuple):
    answer: asyncio.Future[Any]
    value: Any
    error: BaseException | None


def _hand_over(answers: list[_Answered]) -> None:
    """Give answers to who waits for them, in the threads of their loops."""
    for loop in {one.answer.get_loop() for one in answers}:
        theirs = [one for one in answers if one.answer.get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, theirs)


def _settle(answers: list[_Answered]) -> None:
    for answer, value, error in answers:
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


class _Thread:
    """A connection and the one thread that uses it."""

    def __init__(self, bucket: str, home: Path, *, read_only: bool) -> None:
        self._bucket = bucket
        self._home = home
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"bucket-{bucket}")
        self._lock = threading.Lock()
        self._waiting: list[_Asked] = []
        self._at_work = False
        self.map_patches: dict[str, Callable[[str], str | None]] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` gives in the thread, with SQLite's errors as ours."""
        if self._closed:
            raise Gone
        return await to_its_end(self._submit(work))

    async def run_in_round(self, work: Callable[[], T]) -> T:
        """The same, where many ask at about the same time: who has asked while the thread did
        something else is answered together. To go to a thread and back costs more than to look at
        an object."""
        if self._closed:
            raise Gone
        answer = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append(_Asked(work, answer))
            idle, self._at_work = not self._at_work, True
        if idle:
            self._executor.submit(self._rounds)
        answered: T = await to_its_end(answer)
        return answered

    def _rounds(self) -> None:
        while True:
            with self._lock:
                asked, self._waiting = self._waiting, []
                if not asked:
                    self._at_work = False
                    return
            begun = time.monotonic()
            answers: list[_Answered] = []
            for index, one in enumerate(asked):
                answers.append(self._answer(one))
                # So nobody waits for more than one that takes long, as a page of a listing does.
                if index == len(asked) - 1 or time.monotonic() - begun > _ROUND_SECONDS:
                    _hand_over(answers)
                    begun, answers = time.monotonic(), []

    def _answer(self, asked: _Asked) -> _Answered:
        try:
            return _Answered(asked.answer, self._call(asked.work), None)
        except BaseException as error:  # it is for who has asked
            return _Answered(asked.answer, None, error)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, self._call, work)

    def later(self, work: Callable[[], None]) -> None:
        """Do ``work`` in the thread after what is waiting; nobody waits for it but ``close``."""
        if not self._closed:
            self._executor.submit(self._call, work)

    def connection(self) -> sqlite3.Connection:
        """The connection, made at the first call."""
        if self._connection is None:
            connection = schema.connect(self._home, read_only=self._read_only)
            # An UPDATE calls this for each row; what it does to which column is in map_patches.
            connection.create_function("patched", 2, lambda c, text: self.map_patches[c](text))
            self._connection = connection
        return self._connection

    async def close(self, last_work: Callable[[sqlite3.Connection], None]) -> None:
        """Do ``last_work`` and close."""

        def finish() -> None:
            if self._connection is not None:
                with contextlib.closing(self._connection) as connection:
                    last_work(connection)

        if not self._closed:
            self._closed = True
            await self._submit(finish)
            self._executor.shutdown()

    def _call(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            # Whatever it says: if the files were removed under our hands, the bucket is gone.
            if not (self._home / schema.DATABASE).exists():
                raise Gone from error
            raise translate(error, self._bucket) from error


def _vacuum(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + _VACUUM_SECONDS
    with contextlib.suppress(sqlite3.Error):  # the space stays free for the next objects
        while connection.execute("PRAGMA freelist_count").fetchone() > (0,):
            # Not ``execute``: that takes one step of the statement, which frees one page.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            if time.monotonic() > end:
                break
