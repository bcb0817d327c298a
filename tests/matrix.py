"""Which projects prove the template: together they hold every pair of answers that go together.

Everything comes from copier.yml: a new question or value is in the matrix without a change here.
"""

import json
import random
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, UndefinedError
from jinja2.loaders import FileSystemLoader
from jinja2.sandbox import SandboxedEnvironment
from texts import ACCEPTED

ROOT = Path(__file__).parents[1]
CODE = {"features", "ai_providers", "database"}
"""The questions with choices that decide which code is rendered. Few combinations of these are in the matrix, because
each costs a run of its own suite; the other answers are spread over them."""

Value = str | bool
Row = dict[str, Value]
"""What is chosen of each option. A question with one answer is an option; each choice of one with many is an option."""
Pair = frozenset[tuple[str, Value]]
Answers = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    name: str
    answers: Answers
    own: bool = False
    """Whether it is proven in an environment of its own, into which only what it names is installed: those that are
    special, and one for each version of Python."""

    @property
    def python(self) -> str:
        return self.answers["python_version"]


class Questions:
    """What copier.yml asks, as far as the matrix needs to know it."""

    def __init__(self, folder: Path) -> None:
        document = yaml.safe_load((folder / "copier.yml").read_text(encoding="utf-8"))
        self.asked: dict[str, dict[str, Any]] = {k: v for k, v in document.items() if not k.startswith("_")}
        self.settings: dict[str, Any] = {k: v for k, v in document.items() if k.startswith("_")}
        self._jinja = SandboxedEnvironment(
            loader=FileSystemLoader(folder),
            extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )

    @cached_property
    def options(self) -> dict[str, list[Value]]:
        """Every option and its values, the default first."""
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

    def row(self, answers: Mapping[str, Any]) -> Row:
        """The options that these answers choose; those of the questions left out take their defaults."""
        row: Row = {}
        for name, question in self.asked.items():
            if name not in self.texts:
                answer = answers.get(name, question["default"])
                row |= {f"{name}: {c}": c in answer for c in self.choices(name)} if self.many(name) else {name: answer}
        return row

    def answers(self, row: Row) -> Answers:
        """Of the questions whose options are all in the row."""
        found: Answers = {}
        for name in self.asked:
            of_it = {f"{name}: {choice}": choice for choice in self.choices(name)} if self.many(name) else {name: name}
            if of_it.keys() <= row.keys() and name not in self.texts:
                found[name] = [c for option, c in of_it.items() if row[option]] if self.many(name) else row[name]
        return found

    def refusal(self, row: Row) -> str:
        """The sentence with which a validator refuses these choices; empty while none does."""
        context = self.answers(row)
        for name, answer in list(context.items()):
            for validator in self._validators(name, answer):
                try:
                    sentence = self._jinja.from_string(validator).render(context).strip()
                except UndefinedError:
                    continue  # it looks at what is not chosen yet
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
                chosen = choice in question["default"]
                yield f"{name}: {choice}", [chosen, not chosen]
        elif question["type"] == "bool" or "choices" in question:
            values = [False, True] if question["type"] == "bool" else self.choices(name)
            yield name, sorted(values, key=lambda value: value != question["default"])
        else:
            raise ValueError(f"{name}: the matrix knows questions with choices, of yes and no, and for a text")

    def _choices(self, name: str) -> list[tuple[str, str]]:
        """Each value, and the validator that it alone may have."""
        found = self.asked[name].get("choices", [])
        values = found.values() if isinstance(found, dict) else found
        return [(v["value"], v.get("validator", "")) if isinstance(v, dict) else (v, "") for v in values]

    def _validators(self, name: str, answer: Any) -> list[str]:
        chosen = answer if self.many(name) else [answer]
        return [
            self.asked[name].get("validator", ""),
            *(rule for value, rule in self._choices(name) if value in chosen),
        ]


def pairs(row: Mapping[str, Value]) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


class Cover:
    """Rows in which every pair of values occurs that a validator lets occur.

    A column is a list of alternatives, each a part of a row. Rows are built one at a time, each around a pair that is
    missing, with the alternatives that bring the most other missing pairs.
    """

    def __init__(self, columns: Sequence[Sequence[Row]], refusal: Callable[[Row], str]) -> None:
        self._columns = columns
        self._refusal = refusal
        self._missing = {
            pair for two in combinations(columns, 2) for a, b in product(*two) for pair in pairs({**a, **b})
        }
        self.rows: list[Row] = []
        self.refused: list[Pair] = []

    def add(self, part: Row) -> Row | None:
        """The row with this part that brings the most; None when no row may have it."""
        turned = (self._completed(part, (*self._columns[n:], *self._columns[:n])) for n in range(len(self._columns)))
        row = max(filter(None, turned), key=self._gain, default=None)
        if row is not None and row not in self.rows:
            self.rows.append(row)
            self._missing -= pairs(row)
        return row

    def complete(self) -> None:
        for pair in sorted(self._missing, key=sorted):
            if pair in self._missing and self.add(dict(pair)) is None:
                self._missing.discard(pair)
                self.refused.append(pair)

    def _gain(self, row: Row) -> int:
        return len(pairs(row) & self._missing)

    def _completed(self, row: Row, columns: Sequence[Sequence[Row]]) -> Row | None:
        if self._refusal(row):
            return None
        if not columns:
            return row
        fitting = [part for part in columns[0] if all(row.get(name, value) == value for name, value in part.items())]
        for part in sorted(fitting, key=lambda part: -self._gain(row | part)):
            if (completed := self._completed(row | part, columns[1:])) is not None:
                return completed
        return None


class Matrix:
    """The variants of a template."""

    def __init__(self, folder: Path = ROOT, code: set[str] = CODE) -> None:
        self.questions = Questions(folder)
        self._code = code

    @cached_property
    def variants(self) -> list[Variant]:
        named = {self._name(row): row for row in self._cover.rows}
        own = {name: row for name, row in named.items() if name in SPECIAL}
        for version in self.questions.choices("python_version"):
            if version not in {row["python_version"] for row in own.values()}:
                on_it = [name for name, row in named.items() if row["python_version"] == version]
                proven = [self._pattern(row) for row in own.values()]
                name = min(on_it, key=lambda name: self._pattern(named[name]) in proven)
                own[name] = named[name]
        variants = [Variant(name, self._answers(row), name in own) for name, row in named.items()]
        return sorted(variants, key=lambda variant: not variant.own)

    @cached_property
    def refused(self) -> list[Row]:
        """The pairs of choices that no project may have."""
        return [dict(pair) for pair in [*self._patterns.refused, *self._cover.refused]]

    def uncovered(self, variants: Sequence[Variant]) -> list[Row]:
        """The pairs of choices that go together and are in none of these variants."""
        options = self.questions.options
        alternatives = [[{name: value} for value in values] for name, values in options.items()]
        every = {pair for a, b in combinations(alternatives, 2) for x, y in product(a, b) for pair in pairs({**x, **y})}
        covered = {pair for variant in variants for pair in pairs(self.questions.row(variant.answers))}
        return [dict(pair) for pair in sorted(every - covered, key=sorted) if dict(pair) not in self.refused]

    def random(self, count: int, seed: int) -> list[Variant]:
        """Valid answers that chance chose, the same for the same seed."""
        chance = random.Random(seed)
        variants: list[Variant] = []
        while len(variants) < count:
            row = {name: chance.choice(values) for name, values in self.questions.options.items()}
            if not self.questions.refusal(row):
                answers = {**chance.choice(ACCEPTED), **self.questions.answers(row)}
                variants.append(Variant(f"random-{seed}-{len(variants) + 1}", answers))
        return variants

    @cached_property
    def _patterns(self) -> Cover:
        """The combinations of the answers that decide the code."""
        options = {name: values for name, values in self.questions.options.items() if self._is_code(name)}
        cover = Cover([[{name: value} for value in values] for name, values in options.items()], self.questions.refusal)
        for special in SPECIAL.values():
            cover.add({name: special(values) for name, values in options.items()})
        cover.complete()
        return cover

    @cached_property
    def _cover(self) -> Cover:
        options = {name: values for name, values in self.questions.options.items() if not self._is_code(name)}
        columns = [self._patterns.rows, *[[{name: value} for value in values] for name, values in options.items()]]
        cover = Cover(columns, self.questions.refusal)
        default, *others = self._patterns.rows
        cover.add(default | self.questions.row({}))
        for pattern in others:
            cover.add(pattern)
        cover.complete()
        return cover

    def _is_code(self, option: str) -> bool:
        return option.split(":", maxsplit=1)[0] in self._code

    def _pattern(self, row: Row) -> int:
        return self._patterns.rows.index({name: value for name, value in row.items() if self._is_code(name)})

    def _answers(self, row: Row) -> Answers:
        """With names and descriptions that are hard to write down, the same wherever the code is the same."""
        pattern = self._pattern(row)
        return {**(ACCEPTED[(pattern - 1) % len(ACCEPTED)] if pattern else {}), **self.questions.answers(row)}

    def _name(self, row: Row) -> str:
        """What is not the default, or the one word for it."""
        rows = self._cover.rows
        for pattern, name in enumerate(SPECIAL):
            if self._pattern(row) == pattern and row == next(r for r in rows if self._pattern(r) == pattern):
                return name
        default, answers = self.questions.answers(self.questions.row({})), self.questions.answers(row)
        return "-".join(self._label(name, answer) for name, answer in answers.items() if answer != default[name])

    def _label(self, name: str, answer: Any) -> str:
        words = name.replace("_", "-")
        match answer:
            case []:
                return f"no-{words}"
            case list() if answer == self.questions.choices(name):
                return f"all-{words}"
            case list():
                return "+".join(answer)
            case bool():
                return words if answer else f"no-{words}"
            case _:
                return f"{words.split('-')[0]}{answer}" if answer[0].isdigit() else answer.lower()


def _default(values: Sequence[Value]) -> Value:
    return values[0]


def _smallest(values: Sequence[Value]) -> Value:
    return False if isinstance(values[0], bool) else values[0]


def _largest(values: Sequence[Value]) -> Value:
    return True if isinstance(values[0], bool) else values[-1]


SPECIAL: dict[str, Callable[[Sequence[Value]], Value]] = {
    "default": _default,
    "smallest": _smallest,
    "largest": _largest,
}
"""Variants that are always there: what is chosen of an option's values."""


MATRIX = Matrix()
QUESTIONS = MATRIX.questions


def main() -> None:
    parser = ArgumentParser(description="The variants that prove the template.")
    parser.add_argument("--json", action="store_true", help="for programs: name, Python and answers of each")
    parser.add_argument("--answers", metavar="NAME", help="the answers of one, for `copier copy --data-file`")
    arguments = parser.parse_args()
    variants = MATRIX.variants
    if arguments.answers:
        print(json.dumps(next(v.answers for v in variants if v.name == arguments.answers), ensure_ascii=False))
    elif arguments.json:
        json.dump([{"name": v.name, "python": v.python, "answers": v.answers} for v in variants], sys.stdout)
    else:
        print(*(variant.name for variant in variants), sep="\n")


if __name__ == "__main__":
    main()
