"""Writes the manual's page about settings from a rendered project: `python scripts/configuration.py PROJECT`.

The project needs every feature and provider, and its packages must be installed. The page goes to standard output.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

HEAD = """# Configuration

A setting is an environment variable or a line of `.env`; environment variables take precedence. `init` copies
`.env.example` to `.env`, in which each setting is explained and commented out. If a setting is invalid, the application
does not start and prints a sentence that says why; `doctor` prints the same sentence. An empty setting has its default.

`scripts/configuration.py` writes this page from the settings classes of a project with every feature and provider.
Defaults that come from your answers to the template's questions (`APP_NAME`, `APP_DESCRIPTION`, `DATABASE_URL`) are in
`app/defaults.env`.
"""
TABLE = "| setting | value | default | meaning |\n|---|---|---|---|"
SECRET = re.compile(r"_(API_KEY|ACCESS_KEY|TOKEN|TOKEN_BEDROCK|PASSWORD)\Z")
"""Matches the ends of the names of secrets without a field, which only a provider's client or Compose reads."""
WORDS = {"bool": "true or false", "SecretStr": "secret", "URL": "URL", "str": "text"}
NUMBERS = {"int": "integer", "float": "number", "Decimal": "number"}


@dataclass(frozen=True)
class Line:
    """Holds a setting of `.env.example`, with the comment right above it."""

    name: str
    default: str
    meaning: str


def sections(example: str) -> Iterator[tuple[str, list[Line]]]:
    """Yields the titles, each with its settings. A comment belongs to the setting right below it, and no other."""
    title, lines, comment = "Secrets", list[Line](), list[str]()
    for text in example.splitlines()[2:]:
        if found := re.match(r"# --- (.*)", text):
            yield title, lines
            title, lines, comment = found[1], [], []
        elif found := re.match(r"#?([A-Z0-9_]+)=(.*)", text):
            lines.append(Line(found[1], found[2].strip('"'), " ".join(comment)))
            comment = []
        else:
            comment = [*comment, text[2:]] if text.startswith("# ") else []
    # The last section is left out: it is for the settings that users add themselves.


def fields(project: Path) -> dict[str, Any]:
    """Returns the fields of the settings of the base and of every feature, by the name of the variable."""
    sys.path.insert(0, str(project))
    for module in walk_packages(import_module("app").__path__, "app."):
        if module.name not in {"app.asgi", "app.cli.__main__"}:
            import_module(module.name)
    kinds = import_module("pydantic_settings").BaseSettings.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__.startswith("app.")]
    return {name.upper(): field for kind in ours for name, field in kind.model_fields.items()}


def value(field: Any) -> str:
    """Describes in words what values a setting may have."""
    kind, told = _plain(field.annotation, list(field.metadata))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is list:
        return "list, separated by commas"
    if kind.__name__ in NUMBERS:
        return f"{NUMBERS[kind.__name__]}{_limits(told)}"
    return WORDS[kind.__name__]


def _plain(kind: Any, told: list[Any]) -> tuple[Any, list[Any]]:
    """Returns a type without `None` and `Annotated`, and all of its metadata."""
    if get_origin(kind) in {Union, UnionType}:
        [kind] = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        return _plain(kind, told + [part for item in more for part in getattr(item, "metadata", [item])])
    return kind, told


def _limits(told: list[Any]) -> str:
    limits = {name: getattr(item, name) for item in told for name in ("ge", "gt", "le") if hasattr(item, name)}
    low = f"from {limits['ge']:,}" if "ge" in limits else f"above {limits['gt']:,}"
    return f", {low} to {limits['le']:,}"


def page(project: Path) -> str:
    known = fields(project)
    parts = [HEAD]
    for title, lines in sections((project / ".env.example").read_text(encoding="utf-8")):
        rows = [row(line, known.get(line.name)) for line in lines]
        heading, _, more = title.partition(": ")
        note = [f"{more[0].upper()}{more[1:]}.\n"] if more else []
        parts.append("\n".join([f"## {heading}\n", *note, TABLE, *rows, ""]))
    return "\n".join(parts)


def row(line: Line, field: Any) -> str:
    """Returns a setting's row of the table. Raises ValueError where no comment explains the setting."""
    if not line.meaning:
        raise ValueError(f"{line.name} has no comment of its own in .env.example.")
    shown = line.default if field is None or not field.is_required() else ""
    told = value(field) if field is not None else "secret" if SECRET.search(line.name) else "text"
    default = f"`{shown}`" if shown else "none"
    return f"| `{line.name}` | {told} | {default} | {line.meaning} |"


if __name__ == "__main__":
    print(page(Path(sys.argv[1]).resolve()), end="")
