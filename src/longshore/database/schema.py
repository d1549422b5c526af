"""Which revision of the schema a database has, who can use it, and how it gets the newest.

The steps from one revision to the next are Alembic's (``migrations``); it is imported only where
there is a step to take, so that workers never carry it. A step either *expands*, and those who use
the database go on, or *contracts*, and waits for the end of those who could not (``oldest`` in its
file). So a process uses every database from NEEDED on whose ``compatibility`` says that it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
)

from longshore.database import service_lock
from longshore.database.tables import compatibility, jobs, metadata
from longshore.errors import FailedPrecondition

HEAD = "0004"
"""The newest revision that this longshore knows; the last one in ``migrations/versions``."""
NEEDED = "0004"
"""The oldest revision that it can use; what comes after it contracts, and may wait."""
OLDEST = "0003"
"""Of which revision a longshore must be, at least, to use a database of HEAD."""
INITIAL = "0001"
"""The revision of tables that were made before revisions were written down."""
MIGRATIONS = Path(__file__).parent / "migrations"

# As Alembic makes and reads it.
_versions = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(:class, 0)").bindparams(**{"class": 0x10D65804})
# Who cannot have a table at once lets those pass who would wait behind, and tries again.
_NOT_FOR_LONG = text("SET LOCAL lock_timeout = '1s'")


class Upgraded(NamedTuple):
    """From which revision to which; ``left``: the contraction that waits for the end of ``users``,
    which are too old for it."""

    before: str | None
    after: str
    left: str | None = None
    users: Sequence[str] = ()


def revision(connection: Connection) -> str | None:
    """The database's revision; None: it is empty."""
    tables = set(inspect(connection).get_table_names())
    if _versions.name in tables:
        return connection.execute(select(_versions.c.version_num)).scalar_one_or_none()
    return INITIAL if jobs.name in tables else None


def check(connection: Connection) -> None:
    """Raises FailedPrecondition, saying what to do, unless this longshore can use the database."""
    found = revision(connection)
    if found is None:
        problem = "The database is empty; run `longshore database upgrade`."
    elif found < NEEDED:
        problem = (
            f"The database has schema {found}, and this longshore needs {NEEDED}. Back the database"
            " up, and run this longshore's `longshore database upgrade`, which says whether"
            " anything must be stopped."
        )
    elif found > HEAD and (oldest := _oldest(connection)) > HEAD:
        problem = (
            f"The database has schema {found} of a newer longshore, which only one of {oldest} or"
            f" later can use; this one is of {HEAD}: install that newer version."
        )
    else:
        return
    raise FailedPrecondition(problem, reason="SCHEMA_NOT_CURRENT")


def _oldest(connection: Connection) -> str:
    if not inspect(connection).has_table(compatibility.name):
        return INITIAL
    oldest: str = connection.execute(select(compatibility.c.oldest)).scalar_one()
    return oldest


def create(connection: Connection) -> None:
    """Give an empty database its tables; leave any other as it is."""
    _one_at_a_time(connection)
    if revision(connection) is None:
        metadata.create_all(connection)
        _versions.create(connection, checkfirst=True)
        connection.execute(insert(_versions).values(version_num=HEAD))
        connection.execute(insert(compatibility).values(oldest=OLDEST))


def _one_at_a_time(connection: Connection) -> None:
    """Where several services, or operators, may begin at once."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ONE_AT_A_TIME)


def upgrade(connection: Connection) -> Upgraded:
    """Bring the database to HEAD, or to before the first contraction that somebody who runs is too
    old for; wholly or not at all.

    On SQLite nobody else may be using it. Raises FailedPrecondition where it is of a newer
    longshore that leaves no room for this one, and where it would not get as far as NEEDED.
    """
    _one_at_a_time(connection)
    before = revision(connection)
    if before is None:
        create(connection)
        return Upgraded(None, HEAD)
    if before >= HEAD:
        check(connection)
        return Upgraded(before, before)
    if connection.dialect.name == "postgresql":
        connection.execute(_NOT_FOR_LONG)
    after, left, users = before, None, []
    for step in _steps(before):
        users = _too_old(connection, step.module.oldest)
        if users:
            left = step.revision
            break
        migrate(connection, step.revision)
        after = step.revision
    if after < NEEDED:
        raise FailedPrecondition(
            f"The database has schema {before}, and {left} would take from it what these need:"
            f" {', '.join(users)}. Stop them, and run this again; nothing was changed."
        )
    return Upgraded(before, after, left, tuple(users))


def _too_old(connection: Connection, oldest: str) -> list[str]:
    """Who uses the database and could not any more, were ``oldest`` the oldest to; nobody like them
    can begin before this transaction ends."""
    if connection.dialect.name != "postgresql":
        return []
    return service_lock.keep_out(connection, range(int(_oldest(connection)), int(oldest)))


def _config(connection: Connection | None = None) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _steps(after: str) -> list[Any]:
    """Alembic's scripts of all later revisions, in order."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    return list(scripts.iterate_revisions("head", after))[::-1]


def migrate(connection: Connection, target: str) -> None:
    """Take Alembic's steps from the database's revision to ``target``, whoever uses it."""
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(connection)
    if revision(connection) == INITIAL and not inspect(connection).has_table(_versions.name):
        command.stamp(config, INITIAL)
    command.upgrade(config, target)
    oldest = ScriptDirectory.from_config(config).get_revision(target).module.oldest
    if inspect(connection).has_table(compatibility.name):
        connection.execute(delete(compatibility))
        connection.execute(insert(compatibility).values(oldest=oldest))
