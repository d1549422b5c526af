"""``longshore serve``: run everything."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from longshore.cli.options import ConfigOption, DataDirOption
from longshore.settings import file_of, load

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
    grpc_listen: Annotated[
        str | None,
        typer.Option(
            "--grpc-listen",
            metavar="HOST:PORT",
            help="Where gRPC listens; overrides `grpc.listen`.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes that run shards. Default: one a core."
        ),
    ] = None,
    dangerously_serve_anyone: Annotated[
        bool,
        typer.Option(
            "--dangerously-serve-anyone",
            help="Listen on any address though `auth.mode` is none: whoever reaches it may delete"
            " every object.",
        ),
    ] = False,
) -> int:
    """Serve the API and run its jobs, until SIGTERM or Ctrl-C.

    Everything lives in the data directory, which one service at a time can have. Jobs that were
    running when a service ended, however it ended, go on by themselves.
    """
    from longshore import app

    flags = {
        "data_dir": data_dir,
        "rest.listen": listen,
        "grpc.listen": grpc_listen,
        "workers": workers,
        "auth.dangerously_serve_anyone": dangerously_serve_anyone or None,
    }
    return app.serve(lambda: load(config, os.environ, flags), file_of(config, os.environ))
