"""``longshore auth``: tokens for a service with ``auth.mode = "tokens"``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Tokens for callers of a service.",
    epilog="Example: [bold]longshore auth token ci --days 90[/]",
)


@app.command("token", epilog="Example: [bold]longshore auth token ci@example.com --days 90[/]")
def token(
    principal: Annotated[
        str, typer.Argument(metavar="PRINCIPAL", help="Whose it is, as in `auth.roles`.")
    ],
    days: Annotated[
        int | None,
        typer.Option("--days", metavar="N", min=1, max=36500, help="How long. Default: for ever."),
    ] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="Default: cloud-platform. Repeatable."),
    ] = None,
) -> None:
    """Make a token, and the line that makes a service know it.

    The token is shown this once and kept nowhere: the line, which goes into the file
    `auth.tokens_file`, has only a digest of it. A running service takes the line within a second.
    """
    from longshore.api.auth.tokens import line_of, new_token

    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    made = new_token()
    line = line_of(made, principal, expires, scopes or ())
    typer.echo(f"token  {made}\nline   {line}")
