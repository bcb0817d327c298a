"""Renders e-mails from the files in `templates/`: for each kind a subject, a text and an HTML page."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import DebugUndefined, Environment, FileSystemLoader, StrictUndefined, select_autoescape

_FOLDER = Path(__file__).parent / "templates"
_SUBJECT = ".subject.txt"


@dataclass(frozen=True, slots=True)
class EmailContent:
    """Holds what a recipient reads, without addresses."""

    subject: str
    text: str
    html: str


_environment = Environment(
    loader=FileSystemLoader(_FOLDER, encoding="utf-8"),
    autoescape=select_autoescape(["html"], default=False),
    undefined=StrictUndefined,
)
_preview = _environment.overlay(undefined=DebugUndefined)


def list_templates() -> list[str]:
    """Lists the kinds of e-mail: every NAME with a file `NAME.subject.txt`."""
    return sorted(path.name.removesuffix(_SUBJECT) for path in _FOLDER.glob(f"*{_SUBJECT}"))


def render_email(name: str, **values: object) -> EmailContent:
    """Renders one kind of e-mail. Raises jinja2.TemplateError when a file or a value is missing or wrong."""
    return _render(_environment, name, values)


def preview_email(name: str, **values: object) -> EmailContent:
    """Renders one kind of e-mail, with the names of missing values in braces. Raises jinja2.TemplateError."""
    return _render(_preview, name, values)


def _render(environment: Environment, name: str, values: dict[str, object]) -> EmailContent:
    subject, text, html = (
        environment.get_template(f"{name}{suffix}").render(values) for suffix in (_SUBJECT, ".txt", ".html")
    )
    return EmailContent(subject.strip(), f"{text}\n", html)
