"""``longshore serve``: run everything."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from longshore.cli.options import ConfigOption, DataDirOption
from longshore.settings import load

EXAMPLE = "Example: [bold]longshore serve --listen 127.0.0.1:8080 --data-dir ./longshore-data[/]"


def serve(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Where REST listens; overrides `rest.listen`."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes that run shards. Default: one a core."
        ),
    ] = None,
) -> int:
    """Serve the API and run its jobs, until SIGTERM or Ctrl-C.

    Everything lives in the data directory, which one service at a time can have. Jobs that were
    running when a service ended, however it ended, go on by themselves.
    """
    from longshore import app

    flags = {"data_dir": data_dir, "rest.listen": listen, "workers": workers}
    return app.serve(load(config, os.environ, flags))
