"""``longshore emulator``: Cloud Storage and batch operations in one process, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longshore.errors import FailedPrecondition

EXAMPLE = "Example: [bold]longshore emulator --data ./emulated --seed buckets.yaml[/]"

_PORT = "Where Cloud Storage and REST listen. Default: 8080; 0: any."
_GRPC_PORT = "Where batch operations listen for gRPC. Default: 8081; 0: any."
_ANYONE = "Listen on any address, as inside a container."
_DATA = "Keep buckets, objects and jobs in this directory."
_SEED = "Buckets and objects to begin with (YAML or JSON)."
_SLOW = "What all jobs do together at most: to see one run, or to cancel it."


def emulator(
    port: Annotated[int, typer.Option("--port", metavar="PORT", help=_PORT)] = 8080,
    grpc_port: Annotated[int, typer.Option("--grpc-port", metavar="PORT", help=_GRPC_PORT)] = 8081,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="The address to listen on.")
    ] = "127.0.0.1",
    dangerously_serve_anyone: Annotated[
        bool, typer.Option("--dangerously-serve-anyone", help=_ANYONE)
    ] = False,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help=_DATA)] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Keep everything in memory: the default.")
    ] = False,
    seed: Annotated[Path | None, typer.Option("--seed", metavar="FILE", help=_SEED)] = None,
    max_objects_per_second: Annotated[
        float | None,
        typer.Option("--max-objects-per-second", metavar="N", min=0.001, help=_SLOW),
    ] = None,
) -> int:
    """Emulate Cloud Storage, and serve batch operations on what is in it, until Ctrl-C.

    For tests, and for trying things out: without an account, a network or a container. It prints
    lines to paste into a shell; gcloud and Google's libraries go to it then. Holds, retention,
    generations and preconditions are those of Cloud Storage, and what it does not do is an error
    501, never a success.

    It asks nobody who they are, so it listens on 127.0.0.1 only. Tests can have calls fail, be slow
    or break off, and put its clock forward: requests below /_emulator/, which docs/emulator.md
    shows, with pytest, GitHub Actions and docker compose.
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
        max_objects_per_second=max_objects_per_second,
    )
    return service.run(options)
