"""Two transactions that meet, on PostgreSQL: one stands still where it matters, the other comes.

SQLite has one writer at a time, so nobody meets anybody there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, event, select

from longshore.api import jobs as api
from longshore.database import Database, jobs, leases, shards
from longshore.database.jobs import Request
from longshore.database.tables import jobs as table
from longshore.errors import AlreadyExists, Error, FailedPrecondition, NotFound
from longshore.model import Counters, State
from longshore.names import JobName
from tests.database.rows import announcement, claim, create, new_job, row, running, states

if TYPE_CHECKING:
    from tests.services.postgresql import Postgresql

pytestmark = pytest.mark.services

DONE = Counters(total=1, succeeded=1)


@pytest.fixture
async def database(postgresql: Postgresql) -> AsyncIterator[Database]:
    opened = Database(postgresql.new_database())
    await opened.create()
    yield opened
    await opened.close()


class Stand:
    """Holds the first transaction still after its ``count``-th statement, until let go."""

    def __init__(self, database: Database, count: int) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self._count = count
        self._mine: Any = None
        engine = database._writer.engine
        event.listen(engine, "after_cursor_execute", self._after)
        for end in ("commit", "rollback"):
            event.listen(engine, end, self._ended)

    def _ended(self, connection: Connection) -> None:
        """Its thread keeps the connection, and may run the second transaction on it."""
        if connection is self._mine:
            self._count = 0

    def _after(self, connection: Connection, *_: Any) -> None:
        if self._mine is None:
            self._mine = connection
        if connection is self._mine:
            self._count -= 1
            if self._count == 0:
                self.reached.set()
                assert self.go.wait(30)


async def meet(database: Database, count: int, first: Any, second: Any) -> list[Any]:
    """The answers, or errors, of two writes; the first one stands still after ``count`` statements
    until the second has ended or waits for it."""
    stand = Stand(database, count)
    early = asyncio.create_task(database.write(*first))
    loop = asyncio.get_running_loop()
    reached = loop.run_in_executor(None, stand.reached.wait, 30)
    await asyncio.wait({early, reached}, return_when=asyncio.FIRST_COMPLETED)
    late = asyncio.create_task(database.write(*second))
    while not late.done() and not await waiting(database):
        await asyncio.sleep(0.005)
    stand.go.set()
    stand.reached.set()
    await reached
    return await asyncio.gather(early, late, return_exceptions=True)


async def waiting(database: Database) -> bool:
    def read(connection: Connection) -> bool:
        statement = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool(connection.exec_driver_sql(statement).scalar_one())

    return await database.read(read)


def no_surprise(answers: list[Any], *expected: type[BaseException]) -> None:
    for answer in answers:
        assert not isinstance(answer, BaseException) or isinstance(answer, expected), repr(answer)


COUNTS = range(1, 9)
"""After each statement that a write of ours may have; later ones stand nowhere."""


@pytest.mark.parametrize("count", COUNTS)
async def test_two_that_finish_together_end_the_job_once(database: Database, count: int) -> None:
    one, two = await running(database, 2)
    answers = await meet(
        database,
        count,
        (shards.finish, one, DONE, {}, State.SUCCEEDED, 10),
        (shards.finish, two, DONE, {}, State.SUCCEEDED, 11),
    )
    no_surprise(answers)
    assert await states(database) == (["SUCCEEDED"], ["SUCCEEDED"], ["SUCCEEDED"] * 2)
    assert (await row(database, table)).succeeded == 2


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("cancel_first", [True, False])
async def test_cancel_and_the_end_have_one_winner(
    database: Database, count: int, cancel_first: bool
) -> None:
    (shard,) = await running(database)
    cancel = (api._cancel, JobName("p", "j"), None, 11)
    finish = (shards.finish, shard, DONE, {}, State.SUCCEEDED, 10)
    pair = (cancel, finish) if cancel_first else (finish, cancel)
    answers = await meet(database, count, *pair)
    no_surprise(answers, FailedPrecondition)
    cancelled = answers[0 if cancel_first else 1] is None
    job = await row(database, table)
    assert job.state == ("CANCELED" if cancelled else "SUCCEEDED")
    assert (job.cancel_us is not None) == cancelled


@pytest.mark.parametrize("count", COUNTS)
async def test_two_claims_share_the_shards(database: Database, count: int) -> None:
    await create(database, new_job("a", buckets=("b-1", "b-2", "b-3")))
    await create(database, new_job("c", buckets=("b-1", "b-2", "b-3")))
    answers = await meet(
        database, count, (leases.claim, "v", {}, 3, 10), (leases.claim, "w", {}, 6, 11)
    )
    no_surprise(answers)
    taken = [shard.id for claimed in answers for shard in claimed]
    assert len(taken) == len(set(taken))
    later = [shard.id for shard in await claim(database, "x")]
    assert len({*taken, *later}) == 6
    assert await states(database) == (["RUNNING"] * 2, ["RUNNING"] * 6, ["RUNNING"] * 6)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("cancel_first", [True, False])
async def test_claim_and_cancel_leave_nothing_open_that_nobody_ends(
    database: Database, count: int, cancel_first: bool
) -> None:
    job = await create(database, new_job(buckets=("b-1", "b-2")))
    await database.write(leases.claim, "u", {}, 1, 5)
    pair = [(leases.claim, "v", {}, 4, 10), (jobs.cancel_job, job, 11)]
    answers = await meet(database, count, *(reversed(pair) if cancel_first else pair))
    no_surprise(answers)
    claimed = answers[1 if cancel_first else 0]
    _, _, found = await states(database)
    assert found == ["RUNNING", "RUNNING" if claimed else "CANCELED"]
    for shard in [*claimed, *await _leased_by(database, "u")]:
        await database.write(shards.finish, shard, DONE, {}, State.SUCCEEDED, 12)
    assert (await row(database, table)).state == "CANCELED"


async def _leased_by(database: Database, owner: str) -> list[Any]:
    await database.write(leases.release, owner)
    return await claim(database, owner)


@pytest.mark.parametrize("count", COUNTS)
async def test_two_planners_of_a_job_both_plan(database: Database, count: int) -> None:
    await create(database, new_job(buckets=("b-1", "b-2")))
    one, two = await claim(database)
    answers = await meet(
        database,
        count,
        (shards.finish_plan, one, [{}, {}], "main", 10),
        (shards.finish_plan, two, [{}, {}], "main", 11),
    )
    no_surprise(answers)
    assert (await states(database))[2] == ["RUNNING"] * 2 + ["QUEUED"] * 2


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_search_that_ends_and_cancel(
    database: Database, count: int, cancel_first: bool
) -> None:
    job = await create(database, new_job(buckets=("",)))
    (shard,) = await claim(database)
    pair = [(shards.finish_search, shard, ["a", "b"], 10), (jobs.cancel_job, job, 11)]
    answers = await meet(database, count, *(reversed(pair) if cancel_first else pair))
    no_surprise(answers)
    found = answers[1 if cancel_first else 0]
    expected = ["RUNNING", "CANCELED"] if found else ["CANCELED"]
    assert (await states(database))[2] == expected
    if found:
        await database.write(shards.finish, found, DONE, {}, State.SUCCEEDED, 12)
    assert (await row(database, table)).state == "CANCELED"


@pytest.mark.parametrize("count", COUNTS)
async def test_checkpoint_and_cancel(database: Database, count: int) -> None:
    one, _two = await running(database, 2)
    answers = await meet(
        database,
        count,
        (shards.checkpoint, one, DONE, {}, announcement(1, b"i"), 10),
        (jobs.cancel_job, one.job, 11),
    )
    no_surprise(answers)
    assert (await row(database, table)).cancel_us == 11
    assert (await database.read(leases.poll, {}, 4)).cancelled == {one.job}


@pytest.mark.parametrize("count", COUNTS)
async def test_the_same_request_at_the_same_instant_makes_one_job(
    database: Database, count: int
) -> None:
    request = Request("p", "CreateJob", "r", b"f")
    answers = await meet(
        database,
        count,
        (api._create, new_job("first"), request, 10),
        (api._create, new_job("second"), request, 11),
    )
    no_surprise(answers)
    assert answers[0].row.id == answers[1].row.id
    assert len((await states(database))[0]) == 1


@pytest.mark.parametrize("count", COUNTS)
async def test_the_same_job_id_at_the_same_instant_makes_one_job(
    database: Database, count: int
) -> None:
    answers = await meet(
        database, count, (api._create, new_job(), None, 10), (api._create, new_job(), None, 11)
    )
    no_surprise(answers, AlreadyExists)
    assert [isinstance(answer, Error) for answer in answers].count(True) == 1
    assert len((await states(database))[0]) == 1


@pytest.mark.parametrize("count", COUNTS)
async def test_two_deletes_have_one_winner(database: Database, count: int) -> None:
    (shard,) = await running(database)
    await database.write(shards.finish, shard, DONE, {}, State.SUCCEEDED, 9)
    name = JobName("p", "j")
    answers = await meet(
        database,
        count,
        (api._delete, name, False, None, 10),
        (api._delete, name, False, None, 11),
    )
    no_surprise(answers, NotFound)
    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "NotFound"]


@pytest.mark.parametrize("count", COUNTS)
async def test_the_same_delete_at_the_same_instant_is_one(database: Database, count: int) -> None:
    (shard,) = await running(database)
    await database.write(shards.finish, shard, DONE, {}, State.SUCCEEDED, 9)
    delete = (api._delete, JobName("p", "j"), False, Request("p", "DeleteJob", "r", b"f"))
    assert await meet(database, count, (*delete, 10), (*delete, 11)) == [None, None]


async def test_a_deadlock_is_run_again(database: Database) -> None:
    one = await create(database, new_job("a"))
    two = await create(database, new_job("b"))
    met = threading.Barrier(2)
    runs: list[int] = []

    def both(connection: Connection, first: int, second: int) -> None:
        """In an order that ours never have."""
        lock = select(table.c.id).with_for_update()
        runs.append(first)
        connection.execute(lock.where(table.c.id == first))
        if len(runs) <= 2:
            met.wait(30)
        connection.execute(lock.where(table.c.id == second))

    await asyncio.gather(database.write(both, one, two), database.write(both, two, one))
    assert len(runs) == 3
