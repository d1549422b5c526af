"""``longshore database``, ``backup`` and ``restore``: what an operator does to the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Say whether the database has the schema that this version needs; exit code 1 if not.

    A service may be running.
    """
    from longshore.database import schema

    settings = load(config, os.environ, {"data_dir": data_dir})
    if settings.database is None and not settings.database_path.exists():
        raise FailedPrecondition(f"There is no database {settings.database_path} yet.")
    _run(settings, schema.check)
    typer.echo(f"The database has schema {schema.HEAD}, as it should.")
    return 0


@app.command("upgrade", epilog="Example: [bold]longshore database upgrade --config prod.toml[/]")
def upgrade(config: ConfigOption = None, data_dir: DataDirOption = None) -> int:
    """Bring the database to the schema that this version needs, wholly or not at all.

    Stop the service first, and back the database up: there is no way back but the backup. On
    SQLite, `longshore serve` does it by itself.
    """
    from longshore.database import schema

    settings = load(config, os.environ, {"data_dir": data_dir})
    with _alone(settings):
        before = _run(settings, schema.upgrade)
    if before == schema.HEAD:
        typer.echo(f"The database has schema {before} already.")
    else:
        typer.echo(f"The database has schema {schema.HEAD} now; before: {before or 'none'}.")
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
    """Nobody else uses the database meanwhile; raises FailedPrecondition if somebody does."""
    from longshore.data_dir import DataDirLock
    from longshore.database.service_lock import ServiceLock

    lock = ServiceLock(settings.database) if settings.database else DataDirLock(settings.data_dir)
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
