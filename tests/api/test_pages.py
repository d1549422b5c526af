"""Pages put together are the list: for any filter, order and sizes, while jobs come and go.

What a filter means is said again here, in Python, over all rows. The window is a few rows, so that
pages are short and empty ones come up.
"""

from __future__ import annotations

import asyncio
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, update

from longshore.api import page_tokens
from longshore.api.fields import job_fields
from longshore.api.jobs import _JOB_ORDER
from longshore.api.listing import Listing
from longshore.database import Database, keys, lists
from longshore.database.tables import bucket_operations, jobs, metadata, shards
from longshore.errors import InvalidArgument
from longshore.model import State

KEY = b"k" * 32
STATES = [state.value for state in State]
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Row = dict[str, Any]
Matches = Callable[[Row], bool]
Filter = tuple[str, Matches]


def time_of(create_us: int) -> str:
    return f"1970-01-01T00:00:00.{create_us:06d}Z"


names = st.text("ab-%_", min_size=1, max_size=3)
operators = st.sampled_from(sorted(COMPARE))


@st.composite
def comparisons(draw: st.DrawFn) -> Filter:
    """One field with one value."""
    by = draw(operators)
    compare = COMPARE[by]
    kinds = ["name", "time", "state", "count", "count", "count", "has", "wild", "word", "flag"]
    match draw(st.sampled_from(kinds)):
        case "name":
            name = draw(names)
            return f'name {by} "{name}"', lambda row: compare(row["job_id"], name)
        case "time":
            now = draw(st.integers(0, 4))
            return f"createTime{by}{time_of(now)}", lambda row: compare(row["create_us"], now)
        case "state":
            state = draw(st.sampled_from(STATES))
            return f"state:{state.lower()}", lambda row: row["state"] == state
        case "count":
            count = draw(st.integers(0, 4))
            text = f"counters.total_object_count {by} {count}"
            return text, lambda row: compare(row["count"], count)
        case "has":
            piece = draw(st.text("ab-%_", min_size=1, max_size=2))
            return f"description:'{piece}'", lambda row: piece in (row["description"] or "")
        case "wild":
            start, end = draw(names), draw(st.text("ab-%_", max_size=1))
            alike = re.compile(f"{re.escape(start)}.*{re.escape(end)}")
            return f'name = "{start}*{end}"', lambda row: bool(alike.fullmatch(row["job_id"]))
        case "word":
            word = draw(st.text("abAB", min_size=1, max_size=2))
            return word, lambda row: word.lower() in row["text"].lower()
    flag = draw(st.booleans())
    return f"dry_run = {flag}", lambda row: row["dry_run"] == flag


def combined(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    some = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        inner.map(lambda one: (f"NOT ({one[0]})", lambda row: not one[1](row))),
        some.map(
            lambda many: (
                " OR ".join(f"({text})" for text, _ in many),
                lambda row: any(matches(row) for _, matches in many),
            )
        ),
        st.tuples(some, st.sampled_from([" ", " AND "])).map(
            lambda pair: (
                pair[1].join(f"({text})" for text, _ in pair[0]),
                lambda row: all(matches(row) for _, matches in pair[0]),
            )
        ),
    )


filters = st.one_of(
    st.just(("", lambda _row: True)), st.recursive(comparisons(), combined, max_leaves=5)
)
_ORDERS = """

name
name desc
create_time
createTime desc
create_time,name desc
 create_time desc , name
name, create_time desc"""
orders = st.sampled_from(_ORDERS.split("\n")[1:])
rows = st.fixed_dictionaries(
    {
        "job_id": names,
        "create_us": st.integers(0, 4),
        "state": st.sampled_from(STATES),
        "count": st.integers(0, 4),
        "description": st.one_of(st.none(), st.text("abAB%_", min_size=1, max_size=4)),
        "dry_run": st.booleans(),
    }
)


def fill(connection: Connection, new: list[Row]) -> list[Row]:
    """Insert jobs: those that are open have their count half on a bucket operation, half on a
    shard that runs."""
    made = []
    for row in new:
        state = State(row["state"])
        values = {
            "project": "p",
            "operation_id": f"operation-{row['job_id']}",
            "message": b"",
            "multi_bucket": False,
            "transformation_name": "delete_object",
            "transformation": {},
            "log_states": [],
            "complete_us": None if state.open else 9,
            "total": 0 if state.open else row["count"],
            **{name: row[name] for name in ("job_id", "create_us", "state", "dry_run")},
            "description": row["description"],
        }
        id_ = connection.execute(insert(jobs).returning(jobs.c.id), values).scalar_one()
        if state.open:
            half = row["count"] // 2
            part = {"job": id_, "bucket_operation_id": "o", "position": 0, "bucket": "b"}
            part |= {"source_name": "prefix_list", "source": 0, "create_us": 0, "total": half}
            part["state"] = row["state"]
            made_part = insert(bucket_operations).returning(bucket_operations.c.id)
            key = connection.execute(made_part, part).scalar_one()
            running = {"job": id_, "bucket_operation": key, "cursor": {}, "state": "RUNNING"}
            connection.execute(insert(shards), running | {"total": row["count"] - half})
            # One that has ended is on the bucket operation's row.
            connection.execute(insert(shards), running | {"total": half, "state": "SUCCEEDED"})
        text = f"projects/p/locations/global/jobs/{row['job_id']} {row['description'] or ''}"
        made.append({**row, "id": id_, "text": text})
    return made


def in_order(found: list[Row], order_by: str) -> list[Row]:
    """Sorted as an orderBy says; ties in the order of the last key by id."""
    terms = [term.split() for term in (order_by or "name").split(",")]
    descending = len(terms[-1]) > 1
    found = sorted(found, key=lambda row: row["id"], reverse=descending)
    for term in reversed(terms):
        column = "job_id" if term[0] == "name" else "create_us"
        found.sort(key=lambda row: row[column], reverse=len(term) > 1)
    return found


def empty(connection: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        connection.execute(delete(table))


@pytest.fixture(scope="module")
def database(
    new_database: Callable[[], str | None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    opened = Database(new_database() or tmp_path_factory.mktemp("pages") / "longshore.sqlite")
    asyncio.run(opened.create())
    yield opened
    asyncio.run(opened.close())


def page(
    connection: Connection, asked: tuple[str, str], size: int, token: str
) -> tuple[list[int], str]:
    request = SimpleNamespace(page_size=size, filter=asked[0], page_token=token)
    listing = Listing.of(
        request,
        scope="jobs",
        order_by=asked[1],
        order=_JOB_ORDER,
        fields=job_fields("p"),
        token_key=KEY,
    )
    found = lists.list_jobs(connection, "p", listing.page)
    shown, next_token = listing.fill(found, lambda one: SimpleNamespace(row=one.row, ByteSize=int))
    assert len(shown) <= size
    return [one.row.id for one in shown], next_token


def unique(many: list[Row]) -> list[Row]:
    return list({row["job_id"]: row for row in many}.values())


@pytest.mark.parametrize("window", [3, 5_000])
def test_pages_put_together_are_the_list(
    database: Database, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(lists, "WINDOW", {"sqlite": window, "postgresql": window})
    monkeypatch.setattr(lists, "OPEN_AT_ONCE", 2)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(rows, max_size=12).map(unique),
        st.lists(rows, max_size=4).map(unique),
        filters,
        orders,
        st.lists(st.integers(1, 5), min_size=1, max_size=4),
        st.lists(st.integers(0, 30), max_size=8),
    )
    def check(
        at_first: list[Row],
        later: list[Row],
        chosen: Filter,
        order_by: str,
        sizes: list[int],
        removals: list[int],
    ) -> None:
        def run(connection: Connection) -> None:
            empty(connection)
            there = fill(connection, at_first)
            taken = {row["job_id"] for row in there}
            more = [row for row in later if row["job_id"] not in taken]
            gone: set[int] = set()
            seen: list[int] = []
            token, turn = "", 0
            while True:
                shown, token = page(
                    connection, (chosen[0], order_by), sizes[turn % len(sizes)], token
                )
                seen += shown
                turn += 1
                assert turn < 100, "there is no end"
                if not token:
                    break
                if more:
                    there += fill(connection, [more.pop()])
                left = [row["id"] for row in there if row["id"] not in gone]
                if turn <= len(removals) and removals[turn - 1] < len(left):
                    gone.add(left[removals[turn - 1]])
                    connection.execute(
                        update(jobs).where(jobs.c.id.in_(gone)).values(job_delete_us=1)
                    )
            fixed = {row["id"] for row in there[: len(at_first)]} - gone
            expected = [
                row["id"] for row in in_order([row for row in there if chosen[1](row)], order_by)
            ]
            assert len(seen) == len(set(seen)), "one came twice"
            assert seen == [one for one in expected if one in seen], "out of order"
            assert [one for one in seen if one in fixed] == [
                one for one in expected if one in fixed
            ], "one that was there all the time is missing"

        asyncio.run(database.write(run))

    check()


def test_a_token_is_one_that_was_made_here_for_this() -> None:
    token = page_tokens.seal(["a", 7], b"arguments", KEY)
    assert list(page_tokens.unseal(token, b"arguments", KEY)) == ["a", 7]
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    others = [token[:length] for length in range(len(token))]
    alphabet = "AQgw-_19"
    others += [
        token[:place] + letter + token[place + 1 :]
        for place in range(len(token))
        for letter in alphabet
        if letter != token[place]
    ]
    others += [token + "A", token + "=", f" {token}", "é", "\0", "=" * 8]
    for other in others:
        with pytest.raises(InvalidArgument):
            page_tokens.unseal(other, b"arguments", KEY)
    for arguments, key in ((b"argument", KEY), (b"arguments", b"j" * 32)):
        with pytest.raises(InvalidArgument):
            page_tokens.unseal(token, arguments, key)


async def test_all_servers_of_a_database_have_one_key(database_at: Any) -> None:
    """Eight that start at once, on connections of their own, and one that comes later."""
    many = [Database(database_at) for _ in range(8)]
    await many[0].create()
    with ThreadPoolExecutor(len(many)) as threads:
        found = list(threads.map(lambda one: asyncio.run(one.write(keys.make_key, "a key")), many))
    assert {len(key) for key in found} == {32}
    assert len(set(found)) == 1
    assert await page_tokens.TokenKey(many[1]).get() == await page_tokens.TokenKey(many[2]).get()
    assert await many[3].read(keys.find_key, "a key") == found[0]
    assert await many[3].read(keys.find_key, "another") is None
    for one in many:
        await one.close()
