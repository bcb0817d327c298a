"""Shows e-mails before anybody gets them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli._settings import load_settings
from app.core.errors import SetupError

if TYPE_CHECKING:
    from app.core.config import Settings
    from app.services.email.templates import EmailContent

_SAMPLE = "sample-token"

app = typer.Typer(name="emails", no_args_is_help=True)


@app.callback()  # with it, `preview` is a command of its own, though it is the only one
def group() -> None:
    """The e-mails that people get."""


@app.command()
def preview(
    name: Annotated[str | None, typer.Argument(help="Which one; every one without it.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the pages are written; below MAILBOX_FOLDER without it.")
    ] = None,
) -> None:
    """Print e-mails with sample values, and write their HTML to files."""
    from app.core.config import ROOT
    from app.services.email.templates import list_templates

    settings, names = load_settings(), list_templates()
    folder = folder or ROOT / settings.mailbox_folder / "preview"
    if name is not None and name not in names:
        raise SetupError(f"There is no e-mail {name}; there are {', '.join(names)}.")
    for each in [name] if name else names:
        content = _rendered(settings, each)
        path = folder / f"{each}.html"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(content.html, encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{path} cannot be written: {error.strerror}.") from None
        typer.echo(f"Subject: {content.subject}\n\n{content.text}\nWrote {path}\n")


def _rendered(settings: "Settings", name: str) -> "EmailContent":
    """Raises SetupError when a template is wrong, with its file and line."""
    from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

    from app.services.email.templates import preview_email

    try:
        return preview_email(
            name,
            app_name=settings.app_name,
            app_url=settings.app_url,
            link=f"{settings.app_url}/page#token={_SAMPLE}",
            token=_SAMPLE,
            minutes=settings.email_token_expire_minutes,
            notice="The password of your account was changed.",
        )
    except TemplateSyntaxError as error:
        raise SetupError(f"{error.filename or error.name}, line {error.lineno}: {error.message}.") from None
    except TemplateNotFound as error:
        raise SetupError(f"The e-mail {name} has no file {error.name}.") from None
    except TemplateError as error:
        raise SetupError(f"The e-mail {name} cannot be rendered: {error}.") from None
