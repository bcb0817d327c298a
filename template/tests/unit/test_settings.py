"""Tests that every setting is in `.env.example` with its default, and that something reads it."""

import re
from collections.abc import Mapping
from importlib import import_module
from io import StringIO
from pkgutil import walk_packages

import pytest
from dotenv import dotenv_values
from pydantic_settings import BaseSettings

from app.core.config import DEFAULTS_FILE, ROOT

OTHERS = re.compile(r"^(ANTHROPIC|AWS|GOOGLE|GROQ|MISTRAL|OLLAMA|OPENAI|OPENROUTER)_|^OTEL_EXPORTER_OTLP_HEADERS$")
"""Matches variables that only the SDKs of providers and the exporter of telemetry read themselves."""


COMPOSE = ROOT / "compose.yaml"
OF_COMPOSE = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8"))) if COMPOSE.exists() else set[str]()
"""Holds the variables of compose.yaml, which no process of the application reads."""


def kinds() -> list[type[BaseSettings]]:
    """Returns the settings classes of the base and of every feature."""
    for module in walk_packages(import_module("app").__path__, "app."):
        if module.name not in {"app.asgi", "app.cli.__main__"}:
            import_module(module.name)
    return [kind for kind in BaseSettings.__subclasses__() if kind.__module__.startswith("app.")]


KINDS = kinds()
NAMES = sorted({name for kind in KINDS for name in kind.model_fields})


@pytest.fixture
def example() -> dict[str, str | None]:
    """Parses `.env.example` with its commented-out defaults."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dotenv_values(stream=StringIO(re.sub(r"(?m)^#(?=[A-Z0-9_]+=)", "", text)), interpolate=False)


def made(kind: type[BaseSettings], values: Mapping[str, str | None]) -> BaseSettings:
    """Makes settings from the variables that have a value, and a secret where one is needed."""
    return kind.model_validate({name: value for name, value in values.items() if value} | _secret(kind))


def _secret(kind: type[BaseSettings]) -> dict[str, str]:
    return {"secret_key": "x" * 32} if "secret_key" in kind.model_fields else {}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_example_states_every_default(kind: type[BaseSettings], example: dict[str, str | None]) -> None:
    chosen = dotenv_values(DEFAULTS_FILE, interpolate=False)
    assert made(kind, {name: example[name.upper()] for name in kind.model_fields}) == made(
        kind, {name: chosen.get(name.upper()) for name in kind.model_fields}
    )


def test_the_example_has_nothing_else(example: dict[str, str | None]) -> None:
    settings = {name for name in example if not OTHERS.match(name)}
    assert settings == {name.upper() for name in NAMES} | OF_COMPOSE


@pytest.mark.parametrize("name", NAMES)
def test_something_reads_it(name: str) -> None:
    read = re.compile(rf"\.{name}\b")
    assert any(read.search(path.read_text(encoding="utf-8")) for path in (ROOT / "app").rglob("*.py"))
