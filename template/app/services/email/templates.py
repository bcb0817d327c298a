"""Renders e-mails from the files in `templates/`: for each kind a subject, a text and an HTML page."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class EmailContent:
    """Holds what a recipient reads, without addresses."""

    subject: str
    text: str
    html: str


_environment = Environment(
    loader=FileSystemLoader(FOLDER, encoding="utf-8"),
    autoescape=select_autoescape(["html"], default=False),
    undefined=StrictUndefined,
)


def render_email(name: str, **values: object) -> EmailContent:
    """Renders `NAME.subject.txt`, `NAME.txt` and `NAME.html`. Raises jinja2.TemplateError, and what a template raises.

    An error's last frame names the template and the line. A missing value is an error, too.
    """
    subject, text, html = (
        _environment.get_template(f"{name}{suffix}").render(values) for suffix in (".subject.txt", ".txt", ".html")
    )
    return EmailContent(" ".join(subject.split()), f"{text}\n", html)
