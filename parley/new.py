"""Write the beginning of something of your own, in the style of the project."""

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

app = typer.Typer(name="new", help="Write the beginning of something of your own.", no_args_is_help=True)


@app.callback()
def new() -> None:
    """Keeps `slice` a word of the command while it is the only one."""


@app.command("slice")
def write_slice(
    name: Annotated[str, typer.Argument(help="What one of them is called, in lower case: note, meeting_note.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME:KIND…]",
            help="Its fields, such as title:str priority:int due:date? 'status:open|closed'. Kinds: str, "
            "text, int, float, bool, date, datetime, uuid, or choices; with ? it may be null.",
        ),
    ] = None,
    several: Annotated[
        str, typer.Option("--plural", metavar="NAME", help="What several are called, where that is not regular.")
    ] = "",
    migrate: Annotated[bool, typer.Option("--migrate", help="Write its migration and apply it, too.")] = False,
) -> None:
    """Write a resource that belongs to its owner: table, schemas, repository, service, paths and tests.

    Without fields it has a title.
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
    """Returns the name of the project's command. Raises ParleyError where there is no project."""
    try:
        described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        described = {}
    if not (project / "app" / "models").is_dir() or "name" not in described.get("project", {}):
        raise ParleyError(f"{project} is no project of the template: run this in the project's own folder.")
    return described["project"]["name"]


def _check_imports(project: Path, made: Slice) -> None:
    """Raises ParleyError where the project is of a release whose modules are elsewhere."""
    for lacking in unresolved(project, made.files.values(), ("app", "tests")):
        raise ParleyError(
            f"{lacking} This project is of another release of the template than this command: update it first, or name "
            "its release, as in `uvx --from git+ADDRESS@VERSION parley new`."
        )


def _run(project: Path, *command: str) -> str:
    """Returns what a command of the project said. Raises ParleyError with what it had to object."""
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
    steps = {**({} if is_migrated else migrations), f"uv run pytest {made.files['tests']}": "see that all is well"}
    width = max(map(len, steps))
    typer.echo("\n".join(["Next:", *(f"  {step:<{width}}  {why}" for step, why in steps.items())]))
