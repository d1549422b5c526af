"""Pages of jobs, operations and bucket operations, out of any number of them.

Where an index finds what a page asks for in the order that it is asked for, the page is read from
there. Any other filter looks at a *window*: so many rows in that order and no more, of which a page
has those that match, be they few or none, and goes on after the last row that was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    case,
    cast,
    func,
    not_,
    or_,
    select,
    tuple_,
    union_all,
)

from longshore.database.jobs import Counted, count_bucket_operations, count_jobs
from longshore.database.parts import HAS_BUCKET
from longshore.database.tables import bucket_operations, jobs, shards
from longshore.model import COUNTER_NAMES, OPEN_STATES, State

WINDOW = {"postgresql": 5_000, "sqlite": 3_000}
"""How many rows a page looks at, by database: some 10 ms."""
TERMS = 8
"""A filter with more terms than this has a smaller window."""
OPEN_AT_ONCE = 100
"""How many open rows are counted for a filter by counters: as many as a page shows."""
RUNNING_AT_ONCE = 4_000
"""How many running shards are summed for a page: some 2 to
5 ms. It ends before a row of more, but for its first."""


class Key(NamedTuple):
    """What a list is ordered by."""

    column: Column[Any]
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which rows of a list, at most ``limit``, in the order of ``keys``, beginning behind the row
    with the keys ``after``.

    They meet all of ``seek``, which an index finds in that order, and ``rest``, which is looked at
    row by row and has so many ``terms``; ``counts``: one of them is a ``current_value``.
    """

    keys: Sequence[Key]
    limit: int
    after: Sequence[Any] | None = None
    seek: Sequence[ColumnElement[bool]] = ()
    rest: ColumnElement[bool] | None = None
    terms: int = 0
    counts: bool = False


class Found(NamedTuple):
    """Rows of a page. ``end``: the keys of the last row that was looked at, where there may be more
    behind it and these are fewer than the page's limit."""

    rows: Sequence[Counted]
    end: Sequence[Any] | None = None


def list_jobs(connection: Connection, project: str, page: Page) -> Found:
    """Jobs of a project that have not been deleted."""
    mine = select(jobs).where(jobs.c.project == project, jobs.c.job_delete_us.is_(None))
    rows, end = _rows(connection, jobs, mine, page)
    return Found(count_jobs(connection, rows), end)


def list_operations(connection: Connection, project: str, page: Page) -> Found:
    """The jobs of a project whose operations have not been deleted."""
    mine = select(jobs).where(jobs.c.project == project, jobs.c.operation_delete_us.is_(None))
    rows, end = _rows(connection, jobs, mine, page)
    return Found(count_jobs(connection, rows), end)


def list_bucket_operations(connection: Connection, job: int, page: Page) -> Found:
    """The parts of a job; none while its buckets are still to be found."""
    mine = select(bucket_operations).where(bucket_operations.c.job == job, HAS_BUCKET)
    rows, end = _rows(connection, bucket_operations, mine, page)
    return Found(count_bucket_operations(connection, rows), end)


def current_value(of: Table, name: str) -> ColumnElement[int]:
    """A counter as an expression, for the ``rest`` of a Page that ``counts``."""
    counted = _COUNTED[of]
    running = select(counted.c[name]).where(counted.c.id == of.c.id).scalar_subquery()
    return case((of.c.complete_us.is_(None), running), else_=of.c[name])


def _sums(part_key: Column[int], shard_key: Column[int]) -> CTE:
    """What the open rows ``open_ids`` have come to so far, as ``counters_of_jobs`` says it; done
    once for a statement."""
    ids: BindParameter[Any] = bindparam("open_ids", expanding=True)
    parts, some = part_key.table.c, shard_key.table.c
    rows = union_all(
        select(part_key.label("id"), *(parts[name] for name in COUNTER_NAMES)).where(
            part_key.in_(ids)
        ),
        select(shard_key.label("id"), *(some[name] for name in COUNTER_NAMES)).where(
            shard_key.in_(ids), some.state == State.RUNNING.value
        ),
    ).subquery()
    sums = (cast(func.sum(rows.c[name]), BigInteger).label(name) for name in COUNTER_NAMES)
    counted = select(rows.c.id, *sums).group_by(rows.c.id).cte("counted")
    return counted.prefix_with("MATERIALIZED")


_COUNTED = {
    jobs: _sums(bucket_operations.c.job, shards.c.job),
    bucket_operations: _sums(bucket_operations.c.id, shards.c.bucket_operation),
}


def _running_shards(key: Column[int]) -> Select[Any]:
    """How many there are of the rows ``ids``, or ``most``."""
    mine = key.in_(bindparam("ids", expanding=True))
    running = select(key).where(mine, shards.c.state == State.RUNNING.value)
    return select(func.count()).select_from(running.limit(bindparam("most")).subquery())


_RUNNING = {
    jobs: _running_shards(shards.c.job),
    bucket_operations: _running_shards(shards.c.bucket_operation),
}


def _rows(
    connection: Connection, of: Table, mine: Select[Any], page: Page
) -> tuple[Sequence[Row[Any]], Sequence[Any] | None]:
    """The rows of a page, no more of them than can be counted, and the ``end`` of a Found."""
    rows, end = _found(connection, of, mine, page)
    many = _countable(connection, of, [row.id for row in rows if row.state in OPEN_STATES])
    if many is None:
        return rows, end
    cut = next(number for number, row in enumerate(rows) if row.id == many)
    return rows[:cut], _place(rows[cut - 1], page.keys)


def _countable(connection: Connection, of: Table, ids: Sequence[int]) -> int | None:
    """An open row by which there are too many running shards, the first but for an eighth of those
    before it; None: there never are.

    Where all together have too many, steps that grow while they fit, and from then on halve, count
    few of them more than once, by few statements.
    """
    fit, left, step, grow = 0, RUNNING_AT_ONCE, len(ids), True
    while step > fit // 8 and fit < len(ids):
        some = ids[fit : fit + step]
        running: int = connection.execute(
            _RUNNING[of], {"ids": some, "most": left + 1}
        ).scalar_one()
        if running <= left:
            fit, left = fit + len(some), left - running
            step = 4 * step if grow else step // 2
        elif fit or step == 1:
            step, grow = step // 2, False
        else:
            step = 1
    if fit == len(ids):
        return None
    return ids[max(fit, 1)] if len(ids) > 1 else None


def _place(row: Row[Any], keys: Sequence[Key]) -> Sequence[Any]:
    return [row._mapping[key.column.name] for key in keys]


def _found(
    connection: Connection, of: Table, mine: Select[Any], page: Page
) -> tuple[Sequence[Row[Any]], Sequence[Any] | None]:
    order = [key.column.desc() if key.descending else key.column for key in page.keys]
    mine = mine.where(*page.seek).order_by(*order)
    if page.after is not None:
        mine = mine.where(_beyond(page.keys, page.after))
    if page.rest is None:
        return connection.execute(mine.limit(page.limit)).all(), None
    size = WINDOW[connection.dialect.name] * TERMS // max(TERMS, page.terms)
    size //= 2 if page.counts else 1  # it is looked at twice
    end: Sequence[Any] | None = None
    open_ids: dict[str, list[int]] = {}
    if page.counts:
        running = connection.execute(_running(of, mine, page.keys, size)).all()
        many = _countable(connection, of, [row.id for row in running[:OPEN_AT_ONCE]])
        if len(running) > OPEN_AT_ONCE or many is not None:
            places = [row.id for row in running]
            running = running[: OPEN_AT_ONCE if many is None else places.index(many)]
            end = _place(running[-1], page.keys)
            mine = mine.where(not_(_beyond(page.keys, end)))
        open_ids = {"open_ids": [row.id for row in running]}
    ids = connection.scalars(_matching(of, mine, page, size), open_ids).all()
    whole = select(of).where(of.c.id.in_(ids))
    rows = {row.id: row for row in connection.execute(whole)} if ids else {}
    found = [rows[one] for one in ids]
    if len(found) >= page.limit:
        return found, None
    if end is None:
        keys = mine.with_only_columns(*(key.column for key in page.keys))
        end = connection.execute(keys.offset(size - 1).limit(1)).one_or_none()
    return found, end


def _matching(of: Table, mine: Select[Any], page: Page, size: int) -> Select[Any]:
    """The ids of the rows of a window that match, in order. The window has few and short columns:
    a job's row may be megabytes."""
    assert page.rest is not None  # noqa: S101 - for the type checker
    matches = page.rest.label("matches")
    window = mine.with_only_columns(*_columns(of, page.keys), matches).limit(size).subquery()
    order = _order(window, page.keys)
    return select(window.c.id).where(window.c.matches).order_by(*order).limit(page.limit)


def _running(of: Table, mine: Select[Any], keys: Sequence[Key], size: int) -> Select[Any]:
    """The open rows of a window, in order: one more than may be counted."""
    columns = _columns(of, keys)
    window = mine.with_only_columns(*columns, of.c.complete_us).limit(size).subquery()
    still_open = select(*(window.c[one.name] for one in columns)).where(
        window.c.complete_us.is_(None)
    )
    return still_open.order_by(*_order(window, keys)).limit(OPEN_AT_ONCE + 1)


def _columns(of: Table, keys: Sequence[Key]) -> list[Column[Any]]:
    return [of.c.id, *(key.column for key in keys if key.column is not of.c.id)]


def _order(window: Any, keys: Sequence[Key]) -> list[ColumnElement[Any]]:
    columns = [(window.c[key.column.name], key.descending) for key in keys]
    return [one.desc() if descending else one for one, descending in columns]


def _beyond(keys: Sequence[Key], after: Sequence[Any]) -> ColumnElement[bool]:
    """What comes after ``after`` in the order of ``keys``."""
    directions = {key.descending for key in keys}
    if len(directions) == 1:
        # Row values: both databases walk one index for them, which they do not for ORs.
        mine = tuple_(*(key.column for key in keys))
        theirs = tuple_(*after)
        return mine < theirs if directions == {True} else mine > theirs
    cases: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, value in zip(keys, after, strict=True):
        further = key.column < value if key.descending else key.column > value
        cases.append(and_(*equal, further))
        equal.append(key.column == value)
    first, value = keys[0], after[0]
    # For an index to begin at.
    begin = first.column <= value if first.descending else first.column >= value
    return and_(begin, or_(*cases))
