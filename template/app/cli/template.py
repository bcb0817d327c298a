"""Defines the commands that follow the template and write in its style, by the command `parley`."""

from typing import Any

import typer

ANYTHING: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer()


@app.command(context_settings=ANYTHING)
def update(context: typer.Context) -> None:
    """Bring the template's improvements into this project, or switch features; your own changes stay."""
    raise typer.Exit(_parley("update", context.args))


@app.command(context_settings=ANYTHING)
def new(context: typer.Context) -> None:
    """Generate code to start from: `slice ticket title:str 'due:date?'` makes a resource."""
    raise typer.Exit(_parley("new", context.args, as_made=True))


def _parley(command: str, arguments: list[str], *, as_made: bool = False) -> int:
    from app.cli._template import run_parley

    return run_parley(command, *arguments, as_made=as_made)
