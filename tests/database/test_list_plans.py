"""Pages find their rows by an index in the order that is asked for, among many jobs; and whatever
is asked for, no page looks at more rows than a window has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, text

from longshore.api.fields import job_fields, operation_fields
from longshore.api.jobs import _JOB_ORDER
from longshore.api.listing import Listing
from longshore.api.operations import _ORDER
from longshore.database import Database, lists
from longshore.database.lists import Page
from tests.database.many_jobs import PROJECT, fill
from tests.database.test_plans import plans_of

JOBS = {"postgresql": 60_000, "sqlite": 20_000}
DAY = "create_time > 2026-09-01T06:00:00Z create_time < 2026-09-01T07:00:00Z"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def full(
    new_database: Callable[[], str | None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    opened = Database(new_database() or tmp_path_factory.mktemp("lists") / "longshore.sqlite")

    def make(connection: Connection) -> None:
        fill(connection, JOBS[connection.dialect.name])
        connection.execute(text("ANALYZE"))

    asyncio.run(opened.create())
    asyncio.run(opened.write(make))
    yield opened
    asyncio.run(opened.close())


def page(text_: str, order_by: str, token: str = "") -> Page:
    request = SimpleNamespace(page_size=0, filter=text_, page_token=token)
    fields = job_fields(PROJECT)
    return Listing.of(
        request, scope="", order_by=order_by, order=_JOB_ORDER, fields=fields, token_key=b"k"
    ).page


@pytest.mark.parametrize(
    ("text_", "order_by", "index"),
    [
        ("", "name", "jobs_by_id"),
        ("", "name desc", "jobs_by_id"),
        ("name > job-0500000", "name", "jobs_by_id"),
        ('name = "job-05*"', "name desc", "jobs_by_id"),
        ("", "create_time", "jobs_by_create_time"),
        ("", "create_time desc", "jobs_by_create_time"),
        (DAY, "create_time desc", "jobs_by_create_time"),
        ("", "create_time, name desc", "jobs_by_create_time"),
        ("state:failed", "name", "jobs_by_state_and_id"),
        ("state:failed name > job-05", "name", "jobs_by_state_and_id"),
        ("state:failed", "create_time desc", "jobs_by_state_and_time"),
        ("state:queued", "create_time", "jobs_by_state_and_time"),
        (f"state:failed {DAY}", "create_time", "jobs_by_state_and_time"),
        (DAY, "name", "jobs_by_id"),
        ("NOT state:succeeded", "create_time", "jobs_by_create_time"),
        ("nowhere", "name", "jobs_by_id"),
        ("state:failed counters.total_object_count > 5", "name", "jobs_by_state_and_id"),
    ],
)
async def test_a_page_walks_its_index(
    full: Database, monkeypatch: pytest.MonkeyPatch, text_: str, order_by: str, index: str
) -> None:
    # As small for this many jobs as the real one is for a million.
    monkeypatch.setattr(lists, "WINDOW", {"postgresql": 300, "sqlite": 300})
    asked = page(text_, order_by)
    plans = await full.write(plans_of, lists.list_jobs, PROJECT, asked)
    statement, plan = next(iter(plans.items()))
    assert re.search(rf"\b{index}\b", plan), f"{statement}\n{plan}"
    for one in plans.values():
        assert not re.search(r"Seq Scan on jobs|SCAN jobs$", one, re.MULTILINE), one


@pytest.mark.parametrize(
    ("text_", "index"),
    [
        ("", "jobs_by_operation"),
        ("name < operation-1788220900", "jobs_by_operation"),
        ("metadata.job.name = job-0007919", "jobs_of_operations"),
    ],
)
async def test_operations_walk_their_index(full: Database, text_: str, index: str) -> None:
    request = SimpleNamespace(page_size=0, filter=text_, page_token="")
    fields = operation_fields(PROJECT)
    asked = Listing.of(
        request, scope="", order_by="", order=_ORDER, fields=fields, token_key=b"k"
    ).page
    plans = await full.write(plans_of, lists.list_operations, PROJECT, asked)
    assert index in next(iter(plans.values()))


@pytest.mark.parametrize("text_", ["nowhere", "counters.total_object_count > 1000000"])
@pytest.mark.parametrize("order_by", ["name", "create_time desc", "create_time,name desc"])
async def test_a_window_ends_where_it_should(full: Database, text_: str, order_by: str) -> None:
    """Nothing matches: every page is empty and says where it came to, until the last."""
    asked = page(text_, order_by)
    pages = 1
    while (found := await full.read(lists.list_jobs, PROJECT, asked)).end is not None:
        assert found.rows == []
        asked = replace(asked, after=found.end)
        pages += 1
    name = await full.read(lambda connection: connection.dialect.name)
    window = lists.WINDOW[name] // (2 if asked.counts else 1)
    assert pages in (JOBS[name] // window, JOBS[name] // window + 1)
