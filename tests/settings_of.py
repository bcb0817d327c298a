"""Run in a rendered project: print how its settings classes and its `.env.example` differ, as JSON."""

import json
import os
import pkgutil
import re
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from pydantic_settings import BaseSettings

SECRET = "0123456789abcdef0123456789abcdef"
PROVIDERS = re.compile(r"^(ANTHROPIC|AWS|GOOGLE|GROQ|MISTRAL|OLLAMA|OPENAI|OPENROUTER)_")


def kinds() -> list[type[BaseSettings]]:
    for module in pkgutil.walk_packages(import_module("app").__path__, "app."):
        if module.name != "app.asgi":
            import_module(module.name)
    return [kind for kind in BaseSettings.__subclasses__() if kind.__module__.startswith("app.")]


def example() -> dict[str, str | None]:
    """The example with its defaults no longer commented out."""
    text = Path(".env.example").read_text(encoding="utf-8")
    return dotenv_values(stream=StringIO(re.sub(r"(?m)^#(?=[A-Z0-9_]+=)", "", text)), interpolate=False)


def values(kind: type[BaseSettings], environment: dict[str, str | None]) -> dict[str, object]:
    os.environ.clear()
    os.environ.update({name: value for name, value in environment.items() if value}, SECRET_KEY=SECRET)
    return kind().model_dump()


def main() -> None:
    documented, defaults = example(), dotenv_values("app/defaults.env", interpolate=False)
    known: set[str] = set()
    wrong: list[str] = []
    for kind in kinds():
        known |= {name.upper() for name in kind.model_fields}
        stated, actual = values(kind, documented), values(kind, defaults)
        wrong += [name for name in stated if stated[name] != actual[name]]
    unknown = sorted(name for name in documented.keys() - known if not PROVIDERS.match(name))
    json.dump(
        {"undocumented": sorted(known - documented.keys()), "unknown": unknown, "wrong_default": wrong},
        sys.stdout,
    )


sys.path.insert(0, os.getcwd())
main()
