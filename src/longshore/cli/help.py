"""The help of every command: whole names of flags, whatever the width, and an example.

Typer's own help cuts the names of long flags and tells of a ``<bool>`` where a flag takes no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import getdoc
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_COMMANDS, _ARGUMENTS, _OPTIONS = "Commands", "Arguments", "Options"


class Command(TyperCommand):
    """A command whose help is written by ``write_help``."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to the standard output."""
        write_help(self, ctx)


class Group(TyperGroup):
    """A group of commands whose help is written by ``write_help``."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to the standard output."""
        write_help(self, ctx)


def use_everywhere(commands: typer.Typer) -> None:
    """Give every command and group below ``commands`` this help, made of its docstring."""
    commands.info.cls = Group
    for command in commands.registered_commands:
        command.cls = Command
        command.help = getdoc(command.callback)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            use_everywhere(group.typer_instance)


def write_help(command: Any, ctx: Any) -> None:
    """Write usage, what the command does, a panel for each kind of parameter, and the example."""
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from longshore.cli.output import console

    def write(text: RenderableType) -> None:
        console().print(Padding(text, (0, 1, 1, 1)))

    usage = " ".join(("Usage:", ctx.command_path, *_usage(command)))
    write(Text(usage, style="bold"))
    for paragraph in (command.help or "").split("\n\n"):
        write(_prose(paragraph))
    for title, entries in _panels(command, ctx).items():
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for name, text in entries:
            table.add_row(name, text)
        console().print(Panel(table, title=title, title_align="left", border_style="dim"))
    console().print(Padding(Text.from_markup(command.epilog or ""), 1))


def _usage(command: Any) -> Iterator[str]:
    yield "[OPTIONS]"
    if isinstance(command, TyperGroup):
        yield "COMMAND …"
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            metavar = str(parameter.metavar)
            # A metavar such as BUCKET[/PREFIX] has brackets of its own.
            yield metavar if parameter.required else f"[{metavar}]"


def _panels(command: Any, ctx: Any) -> dict[str, list[tuple[Text, Text]]]:
    """Name and text of each entry, by the title of its panel; what all commands have comes last."""
    from rich.text import Text

    panels: dict[str, list[tuple[Text, Text]]] = {}
    if isinstance(command, TyperGroup):
        panels[_COMMANDS] = [
            (Text(name, "bold cyan"), _prose((inner.help or "").split("\n\n")[0]))
            for name, inner in command.commands.items()
        ]
    options: list[tuple[Text, Text]] = []
    for parameter in command.get_params(ctx):
        if isinstance(parameter, TyperArgument):
            name = Text(str(parameter.metavar), "bold yellow")
            panels.setdefault(_ARGUMENTS, []).append((name, _described(parameter)))
        else:
            entry = (_flag(parameter), _described(parameter))
            panel = parameter.rich_help_panel
            (options if panel is None else panels.setdefault(panel, [])).append(entry)
    return {**panels, _OPTIONS: options}


def _flag(option: Any) -> Text:
    """``--[no-]versioning``, ``-q, --quiet`` or ``--server URL``; other spellings follow below."""
    from rich.text import Text

    names: Iterable[str] = sorted(option.opts, key=len)
    separator = ", "
    if option.secondary_opts:
        names, separator = (f"--[no-]{name[2:]}" for name in option.opts), "\n"
    flag = Text(separator.join(names), "bold cyan")
    return flag.append(f" {option.metavar}", "bold yellow") if option.metavar else flag


def _described(parameter: Any) -> Text:
    """The help of a parameter, and where its value comes from if it is not given."""
    text = _prose(parameter.help or "")
    sources = [f"${parameter.envvar}"] if parameter.envvar else []
    if isinstance(parameter.default, str) and parameter.default:
        sources.append(parameter.default)
    if sources:
        text.append(f" Default: {', else '.join(sources)}.", "dim")
    return text


def _prose(text: str) -> Text:
    """A paragraph to be wrapped anew, with flags made visible."""
    from rich.text import Text

    prose = Text(" ".join(text.split()))
    prose.highlight_regex(r"(?<![\w-])--[a-z][\w-]*", "cyan")
    return prose
