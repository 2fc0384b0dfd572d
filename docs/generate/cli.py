"""docs/reference/cli.md, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer.main
from docs.generate.markdown import page as markdown
from docs.generate.markdown import sentence

from homeport.cli import main

INTRO = """Every command, with its arguments and options. `homeport COMMAND --help` prints the same.

Data goes to standard output, talk to standard error. Commands with `--json` print JSON for programs.
The exit codes are on the page of [errors](errors.md)."""


def page() -> str:
    """The page."""
    root = typer.main.get_command(main.command_line([]))
    return markdown("Commands", INTRO, *_commands(root, "homeport", 2))


def _commands(command: Any, name: str, level: int) -> Iterator[str]:
    for word, child in sorted(getattr(command, "commands", {}).items()):
        if not child.hidden:
            yield _command(child, f"{name} {word}", level)
            yield from _commands(child, f"{name} {word}", level + 1)


def _command(command: Any, name: str, level: int) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    anchor = name.replace(" ", "-")
    words = ["COMMAND"] if hasattr(command, "commands") else [_metavar(each) for each in arguments]
    if options:
        words = ["[OPTIONS]", *words]
    lines = [f"{'#' * level} {name} {{: #{anchor} }}", "", sentence(command.help or ""), ""]
    lines += ["```text", " ".join([name, *words]), "```", ""]
    for argument in arguments:
        lines += [f"`{_metavar(argument)}`", f":   {_help(argument)}", ""]
    for option in options:
        if not option.hidden:
            lines += [_option(option, anchor), f":   {_help(option)}", ""]
    return "\n".join(lines)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _option(option: Any, anchor: str) -> str:
    longest = max(option.opts, key=len)
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" `{_metavar(option)}`"
    return f'<span id="{anchor}{longest}"></span>{names}{value}'


def _help(parameter: Any) -> str:
    text = sentence(parameter.help or "")
    is_flag = getattr(parameter, "is_flag", True)
    if not is_flag and parameter.default not in (None, "") and parameter.show_default:
        text += f" Default: `{parameter.default}`."
    return text
