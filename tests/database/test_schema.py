"""Revisions of the schema: every one can become the newest, and the newest is what tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from longshore.database import Database, schema
from longshore.database.schema import Upgraded
from longshore.database.tables import compatibility
from longshore.errors import FailedPrecondition
from tests.database import revisions as made_up


def steps() -> dict[str, str]:
    """All revisions, the oldest first, and the oldest longshore that can use each."""
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    return {one.revision: one.module.oldest for one in [*scripts.walk_revisions()][::-1]}


def shape(connection: Connection) -> dict[str, Any]:
    """Everything that can be asked about the tables, in an order of its own."""
    look = inspect(connection)
    found: dict[str, Any] = {}
    for table in sorted(look.get_table_names()):
        columns = [
            {
                **column,
                "type": repr(column["type"]),
                "collation": getattr(column["type"], "collation", None),
            }
            for column in look.get_columns(table)
        ]
        indexes = [
            {key: repr(value) for key, value in one.items() if "sqlite" not in repr(value)}
            for one in look.get_indexes(table)
        ]
        found[table] = {
            "columns": columns,
            "key": look.get_pk_constraint(table),
            "foreign": sorted(look.get_foreign_keys(table), key=repr),
            "indexes": sorted(indexes, key=lambda one: str(one["name"])),
        }
    if connection.dialect.name == "sqlite":
        # Conditions of indexes and AUTOINCREMENT are nowhere but in the text.
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name"))
        found["sql"] = {name: " ".join((sql or "").split()) for name, sql in rows}
    return found


@pytest.fixture
async def empty(database_at: Path | str) -> Any:
    opened = Database(database_at)
    yield opened
    await opened.close()


def test_revisions_are_in_order_and_head_is_the_last() -> None:
    found = list(steps())
    assert found == sorted(found)
    assert (found[0], found[-1]) == (schema.INITIAL, schema.HEAD)


def test_every_revision_says_who_can_use_it() -> None:
    """Nobody comes back who could not use an earlier one, and what may wait is a contraction."""
    found = steps()
    oldest = list(found.values())
    assert oldest == sorted(oldest)
    assert all(who <= revision for revision, who in found.items())
    assert oldest[-1] == schema.OLDEST
    expand = [
        revision
        for revision, before in zip(found, ["0000", *oldest], strict=False)
        if found[revision] == before
    ]
    assert schema.NEEDED in found
    assert all(revision <= schema.NEEDED for revision in expand)


@pytest.mark.parametrize("start", [None, *steps()])
async def test_every_revision_can_become_the_newest(
    empty: Database, database: Database, start: str | None
) -> None:
    if start is not None:
        await empty.write(_at, start)
    assert await empty.write(schema.upgrade) == Upgraded(start, schema.HEAD)
    await empty.read(schema.check)
    assert await empty.read(shape) == await database.read(shape)
    assert await empty.write(schema.upgrade) == Upgraded(schema.HEAD, schema.HEAD)
    assert await empty.read(oldest_user) == schema.OLDEST


def oldest_user(connection: Connection) -> str:
    return connection.execute(select(compatibility.c.oldest)).scalar_one()


def _at(connection: Connection, revision: str) -> None:
    """A database that has never been anything but ``revision``."""
    schema.migrate(connection, revision)


@pytest.fixture
async def database(new_database: Any, tmp_path: Path) -> Any:
    """Made from ``tables``, beside the one under test."""
    opened = Database(new_database() or tmp_path / "made.sqlite")
    await opened.create()
    yield opened
    await opened.close()


async def test_tables_without_a_revision_are_of_the_first(empty: Database) -> None:
    await empty.write(_at, schema.INITIAL)
    await empty.write(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    assert await empty.read(schema.revision) == schema.INITIAL
    assert (await empty.write(schema.upgrade)).before == schema.INITIAL


async def test_a_newer_schema_that_leaves_no_room_is_refused_and_stays(database: Database) -> None:
    newer = update(schema._versions).values(version_num="9999")
    await database.write(lambda connection: connection.execute(newer))
    later = update(compatibility).values(oldest="9998")
    await database.write(lambda connection: connection.execute(later))
    for function in (schema.check, schema.upgrade):
        with pytest.raises(FailedPrecondition, match=r"newer.* only one of 9998 or later"):
            await database.write(function)
    assert await database.read(schema.revision) == "9999"


async def test_who_is_older_uses_what_was_expanded_and_not_what_was_contracted(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = schema.HEAD
    with monkeypatch.context() as newer:
        expanded = made_up.add(tmp_path, newer, "expand")
        assert await database.write(schema.upgrade) == Upgraded(own, expanded)
        await database.read(schema.check)
    await database.read(schema.check)
    assert await database.write(schema.upgrade) == Upgraded(expanded, expanded)
    with monkeypatch.context() as newest:
        made_up.add(tmp_path, newest, "expand")
        contracted = made_up.add(tmp_path, newest, "contract")
        await database.read(schema.check)  # it need not wait for that
        assert await database.write(schema.upgrade) == Upgraded(expanded, contracted)
        await database.read(schema.check)
    with pytest.raises(FailedPrecondition, match=f"only one of {expanded} or later"):
        await database.read(schema.check)


async def test_an_older_schema_is_refused_with_what_to_do(database: Database) -> None:
    older = update(schema._versions).values(version_num="0000")
    await database.write(lambda connection: connection.execute(older))
    with pytest.raises(FailedPrecondition, match="longshore database upgrade"):
        await database.read(schema.check)


async def test_an_upgrade_that_fails_changes_nothing(empty: Database) -> None:
    """The first step meets a table that stands in its way after it has made others."""
    await empty.write(lambda connection: connection.execute(text("CREATE TABLE requests (x int)")))
    before = await empty.read(shape)
    with pytest.raises(DBAPIError, match="already exists"):
        await empty.write(schema.migrate, schema.HEAD)
    assert await empty.read(shape) == before


def test_nothing_but_a_step_imports_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from longshore.database import Database, schema\n"
        "async def main():\n"
        f"    database = Database(Path({str(tmp_path / 'x.sqlite')!r}))\n"
        "    await database.write(schema.upgrade); await database.read(schema.check)\n"
        "    await database.close()\n"
        "asyncio.run(main()); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
