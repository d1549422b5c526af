"""How many jobs and shards there are, by state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, func, select

from longshore.database.tables import jobs, shards
from longshore.model import State


class Census(NamedTuple):
    """Numbers for each state there can be."""

    jobs: Mapping[State, int]
    shards: Mapping[State, int]


def census(connection: Connection) -> Census:
    """The numbers as they are now; jobs that were deleted but whose operations are kept count too.

    Reads one index of each table from end to end: some 0.3 s for a million rows.
    """
    return Census(
        _by_state(connection, jobs.c.state),
        _by_state(connection, shards.c.job, shards.c.state),
    )


def _by_state(connection: Connection, *key: Column[Any]) -> Mapping[State, int]:
    """By the last column of the beginning of an index: in its order, so that nothing is sorted,
    which takes a quarter of the time."""
    groups = select(key[-1].label("state"), func.count().label("rows")).group_by(*key).subquery()
    rows = connection.execute(
        select(groups.c.state, func.sum(groups.c.rows)).group_by(groups.c.state)
    )
    found = {State(name): int(number) for name, number in rows}
    return {state: found.get(state, 0) for state in State}
