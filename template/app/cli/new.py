"""Write the beginning of something of your own, in the style of this project."""

import keyword
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli._settings import configured
from app.core.errors import SetupError

if TYPE_CHECKING:
    from app.core.config import Settings

NAME_CHARACTERS = 30
TEXTS = Path(__file__).parent / "_slice"
FILES = {
    "model": "app/models/{thing}.py",
    "schema": "app/schemas/{thing}.py",
    "repository": "app/repositories/{thing}.py",
    "service": "app/services/{things}.py",
    "router": "app/api/v1/{things}.py",
    "owned": "tests/owned/{things}.py",
    "tests": "tests/integration/test_{things}.py",
}

PARTS = ("Create", "Read", "Repository", "Service", "Update")
"""Of the names of its classes."""

_CLASS = re.compile(r"(?<![\w}])[A-Z]\w*")
_WORD = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

app = typer.Typer(name="new", help="Write the beginning of something of your own.", no_args_is_help=True)


@app.command("slice")
def write_slice(
    name: Annotated[str, typer.Argument(help="What one of them is called, in lower case: note, meeting_note.")],
    plural: Annotated[str, typer.Option(help="What several are called, where that is not regular.")] = "",
) -> None:
    """Write a resource that belongs to its owner: table, migration, schemas, repository, service, paths and tests."""
    from app.core.config import ROOT

    settings = configured()
    words = _words(name, plural or _plural(name))
    paths = {kind: ROOT / path.format(**words) for kind, path in FILES.items()}
    _check_free(words, list(paths.values()))
    with _scratch(settings) as scratch, _all_or_none(list(paths.values())):
        for kind, path in paths.items():
            text = Template((TEXTS / f"{kind}.txt").read_text(encoding="utf-8")).substitute(words)
            path.write_text(text, encoding="utf-8")
        _tidy(list(paths.values()))
        migration = _migrate(scratch, words)
    for path in (*paths.values(), migration):
        typer.echo(f"Wrote {path.relative_to(ROOT)}")
    typer.echo(f"Run the `db upgrade` command, then: uv run pytest {paths['tests'].relative_to(ROOT)}")


def _words(name: str, plural: str) -> dict[str, str]:
    """As they stand in the texts. Raises SetupError."""
    for word in (name, plural):
        _check_word(word)
    if name == plural:
        raise SetupError("One and several need different names: choose another --plural.")
    _check_classes(_camel(name), _camel(plural))
    return {
        "thing": name,
        "things": plural,
        "Thing": _camel(name),
        "Things": _camel(plural),
        "path": plural.replace("_", "-"),
        "words": plural.replace("_", " "),
    }


def _check_word(word: str) -> None:
    if keyword.iskeyword(word):
        raise SetupError(f"{word!r} is a word of Python: choose another name, or another --plural.")
    if not _WORD.fullmatch(word):
        raise SetupError(f"{word!r} cannot be a name here: write lower-case words with _ between them: meeting_note.")
    if len(word) > NAME_CHARACTERS:
        raise SetupError(f"{word!r} is too long: a name has at most {NAME_CHARACTERS} characters.")


def _check_classes(thing: str, things: str) -> None:
    """Raises SetupError where a class would be called like one that the texts use."""
    used = {name for text in TEXTS.glob("*.txt") for name in _CLASS.findall(text.read_text(encoding="utf-8"))}
    for made in (thing, things, *(f"{thing}{part}" for part in PARTS)):
        if made in used or keyword.iskeyword(made):
            raise SetupError(f"There is something called {made} already: choose another name, or another --plural.")


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def _plural(name: str) -> str:
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(s|x|z|ch|sh)$", name) else f"{name}s"


def _check_free(words: dict[str, str], paths: list[Path]) -> None:
    """Raises SetupError."""
    import_module("app.models")
    from app.models.base import Base

    if taken := [path for path in paths if path.exists() or path.with_suffix("").exists()]:
        raise SetupError(f"{taken[0]} is there already: choose another name, or another --plural.")
    if words["things"] in Base.metadata.tables:
        raise SetupError(f"There is a table {words['things']} already: choose another name, or another --plural.")


@contextmanager
def _scratch(settings: "Settings") -> Generator["Settings"]:
    """A database that has what the migrations make, and no more. Raises SetupError when models have more."""
    from contextlib import redirect_stdout
    from io import StringIO

    from sqlalchemy import make_url

    from app.cli.db import bring_up_to_date, check_models

    with TemporaryDirectory() as folder:
        url = make_url(f"sqlite+aiosqlite:///{folder}/scratch.db")
        scratch = settings.model_copy(update={"database_url": url})
        with redirect_stdout(StringIO()):
            bring_up_to_date(scratch)
        check_models(scratch)
        yield scratch


@contextmanager
def _all_or_none(paths: list[Path]) -> Generator[None]:
    try:
        yield
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def _tidy(paths: list[Path]) -> None:
    """The order of imports and the length of lines depend on the names."""
    if find_spec("ruff") is None:  # where only what production needs is installed
        return
    for command in (["check", "--select=I", "--fix"], ["format"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, "--quiet", *map(str, paths)], check=True)  # noqa: S603


def _migrate(settings: "Settings", words: dict[str, str]) -> Path:
    from app.cli.db import write_revision

    import_module(f"app.models.{words['thing']}")
    migration = write_revision(settings, f"add {words['words']}")
    if migration is None:
        raise SetupError(f"app/models/{words['thing']}.py was written, but brought no table; nothing was kept.")
    return migration
