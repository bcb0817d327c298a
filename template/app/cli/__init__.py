"""Builds the project's command from the `app` of every module beside this one: add a file, or delete one."""

import errno
import re
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import typer

from app.cli import _console
from app.core.display import displayable
from app.core.errors import AppError, SetupError


def main() -> None:
    """Runs a command. An error that a person can mend is one sentence on standard error, and exit status 1."""
    _console.prepare()
    try:
        status = _commands()(standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
        sys.exit(status)
    except (SetupError, AppError) as error:
        _fail(str(error))
    except typer.TyperException as error:
        _fail(error.format_message())
    except typer.Abort:
        sys.exit(130)
    except UnicodeEncodeError:
        _fail("Arguments and input must be valid UTF-8.")
    except SyntaxError as error:
        _fail(_of_a_conflict(error))
    except BrokenPipeError:  # nobody reads any more, as after `| head`
        _console.abandon_output()
        sys.exit(1)
    except OSError as error:
        _fail(_of_the_system(error))
    except Exception as error:
        _fail(_of_the_database(error))


def _of_a_conflict(error: SyntaxError) -> str:
    """Describes a conflict that an update or a merge left in a module. Raises any other error again."""
    if not re.match(r"(<{7}|={7}|>{7})(\s|\Z)", error.text or ""):
        raise error
    return f"A merge conflict is left in {error.filename}, line {error.lineno}: resolve it first."


def _of_the_system(error: OSError) -> str:
    """Describes a file that cannot be used, or a full disk. Raises any other error again."""
    if error.filename is None and error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}:
        raise error
    if error.filename is None:
        _console.abandon_output()
    return f"{error.filename or 'The output'} cannot be {'used' if error.filename else 'written'} ({error.strerror})."


def _of_the_database(error: Exception) -> str:
    """Describes an error of the database in a sentence. Raises any other error again."""
    from sqlalchemy.exc import DBAPIError

    if not isinstance(error, DBAPIError):
        raise error
    return f"The database failed: {str(error.orig).splitlines()[0].rstrip('.')}."


def _commands() -> typer.Typer:
    commands = typer.Typer(
        no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    for module in iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            group: typer.Typer = import_module(f"{__name__}.{module.name}").app
            commands.add_typer(group)
    return commands


def _fail(sentence: str) -> None:
    typer.echo(displayable(sentence), err=True)
    sys.exit(1)
