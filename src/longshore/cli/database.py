"""``longshore database``, ``backup`` and ``restore``: what an operator does to the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from longshore.cli.options import ConfigOption, DataDirOption
from longshore.errors import FailedPrecondition
from longshore.settings import Settings, load

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

BACKUP_EXAMPLE = "Example: [bold]longshore backup /backups/monday.sqlite[/]"
RESTORE_EXAMPLE = "Example: [bold]longshore restore /backups/monday.sqlite[/]"
PATIENCE_SECONDS = 5.0

app = typer.Typer(
    no_args_is_help=True,
    help="The service's database and its schema.",
    epilog="Example: [bold]longshore database check[/]",
)

BackupArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup, one file.")]


@app.command("check", epilog="Example: [bold]longshore database check --data-dir ./data[/]")
def check(config: ConfigOption = None, data_dir: DataDirOption = None) -> int:
    """Say whether this version can use the database's schema; exit code 1 if not.

    A service may be running.
    """
    from longshore.database import schema

    settings = load(config, os.environ, {"data_dir": data_dir})
    if settings.database is None and not settings.database_path.exists():
        raise FailedPrecondition(f"There is no database {settings.database_path} yet.")
    found = _run(settings, _checked)
    if found == schema.HEAD:
        typer.echo(f"The database has schema {found}, as it should.")
    else:
        typer.echo(
            f"The database has schema {found}, which this version, of {schema.HEAD}, can use."
        )
    return 0


def _checked(connection: Connection) -> str | None:
    from longshore.database import schema

    schema.check(connection)
    return schema.revision(connection)


@app.command("upgrade", epilog="Example: [bold]longshore database upgrade --config prod.toml[/]")
def upgrade(config: ConfigOption = None, data_dir: DataDirOption = None) -> int:
    """Bring the database to the newest schema that this version knows.

    Back it up first: there is no way back but the backup. On PostgreSQL services and workers of the
    version before may run: what takes from them what they need is left, with their names; run this
    again once they have ended. On SQLite, `longshore serve` does all of it by itself.
    """
    from longshore.database import schema

    settings = load(config, os.environ, {"data_dir": data_dir})
    with nullcontext() if settings.database else _alone(settings):
        done = _run(settings, schema.upgrade)
    left = done.left and (
        f"Schema {done.left} takes away what these need: {', '.join(done.users)}."
        " Run this again once they have ended."
    )
    if done.before != done.after:
        typer.echo(f"The database has schema {done.after} now; before: {done.before or 'none'}.")
        if left:
            typer.echo(left)
    elif left:
        raise FailedPrecondition(f"The database has schema {done.after}. {left}")
    else:
        typer.echo(f"The database has schema {done.after} already.")
    return 0


def backup(
    file: BackupArgument, config: ConfigOption = None, data_dir: DataDirOption = None
) -> int:
    """Write the service's SQLite database, as it is at this moment, to a new file.

    The service may be running. It holds jobs and their progress; objects of local buckets and the
    logs of jobs are not part of it. For PostgreSQL use pg_dump.
    """
    from longshore.database import backup

    settings = _sqlite(config, data_dir, "pg_dump")
    size = backup.back_up(settings.database_path, file)
    typer.echo(f"Wrote {file}, {size} bytes.")
    return 0


def restore(
    file: BackupArgument, config: ConfigOption = None, data_dir: DataDirOption = None
) -> int:
    """Put a backup in the place of the service's SQLite database.

    Stop the service first. The database that was there is kept beside it, as `….replaced`. Jobs
    go on from where the backup has them; what they did since is looked at, not done again. For
    PostgreSQL use pg_restore.
    """
    from longshore.database import backup

    settings = _sqlite(config, data_dir, "pg_restore")
    with _alone(settings):
        backup.restore(file, settings.database_path)
    typer.echo(f"{settings.database_path} is what {file} has.")
    return 0


def _sqlite(config: Path | None, data_dir: Path | None, instead: str) -> Settings:
    settings = load(config, os.environ, {"data_dir": data_dir})
    if settings.database is not None:
        raise FailedPrecondition(
            f"The database is PostgreSQL: use {instead}, as docs/operating.md says."
        )
    return settings


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Nobody else uses the SQLite database; raises FailedPrecondition if somebody does."""
    from longshore.data_dir import DataDirLock

    lock = DataDirLock(settings.data_dir)
    try:
        yield
    finally:
        lock.close()


def _run(settings: Settings, function: Callable[[Connection], T]) -> T:
    import asyncio

    from longshore.database import Database

    async def run() -> T:
        database = Database.open(settings, patience_seconds=PATIENCE_SECONDS)
        try:
            return await database.write(function)
        finally:
            await database.close()

    return asyncio.run(run())
