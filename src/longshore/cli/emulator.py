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
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep everything in this directory."),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Keep everything in memory: the default.")
    ] = False,
) -> int:
    """Emulate Cloud Storage, and serve batch operations over what is in it, until Ctrl-C.

    It listens on 127.0.0.1 and asks nobody who they are. It prints the variables that lead gcloud
    and Google's libraries to it.
    """
    if memory and data is not None:
        raise typer.BadParameter("Use --memory or --data, not both.")
    try:
        from longshore.emulator import service
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"The emulator needs {error.name}: pip install 'longshore[emulator]'."
        ) from error
    return service.run(service.Options(port=port, grpc_port=grpc_port, data=data))
