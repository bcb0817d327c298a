"""Compares a project with its template: its version, a newer one, and the files that differ."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from parley.template import Origin, Template, names, opened, read_origin

app = typer.Typer()


@app.command()
def doctor() -> None:
    """Says which version of the template this is, whether there is a newer one, and which of its files you edited."""
    root = Path.cwd().resolve()
    origin = read_origin(root)
    with opened(origin) as template:
        template.commit(origin.version)
        typer.echo(f"The project was made from version {template.name(origin.version)} of {origin.source}.")
        latest = template.find(None)
        if template.is_older(origin.version, latest):
            typer.echo(f"The template has a newer version, {template.name(latest)}: run `{origin.command} update`.")
        else:
            typer.echo("The template has no newer version.")
        for line in _compared(root, origin, template):
            typer.echo(line)


def _compared(root: Path, origin: Origin, template: Template) -> Iterator[str]:
    rendered = template.render(origin.version, origin.answers)
    there = {name for name in names(rendered) if (root / name).is_file()}
    different = {name for name in there if (root / name).read_bytes() != (rendered / name).read_bytes()}
    yield _listed("Files that differ from the template's", different)
    yield _listed("Files of the template that you deleted", names(rendered) - there)
    if different:
        optional = names(rendered) - names(template.render(origin.version, {**origin.answers, "features": []}))
        yield _listed("Of those, files that go when their feature is switched off", optional & different)


def _listed(title: str, found: Iterable[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {name}" for name in sorted(found))]) if found else f"{title}: none."
