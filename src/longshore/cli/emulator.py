"""``longshore emulator``: Cloud Storage and batch operations in one process, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longshore.errors import FailedPrecondition

EXAMPLE = "Example: [bold]longshore emulator --port 8080 --data ./emulated[/]"


def emulator(
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Where REST listens; 0: a free port.")
    ] = 8080,
    grpc_port: Annotated[
        int, typer.Option("--grpc-port", metavar="PORT", help="Where gRPC listens.")
    ] = 8081,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="The address to listen on.")
    ] = "127.0.0.1",
    dangerously_serve_anyone: Annotated[
        bool,
        typer.Option(
            "--dangerously-serve-anyone", help="Listen on any address, as inside a container."
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep everything in this directory."),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Keep everything in memory: the default.")
    ] = False,
    seed: Annotated[
        Path | None,
        typer.Option("--seed", metavar="FILE", help="Buckets and objects to begin with (YAML)."),
    ] = None,
) -> int:
    """Emulate Cloud Storage, and serve batch operations over what is in it, until Ctrl-C.

    It asks nobody who they are, so it listens on 127.0.0.1. It prints the variables that lead
    gcloud and Google's libraries to it.
    """
    if memory and data is not None:
        raise typer.BadParameter("Use --memory or --data, not both.")
    try:
        from longshore.emulator import service
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"The emulator needs {error.name}: pip install 'longshore[emulator]'."
        ) from error
    options = service.Options(
        host=host,
        port=port,
        grpc_port=grpc_port,
        data=data,
        seed=seed,
        serve_anyone=dangerously_serve_anyone,
    )
    return service.run(options)
