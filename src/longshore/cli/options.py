"""Options that several commands share, and what they open."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from longshore import names
from longshore.settings import Settings, load

if TYPE_CHECKING:
    from longshore.cli.client import Client
    from longshore.store import Stores

T = TypeVar("T")

DEFAULT_SERVER = "http://127.0.0.1:8080"
DEFAULT_PROJECT = "local"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. Default: $LONGSHORE_CONFIG, else ./longshore.toml if there is one.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where the service keeps its data; overrides `data_dir` of the settings.",
    ),
]
ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="LONGSHORE_SERVER",
        help="The server to talk to, with the token that is in $LONGSHORE_TOKEN or in the file"
        " $LONGSHORE_TOKEN_FILE, if any.",
    ),
]
ProjectOption = Annotated[
    str,
    typer.Option(
        "--project",
        metavar="PROJECT",
        envvar="LONGSHORE_PROJECT",
        help="The project of the jobs; any id is valid.",
    ),
]
FilterOption = Annotated[
    str,
    typer.Option("--filter", metavar="FILTER", help="Only these, in the API's language (AIP-160)."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")
]


def limited(rows: Iterable[T], limit: int | None) -> Iterable[T]:
    """The first ``limit`` rows, and no page more than they need; None: all."""
    return islice(rows, limit)


def read_settings(config: Path | None, data_dir: Path | None) -> Settings:
    """The settings, with the flags of a command on top."""
    return load(config, os.environ, {"data_dir": data_dir})


def with_stores(
    config: Path | None, data_dir: Path | None, use: Callable[[Stores], Awaitable[T]]
) -> T:
    """What ``use`` gives for the configured stores, which are closed afterwards."""
    import asyncio

    from longshore.store import Stores

    settings = read_settings(config, data_dir)

    async def run() -> T:
        stores = Stores(settings)
        try:
            return await use(stores)
        finally:
            await stores.close()

    return asyncio.run(run())


def connect(server: str, project: str) -> Client:
    """A connection to the server, to be used in a ``with``."""
    from longshore.cli.client import Client

    return Client(server, project, _token())


def _token() -> str | None:
    """The token to send. There is no flag for it: all users of a machine see each other's."""
    if file := os.environ.get("LONGSHORE_TOKEN_FILE"):
        return Path(file).read_text(encoding="ascii", errors="replace").strip()
    return os.environ.get("LONGSHORE_TOKEN") or None


def bucket_name(text: str) -> str:
    """The bucket behind ``B`` or ``gs://B``; anything else is a usage error."""
    name = text.removeprefix("gs://").removesuffix("/")
    if not names.is_bucket_name(name):
        raise typer.BadParameter(
            f"{text!r} is no bucket name: 1 to 222 lower-case letters, digits, '-', '_' and '.',"
            " beginning and ending with a letter or digit."
        )
    return name


def split_url(text: str) -> tuple[str, str]:
    """Bucket and the rest behind ``B/rest`` or ``gs://B/rest``; the rest may be empty."""
    bucket, _, rest = text.removeprefix("gs://").partition("/")
    return bucket_name(bucket), rest
