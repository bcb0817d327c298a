"""Chooses the projects that test the template: together they hold every pair of answers that go together.

Everything comes from copier.yml: a new question or value is in the matrix without a change here.
"""

import json
import random
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product, zip_longest
from pathlib import Path
from typing import Any

from questions import ROOT, Answers, Questions, Row, Value
from texts import ACCEPTED

CODE = {"features", "protocols", "ai_providers", "speech_providers", "database"}
"""Names the questions with choices that decide which code is rendered. Few combinations of these are in the matrix,
because each costs a run of its own suite; the other answers are spread over them."""

Pair = frozenset[tuple[str, Value]]


@dataclass(frozen=True)
class Variant:
    name: str
    answers: Answers
    own: bool = False
    """Tells whether it is tested in an environment of its own, into which only what it names is installed: the special
    variants are, and one for each version of Python."""

    @property
    def python(self) -> str:
        return self.answers["python_version"]


def pairs(row: Mapping[str, Value]) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


class Cover:
    """Builds rows in which every pair of values occurs that the validators allow.

    A column is a list of alternatives, each a part of a row. Rows are built one at a time, each around a pair that is
    missing, with the alternatives that add the most other missing pairs.
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
        """Adds and returns the row with this part that adds the most missing pairs; None when no row may have it."""
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
    """Computes the variants of a template."""

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
        """Returns the pairs of choices that no project may have."""
        return [dict(pair) for pair in [*self._patterns.refused, *self._cover.refused]]

    def uncovered(self, variants: Sequence[Variant]) -> list[Row]:
        """Returns the pairs of choices that go together and are in none of these variants."""
        options = self.questions.options
        alternatives = [[{name: value} for value in values] for name, values in options.items()]
        every = {pair for a, b in combinations(alternatives, 2) for x, y in product(a, b) for pair in pairs({**x, **y})}
        covered = {pair for variant in variants for pair in pairs(self.questions.row(variant.answers))}
        return [dict(pair) for pair in sorted(every - covered, key=sorted) if dict(pair) not in self.refused]

    def random(self, count: int, seed: int) -> list[Variant]:
        """Returns variants with valid random answers, the same for the same seed."""
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
        """Covers the combinations of the answers that decide the code."""
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
        chosen = {name: values for name, values in options.items() if isinstance(values[0], bool)}
        specials = [{name: special(values) for name, values in chosen.items()} for special in SPECIAL.values()]
        cover.add(self._patterns.rows[0] | self.questions.row({}))
        for pattern, special in zip_longest(self._patterns.rows[1:], specials[1:], fillvalue={}):
            cover.add(pattern | special)
        cover.complete()
        return cover

    def _is_code(self, option: str) -> bool:
        return option.split(":", maxsplit=1)[0] in self._code

    def _pattern(self, row: Row) -> int:
        return self._patterns.rows.index({name: value for name, value in row.items() if self._is_code(name)})

    def _answers(self, row: Row) -> Answers:
        """Returns answers with names and descriptions that are hard to quote, the same where the code is the same."""
        pattern = self._pattern(row)
        return {**(ACCEPTED[(pattern - 1) % len(ACCEPTED)] if pattern else {}), **self.questions.answers(row)}

    def _name(self, row: Row) -> str:
        """Names a row after its answers that are not the default, or by the word for a special one."""
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
"""Names the variants that are always there, with the function that chooses among an option's values."""


MATRIX = Matrix()
QUESTIONS = MATRIX.questions


def main() -> None:
    parser = ArgumentParser(description="Lists the variants that test the template.")
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
