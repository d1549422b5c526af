"""Which revision of the schema a database has, and how it gets the newest.

The steps from one revision to the next are Alembic's (``migrations``); it is imported only where
there is a step to take, so that workers never carry it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)

from longshore.database.tables import jobs, metadata
from longshore.errors import FailedPrecondition

HEAD = "0002"
"""The revision that this longshore needs; the last one in ``migrations/versions``."""
INITIAL = "0001"
"""The revision of tables that were made before revisions were written down."""

# As Alembic makes and reads it.
_versions = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(:class, 0)").bindparams(**{"class": 0x10D65804})


def revision(connection: Connection) -> str | None:
    """The database's revision; None: it is empty."""
    tables = set(inspect(connection).get_table_names())
    if _versions.name in tables:
        return connection.execute(select(_versions.c.version_num)).scalar_one_or_none()
    return INITIAL if jobs.name in tables else None


def check(connection: Connection) -> None:
    """Raises FailedPrecondition, saying what to do, unless the revision is HEAD."""
    found = revision(connection)
    if found == HEAD:
        return
    if found is None:
        problem = "The database is empty; run `longshore database upgrade`."
    elif found > HEAD:
        problem = (
            f"The database has schema {found} of a newer longshore, and this one knows {HEAD} at"
            " most: install that newer version."
        )
    else:
        problem = (
            f"The database has schema {found}, and this longshore needs {HEAD}. Stop every service,"
            " back the database up, and run `longshore database upgrade`."
        )
    raise FailedPrecondition(problem, reason="SCHEMA_NOT_CURRENT")


def create(connection: Connection) -> None:
    """Give an empty database its tables; leave any other as it is."""
    if connection.dialect.name == "postgresql":  # where several services may start at once
        connection.execute(_ONE_AT_A_TIME)
    if revision(connection) is None:
        metadata.create_all(connection)
        _versions.create(connection, checkfirst=True)
        connection.execute(insert(_versions).values(version_num=HEAD))


def upgrade(connection: Connection) -> str | None:
    """Bring the database to HEAD, wholly or not at all; gives the revision it had.

    No service may be using it. Raises FailedPrecondition if it is of a newer longshore.
    """
    before = revision(connection)
    if before is None:
        create(connection)
    elif before != HEAD:
        if before > HEAD:
            check(connection)
        migrate(connection, HEAD)
    return before


def migrate(connection: Connection, target: str) -> None:
    """Take Alembic's steps from the database's revision to ``target``."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    if revision(connection) == INITIAL and not inspect(connection).has_table(_versions.name):
        command.stamp(config, INITIAL)
    command.upgrade(config, target)
