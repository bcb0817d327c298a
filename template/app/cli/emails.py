"""Shows e-mails before anybody gets them."""

from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli._settings import load_settings
from app.core.errors import SetupError
from app.core.files import write_file

if TYPE_CHECKING:
    from app.core.config import Settings
    from app.services.email.templates import EmailContent

app = typer.Typer(name="emails", no_args_is_help=True)


@app.callback()  # with it, `preview` is a command of its own, though it is the only one
def group() -> None:
    """The e-mails that people get."""


@app.command()
def preview(
    name: Annotated[str | None, typer.Argument(help="The e-mail to show; all of them if left out.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the HTML pages are written; MAILBOX_FOLDER/preview if left out.")
    ] = None,
) -> None:
    """Print e-mails with sample values, and write their HTML pages to files."""
    from app.core.config import ROOT
    from app.services.email.messages import PREVIEWS

    settings = load_settings()
    folder = folder or ROOT / settings.mailbox_folder / "preview"
    if name is not None and name not in PREVIEWS:
        raise SetupError(f"There is no e-mail {name}; there are {', '.join(sorted(PREVIEWS))}.")
    for each in [name] if name else sorted(PREVIEWS):
        content = _rendered(settings, each)
        path = folder / f"{each}.html"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_file(path, content.html.encode())
        except OSError as error:
            raise SetupError(f"{path} cannot be written: {error.strerror}.") from None
        typer.echo(f"Subject: {content.subject}\n\n{content.text}\nWrote {path}\n")


def _rendered(settings: "Settings", name: str) -> "EmailContent":
    """Raises SetupError when a template is wrong, with its file and line where they are known."""
    from jinja2 import TemplateNotFound, TemplateSyntaxError

    from app.services.email.messages import PREVIEWS
    from app.services.email.templates import FOLDER

    try:
        return PREVIEWS[name](settings)
    # Broad, since an expression in a template may raise anything.
    except Exception as error:
        frames = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).parent == FOLDER]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else f"The e-mail {name}"
        if isinstance(error, TemplateSyntaxError):
            where = f"{error.filename}, line {error.lineno}"
        reason = f"there is no template {error.name}" if isinstance(error, TemplateNotFound) else str(error)
        raise SetupError(f"{where}: {reason.rstrip('.')}.") from None
