"""``longshore worker`` and ``longshore cluster``: many machines with one database."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from typing import Annotated

import typer

from longshore.cli.options import ConfigOption, DataDirOption
from longshore.settings import load

WORKER_EXAMPLE = "Example: [bold]longshore worker --config cluster.toml --workers 8[/]"

app = typer.Typer(
    no_args_is_help=True,
    help="A cluster that runs jobs: its settings.",
    epilog="Example: [bold]longshore cluster settings[/]",
)


def worker(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes that run shards. Default: one a core."
        ),
    ] = None,
) -> int:
    """Keep workers of a cluster on this machine, until SIGTERM or Ctrl-C.

    They run the jobs of every service whose settings name the same database and the same
    `dask.scheduler`, and come and go as they like. The data directory is this machine's own.
    """
    from longshore import app as service

    return service.work(load(config, os.environ, {"data_dir": data_dir, "workers": workers}))


@app.command("settings", epilog="Example: [bold]longshore cluster settings[/]")
def settings() -> int:
    """Print where Dask's own settings for such a cluster are.

    Its scheduler needs them: `DASK_CONFIG=$(longshore cluster settings) dask scheduler`.
    """
    with as_file(files("longshore.runners.dask") / "rules.yaml") as path:
        typer.echo(path)
    return 0
