"""Generates code in the style of the project, to begin something of your own with."""

import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from parley.errors import ParleyError
from parley.fields import camel, read_fields
from parley.imports import unresolved
from parley.slices import Slice, plural

COMMAND = ("uv", "run", "python", "-m", "app.cli")

app = typer.Typer(name="new", help="Generate code to begin something of your own with.", no_args_is_help=True)


@app.callback()
def new() -> None:
    """Makes Typer treat `slice` as a subcommand while it is the only one."""


@app.command("slice")
def write_slice(
    name: Annotated[str, typer.Argument(help="The name of one, in lower case: note, meeting_note.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME:KIND…]",
            help="Its fields, such as title:str priority:int 'due:date?' 'status:open|closed'. Kinds: str, "
            "text, int, float, bool, date, datetime, uuid, or choices; with ? it may be null.",
        ),
    ] = None,
    several: Annotated[str, typer.Option("--plural", metavar="NAME", help="The plural, where it is not regular.")] = "",
    migrate: Annotated[bool, typer.Option("--migrate", help="Write its migration and apply it, too.")] = False,
) -> None:
    """Writes a resource whose rows belong to users: table, schemas, repository, service, paths and tests.

    Without fields it gets a `title`.
    """
    project = Path.cwd().resolve()
    slug = _slug(project)
    made = Slice(name, several or plural(name), read_fields(fields or ["title:str"], camel(name)))
    made.check_free(project)
    with _all_or_none(project, made):
        for command in ("upgrade", "check") if migrate else ():
            _run(project, "db", command)
        for path, text in made.written(project).items():
            (project / path).write_text(text, encoding="utf-8")
        _check_imports(project, made)
        if migrate:
            _run(project, "db", "revision", f"add {made.words}")
    for path in made.files.values():
        typer.echo(f"Wrote {path}")
    if migrate:
        typer.echo(_run(project, "db", "upgrade"), nl=False)
    _say_what_is_next(made, f"uv run {slug}", is_migrated=migrate)


def _slug(project: Path) -> str:
    """Returns the name of the project's command. Raises ParleyError if the folder is not a project."""
    try:
        described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        described = {}
    if not (project / "app" / "models").is_dir() or "name" not in described.get("project", {}):
        raise ParleyError(f"{project} is not a project of this template: run this in the project's own folder.")
    return described["project"]["name"]


def _check_imports(project: Path, made: Slice) -> None:
    """Raises ParleyError if the new files import what the project's release of the template does not have."""
    for lacking in unresolved(project, made.files.values(), ("app", "tests")):
        raise ParleyError(
            f"{lacking} This project is of another release of the template than this command: update it first, or name "
            "its release, as in `uvx --from git+ADDRESS@VERSION parley new`."
        )


def _run(project: Path, *command: str) -> str:
    """Runs a command of the project and returns its output. Raises ParleyError with the last line of its errors."""
    if not (uv := shutil.which(COMMAND[0])):
        raise ParleyError("uv is not installed, and --migrate runs the project with it: leave --migrate out.")
    done = subprocess.run(
        [uv, *COMMAND[1:], *command], cwd=project, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise ParleyError(f"`{shlex.join(command)}` failed: {said[-1]}")
    return done.stdout.decode("utf-8", "replace")


@contextmanager
def _all_or_none(project: Path, made: Slice) -> Generator[None]:
    try:
        yield
    except BaseException as error:
        for path in made.files.values():
            (project / path).unlink(missing_ok=True)
        if isinstance(error, ParleyError):
            raise ParleyError(f"Nothing was written: {error}") from None
        raise


def _say_what_is_next(made: Slice, command: str, *, is_migrated: bool) -> None:
    typer.echo(
        f"Its owner reaches it at /api/v1/{made.path}; an API key needs the scope `{made.path}`, the tag of its "
        "router, or `read` where it only reads."
    )
    migrations = {
        f'{command} db revision "add {made.words}"': "once its model is as you want it",
        f"{command} db upgrade": "make its table",
    }
    steps = {**({} if is_migrated else migrations), f"uv run pytest {made.files['tests']}": "run its tests"}
    width = max(map(len, steps))
    typer.echo("\n".join(["Next:", *(f"  {step:<{width}}  {why}" for step, why in steps.items())]))
