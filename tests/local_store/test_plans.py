"""No statement of the local store walks through the whole bucket to find its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore.patch import MapPatch
from longshore.store import ABSENT, NewObject
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock


@pytest.mark.parametrize("versioning", [False, True])
@pytest.mark.parametrize("soft", [0, 604_800])
async def test_every_statement_finds_its_rows_by_key(
    tmp_path: Path, versioning: bool, soft: int
) -> None:
    store = LocalStore(tmp_path)
    shelf = Shelf(store, TurnedClock())
    await shelf.make(versioning=versioning, soft_delete_seconds=soft)
    await shelf.write("a")
    opened = store._open[BUCKET]
    statements: list[str] = []
    for listen in (opened.read, opened.write):
        await listen(lambda t: t.connection.set_trace_callback(statements.append))
    await use_everything(shelf)
    await delete_and_restore(store)
    for listen in (opened.read, opened.write):
        await listen(lambda t: t.connection.set_trace_callback(None))
    verbs = ("SELECT", "WITH", "UPDATE", "DELETE FROM", "INSERT INTO")
    tables = (" object", " soft_deleted")
    traced = [s for s in statements if s.startswith(verbs) and any(map(s.__contains__, tables))]
    assert len(traced) > 30

    def explain(transaction: Any) -> list[str]:
        execute = transaction.connection.execute
        plans = [execute(f"EXPLAIN QUERY PLAN {statement}").fetchall() for statement in traced]
        return [detail for plan in plans for *_, detail in plan]

    steps = await opened.write(explain)
    assert [step for step in steps if step.startswith(("SCAN object", "SCAN soft"))] == []
    assert any(step.startswith("SEARCH object") for step in steps)
    assert not [step for step in steps if "TEMP B-TREE" in step]
    await store.close()


async def test_lookups_of_any_number_of_names_share_few_statements(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    shelf = Shelf(store, TurnedClock())
    await shelf.make()
    generations = [await shelf.write(f"{n}") for n in range(3)] * 100
    statements: list[str] = []
    await store._open[BUCKET].read(lambda t: t.connection.set_trace_callback(statements.append))
    for count in range(1, 300):
        names = [f"{n % 3}" for n in range(count)]
        for named in (generations[:count], None):
            assert (await shelf.there(*names, generations=named)).names == names
    # A prepared statement is kept for each number of keys, at more than 100 bytes a key.
    keys = {s.count("X'") or s.count("x'") for s in statements if " object WHERE name" in s}
    assert keys <= {1, 2, 4, 8, 16, 32, 64, 128}, keys
    await store.close()


async def use_everything(shelf: Shelf) -> None:
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x" * 20_000) for name in "abc"])
    await shelf.names()
    await shelf.versions(versions=True, prefix="a", after="a", after_generation=5)
    await shelf.there("a", "b", generations=[0, 12345])
    await shelf.read("a")
    await shelf.patch("a", temporary_hold=True, contexts=MapPatch(updates={"k": "v"}))
    await shelf.patch("a", temporary_hold=False)
    await shelf.patch("a", event_based_hold=True)
    await shelf.patch("a", event_based_hold=False, custom_time_us=5)
    await shelf.patch("a", custom_time_us=1)  # refused, so row by row
    for name in "abc":
        await shelf.rewrite(name)
        await shelf.rewrite(name)
        await shelf.delete(name)
    for name, generation in await shelf.versions(versions=True):
        await shelf.delete(name, generation, permanent=True)


async def delete_and_restore(store: LocalStore) -> None:
    await store.put_object(BUCKET, NewObject("s", b"x" * 20_000), check=lambda *_: None)
    await store.move_object(BUCKET, "s", "t", check_source=lambda *_: None, check=lambda *_: None)
    await store.delete_object(BUCKET, "t", ABSENT, check=lambda *_: None)
    async for page in store.list_soft_deleted(BUCKET, prefix="t", after="t", after_generation=5):
        raise AssertionError(page)
    async for page in store.list_soft_deleted(BUCKET, prefix="t"):
        row = page.names[0], page.generations[0]
        assert (await store.read_soft_deleted(BUCKET, *row)).generations == [row[1]]
        await store.restore_object(BUCKET, *row, acl=None, check=lambda *_: None)
