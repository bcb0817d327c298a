"""What the `doctor` command says about the template that this project was made from."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from app.core.errors import SetupError
from app.core.findings import Off

if TYPE_CHECKING:
    from app.cli._template import Origin, Template


def describe(root: Path, *, anywhere: bool) -> Iterator[str]:
    """Nothing where only what production needs is installed, and nothing of a project without a template.

    The project is rendered anew, which takes seconds, only where `anywhere` asks for it. Raises SetupError when a
    template that was asked for cannot be looked at.
    """
    from app.cli._template import ANSWERS_FILE, called, check_copier, read_origin

    if anywhere:
        check_copier()
    elif not (find_spec("copier") and which("git") and (root / ANSWERS_FILE).is_file()):
        return
    try:
        origin = read_origin(root)
        if anywhere or origin.is_local:
            yield from _compared(root, origin, files=anywhere)
        else:
            yield f"The project was made from {called(origin.version)} of {origin.source}"
            yield Off("Whether the template has a newer version, and which of its files you edited: add --template")
    except SetupError as error:
        if anywhere:
            raise
        yield Off(f"The template: {error}")


def _compared(root: Path, origin: "Origin", *, files: bool) -> Iterator[str]:
    from app.cli._template import opened

    with opened(origin) as template:
        template.commit(origin.version)
        yield f"The project was made from version {template.name(origin.version)} of {origin.source}"
        latest = template.find(None)
        if template.is_older(origin.version, latest):
            yield f"The template has a newer version, {template.name(latest)}: run the `update` command"
        else:
            yield "The template has no newer version"
        if files:
            yield from _edited(root, origin, template)
        else:
            yield Off("Which of the template's files you edited: add --template")


def _edited(root: Path, origin: "Origin", template: "Template") -> Iterator[str]:
    from app.cli._template import edited, names

    rendered = template.render(origin.version, origin.answers)
    different = edited(root, rendered)
    gone = sorted(name for name in names(rendered) if not (root / name).exists())
    yield f"Files that differ from the template's: {', '.join(different) or 'none'}"
    if gone:
        yield f"Files of the template that you deleted: {', '.join(gone)}"
    if not different:
        return
    plain = template.render(origin.version, {**origin.answers, "features": []})
    optional = names(rendered) - names(plain)
    if of_features := [name for name in different if name in optional]:
        yield f"Of those, files that go when their feature is switched off: {', '.join(of_features)}"
