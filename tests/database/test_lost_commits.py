"""Every write takes effect once, whatever happens to the connection around its commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from longshore.api import jobs as api
from longshore.api import operations as operations_api
from longshore.database import Database, coordinator, deals, jobs, leases, retention, rollup, shards
from longshore.database.coordinator import Present
from longshore.database.deals import Carrier
from longshore.database.jobs import Request
from longshore.database.tables import bucket_operations
from longshore.database.tables import jobs as table
from longshore.errors import Internal, Unavailable
from longshore.model import Counters, State
from longshore.names import JobName, OperationName
from tests.database.cuts import cut
from tests.database.rows import announcement, claim, create, new_job, row, running

ID_COLUMNS = {"id", "job", "bucket_operation", "operation_id", "bucket_operation_id"}
COUNTED = Counters(total=4, succeeded=3, failed=1)
REQUEST = Request("p", "m", "r", b"f")


@pytest.fixture
async def database(database_at: Path | str) -> AsyncIterator[Database]:
    opened = Database(database_at, patience_seconds=30)
    await opened.create()
    yield opened
    await opened.close()


async def everything(database: Database) -> dict[str, list[Any]]:
    """Every row there is, but for random ids; PostgreSQL leaves out numbers that were undone."""

    def read(connection: Connection) -> dict[str, list[Any]]:
        found = {}
        for name in ("jobs", "bucket_operations", "shards", "requests", "coordinators"):
            rows = connection.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2, 3")).mappings()
            found[name] = [
                {key: value for key, value in one.items() if key not in ID_COLUMNS} for one in rows
            ]
        return found

    return await database.read(read)


async def _planning(database: Database) -> Any:
    await create(database)
    (shard,) = await claim(database)
    return shard


async def _ended(database: Database) -> Any:
    (shard,) = await running(database)
    await database.write(shards.finish, shard, Counters(), {}, State.SUCCEEDED, 4)
    return await row(database, table)


Write = Callable[[Database], Awaitable[Any]]


async def _create(database: Database) -> Any:
    return await database.write(api._create, new_job(), None, 7)


async def _create_with_id(database: Database) -> Any:
    return await database.write(api._create, new_job(), REQUEST, 7)


async def _create_job(database: Database) -> Any:
    return type(await database.write(jobs.create_job, new_job(), 7))


async def _begin(database: Database) -> Any:
    job = await create(database)
    part = (await row(database, bucket_operations)).id
    return await database.write(rollup.begin, {job}, {part}, 7)


async def _remember(database: Database) -> Any:
    return await database.write(jobs.remember, REQUEST, 3, 7)


async def _cancel(database: Database) -> Any:
    (shard,) = await running(database)
    await database.write(shards.let_go, shard)
    return await database.write(jobs.cancel_job, shard.job, 8)


async def _delete(database: Database) -> Any:
    await _ended(database)
    return await database.write(api._delete, JobName("p", "j"), False, None, 8)


async def _delete_operation(database: Database) -> Any:
    job = await _ended(database)
    name = OperationName("p", job.operation_id)
    return await database.write(operations_api._delete, name, 8)


async def _claim(database: Database) -> Any:
    await create(database, new_job(buckets=("b-1", "b-2")))
    claimed = await database.write(leases.claim, "w", {}, 1, 8)
    return [(one.bucket, one.attempt) for one in claimed]


async def _checkpoint(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(
        shards.checkpoint, shard, COUNTED, {}, announcement(5, b"i", "c"), 8
    )


async def _quick_checkpoint(database: Database) -> Any:
    (shard,) = await running(database)
    both = shards.quick_checkpoint, shards.checkpoint
    return await database.jot(*both, shard, COUNTED, {}, announcement(5, b"i", "c"), 8)


async def _last_checkpoint(database: Database) -> Any:
    (shard,) = await running(database)
    await database.write(jobs.cancel_job, shard.job, 7)
    return await database.write(shards.checkpoint, shard, COUNTED, {}, announcement(5, b"i"), 8)


async def _finish(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(shards.finish, shard, COUNTED, {}, State.SUCCEEDED, 8)


async def _hand_back(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(shards.hand_back, shard, COUNTED, {})


async def _let_go(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(shards.let_go, shard)


async def _finish_plan(database: Database) -> Any:
    shard = await _planning(database)
    return await database.write(shards.finish_plan, shard, [{}, {}], "main", 8)


async def _finish_search(database: Database) -> Any:
    await create(database, new_job(buckets=("",)))
    (shard,) = await claim(database)
    return await database.write(shards.finish_search, shard, ["a", "b", "c"], 8)


async def _hand_over(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(shards.hand_over, shard, {"before": "m"}, {"after": "m"})


async def _ask_to_halve(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(leases.ask_to_halve, [shard.id])


async def _remove_some(database: Database) -> Any:
    job = await _ended(database)
    return await database.write(retention.remove_some, job.id, 9)


async def _give_up(database: Database) -> Any:
    (shard,) = await running(database)
    return await database.write(shards.give_up, shard, Internal("no"), 8)


async def _renew(database: Database) -> Any:
    (shard,) = await running(database)
    return len(await database.write(leases.renew, {shard.id: shard.attempt}))


async def _release(database: Database) -> Any:
    await running(database)
    return await database.write(leases.release, "w")


async def _bury(database: Database) -> Any:
    await running(database)
    return await database.write(leases.bury, "w")


async def _deal(database: Database) -> Any:
    await create(database, new_job(buckets=("b-1", "b-2")))
    term = await database.write(coordinator.take, "c", None)
    carriers = {"w-1": Carrier({}, 1), "w-2": Carrier({}, 1)}
    dealt = await database.write(deals.deal, term, carriers, 8)
    return [(lease.owner, lease.attempt) for lease in dealt]


async def _accept(database: Database) -> Any:
    (shard,) = await running(database)
    accepted = await database.write(deals.accept, "w", shard.id, shard.attempt)
    return accepted is not None


async def _end(database: Database) -> Any:
    await running(database)
    term = await database.write(coordinator.take, "c", None)
    (lease,) = await database.read(leases.leases)
    return await database.write(deals.end, term, lease)


async def _take(database: Database) -> Any:
    return await database.write(coordinator.take, "c", None)


async def _take_from_another(database: Database) -> Any:
    await _take(database)
    seen = await database.read(coordinator.seat)
    return await database.write(coordinator.take, "d", seen)


async def _beat(database: Database) -> Any:
    return await database.write(coordinator.beat, await _take(database))


async def _note(database: Database) -> Any:
    return await database.write(coordinator.note, await _take(database), Present(2, 8, 1))


async def _resign(database: Database) -> Any:
    return await database.write(coordinator.resign, await _take(database))


WRITES: dict[str, Write] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_create, _create_with_id, _create_job, _begin, _remember, _cancel, _delete),
        *(_delete_operation, _claim, _checkpoint, _last_checkpoint, _finish, _hand_back),
        _quick_checkpoint,
        *(_let_go, _finish_search, _finish_plan, _give_up, _renew, _release, _bury),
        *(_hand_over, _ask_to_halve, _remove_some, _deal, _accept, _end),
        *(_take, _take_from_another, _note, _beat, _resign),
    )
}


class Cutting:
    """A Database whose last write of a test meets the cut: those before only prepare it."""

    def __init__(self, database: Database, *, after: bool, count: int) -> None:
        self._database = database
        self._after = after
        self._left = count
        self.cuts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, *arguments: Any, **keywords: Any) -> Any:
        return await self._cut(self._database.write, *arguments, **keywords)

    async def jot(self, *arguments: Any, **keywords: Any) -> Any:
        return await self._cut(self._database.jot, *arguments, **keywords)

    async def _cut(self, write: Any, *arguments: Any, **keywords: Any) -> Any:
        self._left -= 1
        if self._left:
            return await write(*arguments, **keywords)
        with cut(self._database, after=self._after, times=2) as self.cuts:
            return await write(*arguments, **keywords)


class Counting(Cutting):
    def __init__(self, database: Database) -> None:
        super().__init__(database, after=False, count=0)
        self.writes = 0

    async def _cut(self, write: Any, *arguments: Any, **keywords: Any) -> Any:
        self.writes += 1
        return await write(*arguments, **keywords)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_whose_connection_breaks_takes_effect_once(
    database: Database,
    tmp_path: Path,
    new_database: Callable[[], str | None],
    name: str,
    after: bool,
) -> None:
    if after and database._writer.engine.dialect.name == "sqlite":
        after = False  # there is nothing between the commit and us that could break
    undisturbed = Database(new_database() or tmp_path / "undisturbed.sqlite")
    await undisturbed.create()
    counting: Any = Counting(undisturbed)
    expected_answer = await WRITES[name](counting)
    expected = await everything(undisturbed)
    await undisturbed.close()
    cutting: Any = Cutting(database, after=after, count=counting.writes)
    answer = await WRITES[name](cutting)
    found = await everything(database)
    for one in (*found["shards"], *expected["shards"]):
        if name == "quick_checkpoint":
            del one["checkpoint"]  # that the lease has moved may be said twice
    assert found == expected
    assert _plain(answer) == _plain(expected_answer)
    # Asking what became of the first one met the second cut.
    assert len(cutting.cuts) == 2


def _plain(answer: Any) -> Any:
    """Without rows, which are compared already, but for ids."""
    return type(answer) if isinstance(answer, tuple) else answer


async def test_every_writing_function_is_among_them() -> None:
    """By their names in the sources: whatever is not a read is a write."""
    reads = {"poll", "reload", "leases", "existing_shards", "roll_up", "lock_job"}
    reads |= {"lock_parts", "fold", "fold_errors", "fold_canceled"}
    reads |= {"job_by_row_id", "count_jobs", "count_bucket_operations", "replayed"}
    reads |= {"who_leases", "worth_halving", "overdue", "expired", "shard_of", "open_jobs"}
    reads |= {"open_operations", "ended_jobs", "ended_operations"}
    reads |= {"counted_jobs", "counted_operations", "is_awaited"}
    reads |= {"cancelled", "carried_by", "crowding", "together", "seat", "check", "choose", "dealt"}
    reads |= {"news", "present", "unmoved"}
    public = {
        name
        for module in (coordinator, deals, jobs, leases, retention, rollup, shards)
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", None) == module.__name__
        and not name.startswith(("_", "find_", "list_", "counters_of_"))
        and name.islower()
    }
    tested = {"create_job", "cancel_job", "delete_job"} | WRITES.keys()
    assert public - reads - tested == set()


async def test_a_database_that_stays_down_is_unavailable_after_patience(
    database_at: Path | str,
) -> None:
    impatient = Database(database_at, patience_seconds=0.2)
    await impatient.create()
    with cut(impatient, after=False, times=1_000), pytest.raises(Unavailable, match="down"):
        await create(impatient)
    assert (await row(impatient, table, await create(impatient))).state == "QUEUED"
    await impatient.close()
