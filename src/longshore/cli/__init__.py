"""The command line: ``longshore …``.

Every module of commands is light to import; what is heavy is imported where it is used, so that
help is quick and ``serve`` carries nothing that it does not need.

Exit codes: 0, 1 for failure, 2 for wrong usage, 130 when interrupted. Whatever a user can cause is
one line on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from longshore import __version__
from longshore.cli import (
    auth,
    bucket_operations,
    buckets,
    cluster,
    database,
    demo,
    emulator,
    jobs,
    objects,
    operations,
    serve,
    stores,
)
from longshore.cli.help import use_everywhere
from longshore.cli.output import printable
from longshore.errors import Error

app = typer.Typer(
    name="longshore",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Example: [bold]longshore serve[/], then [bold]longshore jobs --help[/] elsewhere.",
)
app.command("serve", epilog=serve.EXAMPLE)(serve.serve)
app.command("worker", epilog=cluster.WORKER_EXAMPLE)(cluster.worker)
app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("emulator", epilog=emulator.EXAMPLE)(emulator.emulator)
app.command("backup", epilog=database.BACKUP_EXAMPLE)(database.backup)
app.command("restore", epilog=database.RESTORE_EXAMPLE)(database.restore)
app.add_typer(jobs.app, name="jobs")
app.add_typer(bucket_operations.app, name="bucket-operations")
app.add_typer(operations.app, name="operations")
app.add_typer(stores.app, name="stores")
app.add_typer(buckets.app, name="buckets")
app.add_typer(objects.app, name="objects")
app.add_typer(cluster.app, name="cluster")
app.add_typer(database.app, name="database")
app.add_typer(auth.app, name="auth")
use_everywhere(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"longshore {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Bulk changes to objects in any bucket, as a service."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; what a user can cause is said on stderr."""
    try:
        code = app(arguments, prog_name="longshore", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _refuse(error)
    except Error as error:
        return _fail(f"{error.code.name}: {error.message}")
    except BrokenPipeError:
        # The reader has gone; nothing must be flushed to it while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    return code if isinstance(code, int) else 0


def _refuse(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().removeprefix("Invalid value: ")
    if not message or message.startswith("Usage:") or "\n" in message:
        sys.stderr.write(f"{message}\n")
    else:
        hint = f" (see {context.command_path} --help)" if context else ""
        _fail(f"{message.rstrip('.')}{hint}")
    return error.exit_code


def _fail(message: str) -> int:
    line = "; ".join(part.strip() for part in message.splitlines() if part.strip())
    sys.stderr.write(f"longshore: {printable(line)}\n")
    return 1
