"""Reads the questions of copier.yml: options, their values, and which of them a validator refuses."""

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, UndefinedError
from jinja2.loaders import FileSystemLoader
from jinja2.sandbox import SandboxedEnvironment

ROOT = Path(__file__).parents[1]

Value = str | bool
Row = dict[str, Value]
"""Maps options to what is chosen: a question with one answer is an option, and so is each choice of one with many."""
Answers = dict[str, Any]


class Questions:
    """Reads the questions of copier.yml, as far as the matrix needs to know them."""

    def __init__(self, folder: Path) -> None:
        document = yaml.safe_load((folder / "copier.yml").read_text(encoding="utf-8"))
        self.asked: dict[str, dict[str, Any]] = {k: v for k, v in document.items() if not k.startswith("_")}
        self.settings: dict[str, Any] = {k: v for k, v in document.items() if k.startswith("_")}
        jinja = SandboxedEnvironment(
            loader=FileSystemLoader(folder),
            extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._compile = cache(jinja.from_string)

    @cached_property
    def options(self) -> dict[str, list[Value]]:
        """Maps every option to its values, the default first."""
        return {name: values for question in self.asked for name, values in self._options(question)}

    @cached_property
    def texts(self) -> list[str]:
        return [
            name for name, question in self.asked.items() if question["type"] == "str" and "choices" not in question
        ]

    def choices(self, name: str) -> list[str]:
        return [value for value, _ in self._choices(name)]

    def many(self, name: str) -> bool:
        return self.asked[name].get("multiselect", False)

    def default(self, name: str) -> Any:
        """Returns the default answer with the quick setup."""
        default = self.asked[name]["default"]
        if not isinstance(default, str) or "{" not in default:
            return default
        return yaml.safe_load(self._compile(default).render(setup="quick"))

    def row(self, answers: Mapping[str, Any]) -> Row:
        """Returns the options that these answers choose; those of the questions left out take their defaults."""
        row: Row = {}
        for name in self.asked:
            if name not in self.texts:
                answer = answers.get(name, self.default(name))
                row |= {f"{name}: {c}": c in answer for c in self.choices(name)} if self.many(name) else {name: answer}
        return row

    def answers(self, row: Row) -> Answers:
        """Returns the answers to the questions whose options are all in the row."""
        found: Answers = {}
        for name in self.asked:
            of_it = {f"{name}: {choice}": choice for choice in self.choices(name)} if self.many(name) else {name: name}
            if of_it.keys() <= row.keys() and name not in self.texts:
                found[name] = [c for option, c in of_it.items() if row[option]] if self.many(name) else row[name]
        return found

    def refusal(self, row: Row) -> str:
        """Returns the sentence with which a validator refuses these choices; empty while none does."""
        context = self.answers(row)
        for name, answer in list(context.items()):
            for validator in self._validators(name, answer):
                try:
                    sentence = self._compile(validator).render(context).strip()
                except UndefinedError:
                    continue  # the validator reads an answer that is not in the row
                if sentence:
                    return sentence
        return ""

    def _options(self, name: str) -> Iterator[tuple[str, list[Value]]]:
        question = self.asked[name]
        if "when" in question:
            raise ValueError(f"{name}: use `ask`, since Copier drops the answer of a question with `when`")
        if name in self.texts:
            return
        if self.many(name):
            for choice in self.choices(name):
                chosen = choice in self.default(name)
                yield f"{name}: {choice}", [chosen, not chosen]
        elif question["type"] == "bool" or "choices" in question:
            values = [False, True] if question["type"] == "bool" else self.choices(name)
            yield name, sorted(values, key=lambda value: value != self.default(name))
        else:
            raise ValueError(f"{name}: the matrix knows questions with choices, of yes and no, and for a text")

    def _choices(self, name: str) -> list[tuple[str, str]]:
        """Returns each value, and the validator that it alone may have."""
        found = self.asked[name].get("choices", [])
        values = found.values() if isinstance(found, dict) else found
        return [(v["value"], v.get("validator", "")) if isinstance(v, dict) else (v, "") for v in values]

    def _validators(self, name: str, answer: Any) -> list[str]:
        chosen = answer if self.many(name) else [answer]
        return [
            self.asked[name].get("validator", ""),
            *(rule for value, rule in self._choices(name) if value in chosen),
        ]
