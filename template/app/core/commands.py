"""Names commands as they can be pasted where this process was started: with uv, from an environment, in the image."""

import os
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def full_command(arguments: str) -> str:
    """Returns the project's own command with these arguments, as a sentence quotes it."""
    return f"`{_program()} {arguments}`"


def python_module(arguments: str) -> str:
    """Returns a module of this environment with its arguments, as a sentence quotes it."""
    return f"`{_python()} -m {arguments}`"


def _program() -> str:
    called, name = Path(sys.argv[0]), _script()
    if name is None or called.resolve() == ROOT / "app" / "cli" / "__main__.py":
        return f"{_python()} -m app.cli"
    if called.stem == name and not _in_uv():  # the script of an environment, which may be on the PATH
        found = shutil.which(name)
        return name if found and Path(found) == called else shlex.quote(str(called))
    # Under pytest, or a server that another program started, it is the way of the README, if there is uv.
    return f"uv run {name}" if _in_uv() or shutil.which("uv") else f"{_python()} -m app.cli"


def _python() -> str:
    if _in_uv():
        return "uv run python"
    found, own = shutil.which("python"), Path(sys.executable)
    return "python" if found and Path(found).parent == own.parent else shlex.quote(str(own))


def _in_uv() -> bool:
    return "UV_RUN_RECURSION_DEPTH" in os.environ


def _script() -> str | None:
    """Returns the name of the project's script."""
    try:
        described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    scripts = described.get("project", {}).get("scripts", {})
    return next((name for name, target in scripts.items() if target == "app.cli:main"), None)
