"""Options that several commands share, and what they open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from longshore import names
from longshore.settings import Settings, load

if TYPE_CHECKING:
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
        "--server", metavar="URL", envvar="LONGSHORE_SERVER", help="The server to talk to."
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


def with_stores(
    config: Path | None, data_dir: Path | None, use: Callable[[Stores], Awaitable[T]]
) -> T:
    """What ``use`` gives for the configured stores, which are closed afterwards."""
    from longshore.store import Stores

    settings: Settings = load(config, os.environ, {"data_dir": data_dir})

    async def run() -> T:
        stores = Stores(settings)
        try:
            return await use(stores)
        finally:
            await stores.close()

    return asyncio.run(run())


def bucket_name(text: str) -> str:
    """The bucket behind ``B`` or ``gs://B``; anything else is a usage error."""
    name = text.removeprefix("gs://").removesuffix("/")
    if not names.is_bucket_name(name):
        raise typer.BadParameter(
            f"{text!r} is no bucket name: 3 to 222 lower-case letters, digits, '-', '_' and '.',"
            " beginning and ending with a letter or digit."
        )
    return name


def split_url(text: str) -> tuple[str, str]:
    """Bucket and the rest behind ``B/rest`` or ``gs://B/rest``; the rest may be empty."""
    bucket, _, rest = text.removeprefix("gs://").partition("/")
    return bucket_name(bucket), rest
