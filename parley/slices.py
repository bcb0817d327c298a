"""Writes the files of a slice: a resource whose rows belong to users, from its table to its tests."""

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from parley.errors import ParleyError
from parley.fields import Field, camel, check_word
from parley.tidy import Tidy

FILES = {
    "model": "app/models/{thing}.py",
    "schema": "app/schemas/{thing}.py",
    "repository": "app/repositories/{thing}.py",
    "service": "app/services/{things}.py",
    "router": "app/api/v1/{things}.py",
    "tests": "tests/integration/test_{things}.py",
    "owned": "tests/owned/{things}.py",
}
"""Lists the files with imported ones first, so that a server that reloads meanwhile still finds all imports."""

SCOPES = {"info", "read"}
"""Lists the scopes of API keys besides the tags of paths."""

PARTS = ("Create", "Read", "Repository", "Service", "Update")
_TABLE = re.compile(r"""(?m)^\s+__tablename__ = ["'](\w+)["']""")
_CLASS = re.compile(r"(?<![\w>])[A-Z]\w*")
_OF_JINJA = re.compile(r"<<.*?>>|<%.*?%>")
_TEXTS = Path(__file__).parent / "slice"
_TEXT = Environment(
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    loader=FileSystemLoader(_TEXTS),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


@dataclass(frozen=True)
class Slice:
    """Describes a slice: its singular and its plural in lower case, and its fields."""

    thing: str
    things: str
    fields: list[Field]

    def __post_init__(self) -> None:
        """Raises ParleyError if a name would clash with another."""
        check_word(self.thing)
        check_word(self.things, " It is the plural, which --plural changes.")
        if self.thing == self.things:
            raise ParleyError("The singular and the plural must differ: choose another --plural.")
        if self.path in SCOPES:
            raise ParleyError(f"{self.path} is a scope of API keys already: choose another --plural.")
        enumerations = [field.kind.python for field in self.fields if field.choices]
        made = [*(f"{camel(self.thing)}{part}" for part in ("", *PARTS)), camel(self.things), *enumerations]
        for name in made:
            if name in _classes() or keyword.iskeyword(name) or made.count(name) > 1:
                raise ParleyError(f"The name {name} is taken already: choose another name.")

    @property
    def path(self) -> str:
        return self.things.replace("_", "-")

    @property
    def words(self) -> str:
        return self.things.replace("_", " ")

    @property
    def files(self) -> dict[str, str]:
        """Returns the path of each of its files, by kind."""
        return {kind: path.format(thing=self.thing, things=self.things) for kind, path in FILES.items()}

    def check_free(self, project: Path) -> None:
        """Raises ParleyError if the project has a file or a table of this name."""
        for path in map(project.joinpath, self.files.values()):
            if path.exists() or path.with_suffix("").exists():
                raise ParleyError(f"{path.relative_to(project)} is there already: choose another name.")
        for model in sorted((project / "app" / "models").rglob("*.py")):
            if self.things in _TABLE.findall(model.read_text(encoding="utf-8")):
                raise ParleyError(f"There is a table {self.things} already: choose another name, or another --plural.")

    def written(self, project: Path) -> dict[str, str]:
        """Returns the text of each file, by its path, in the style that the project's pyproject.toml asks for."""
        tidy = Tidy(project, ("app", "tests"), rules="F401,I")
        return {path: tidy.text(self._text(kind), path) for kind, path in self.files.items()}

    def _text(self, kind: str) -> str:
        return _TEXT.get_template(f"{kind}.txt").render(
            thing=self.thing,
            things=self.things,
            Thing=camel(self.thing),
            Things=camel(self.things),
            path=self.path,
            words=self.words,
            fields=self.fields,
            limits={field.kind.limited for field in self.fields},
            first=_literal({field.name: field.kind.first for field in self.fields}),
            second=_literal({field.name: field.kind.second for field in self.fields}),
            lacking=_literal({field.name: "None" for field in self.fields if field.is_optional}),
            required=[field.name for field in self.fields if not field.is_optional],
        )


def _classes() -> set[str]:
    """Names the classes that the templates use, but for those that are named after the slice."""
    texts = (_OF_JINJA.sub(">", path.read_text(encoding="utf-8")) for path in _TEXTS.iterdir())
    return {name for text in texts for name in _CLASS.findall(text)}


def _literal(values: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}"


def plural(name: str) -> str:
    """Returns the regular plural of a name. Raises ParleyError for a name that looks like a plural."""
    if re.search(r"[^siu]s$", name):
        raise ParleyError(f"{name!r} looks like a plural: give the singular, or the plural of this name with --plural.")
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(s|x|z|ch|sh)$", name) else f"{name}s"
