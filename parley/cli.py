"""Defines the command line: `uvx --from TEMPLATE parley COMMAND`, in the folder of a project."""

import locale
import subprocess
import sys
from io import TextIOWrapper

import typer

from parley import doctor, new, update
from parley.errors import ParleyError
from parley.git import GitError


def main() -> None:
    """Runs a command. An error that the user can mend is one sentence on standard error, with exit status 1."""
    if locale.getencoding().lower() not in {"utf-8", "utf8"} and not sys.flags.utf8_mode:
        # Copier decodes git's output by the locale, although it is always UTF-8: start again in Python's UTF-8 mode.
        sys.exit(subprocess.call([sys.executable, "-X", "utf8", "-m", "parley", *sys.argv[1:]]))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may be in any encoding
            stream.reconfigure(errors="replace")
    commands = typer.Typer(
        name="parley", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    for module in (update, new, doctor):
        commands.add_typer(module.app)
    try:
        sys.exit(commands(standalone_mode=False))
    except ParleyError as error:
        _fail(str(error))
    except GitError as error:
        _fail(f"Git failed: {error}.")
    except OSError as error:
        _fail(f"{error.filename or 'A file'} cannot be used ({error.strerror or error}).")
    except typer.TyperException as error:
        _fail(error.format_message())
    except typer.Abort:
        sys.exit(130)


def _fail(sentence: str) -> None:
    typer.echo(sentence, err=True)
    sys.exit(1)
