"""Reports a run of the matrix: a line as each variant ends, and a table of all of them."""

from dataclasses import dataclass
from typing import Any

import pytest
from matrix import Variant

RESULTS = {"passed": "passed", "failed": "FAILED", "skipped": "left out"}


@dataclass(frozen=True)
class Row:
    variant: Variant
    result: str
    seconds: float
    tests: str
    python: str

    def __str__(self) -> str:
        where = f"{self.python}{' alone' if self.variant.own else ''}"
        return f"{self.result:<8}{self.seconds:>6.0f} s  {self.tests:<12}  {where:<13}  {_said(self.variant)}"


class Table:
    """Collects results as a plugin of pytest, in the process that the others report to."""

    def __init__(self, variants: dict[str, Variant]) -> None:
        self._variants = variants
        self._rows: list[Row] = []

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Hides the letter that pytest prints for each test."""
        return (report.outcome, "", "") if report.when == "call" else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (report.when != "call" and report.passed) or _name(report) not in self._variants:
            return
        row = self._row(report)
        self._rows.append(row)
        done = f"[{len(self._rows)}/{len(self._variants)}]"
        print(f"{done:>9} {row.result:<9}{row.seconds:>6.0f} s  {row.variant.name}", flush=True)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        width = max((len(row.variant.name) for row in self._rows), default=0)
        terminalreporter.section("variants")
        for row in self._rows:
            terminalreporter.write_line(f"{row.variant.name:<{width}}  {row}")

    def _row(self, report: pytest.TestReport) -> Row:
        variant = self._variants[_name(report)]
        noted = {name: str(value) for name, value in report.user_properties}
        tests, python = noted.get("tests", ""), noted.get("python", "")
        return Row(variant, RESULTS[report.outcome], report.duration, tests, python)


def _name(report: pytest.TestReport) -> str:
    return report.nodeid.rpartition("[")[2].rstrip("]")


def _said(variant: Variant) -> str:
    """Joins the answers to one line."""
    shown = [", ".join(a) if isinstance(a, list) else str(a) for a in variant.answers.values()]
    return " | ".join(text or "none" for text in shown)
