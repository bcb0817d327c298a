"""Updates many projects, and pushes a branch for each: `uvx --from . python scripts/update_projects.py ADDRESS…`

Runs where git may push, such as a CI job. A project that is up to date, or has the branch already, is left alone.
A conflict is pushed with its markers, so that whoever looks at the branch settles it there.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml


def run(folder: Path, *command: str) -> str:
    """Runs a command and returns its output. Raises CalledProcessError."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def update(address: str, scratch: Path) -> str:
    """Updates a project and returns the result in a few words."""
    run(scratch, "git", "clone", "--quiet", "--", address, "project")
    folder = scratch / "project"
    before = version(folder)
    run(folder, sys.executable, "-m", "parley", "update", "--yes")
    after = version(folder)
    if not run(folder, "git", "status", "--porcelain"):
        return f"is at {before}, the newest version"
    branch = f"template-{after}"
    if run(folder, "git", "ls-remote", "--heads", "origin", branch):
        return f"has the branch {branch} already"
    conflicts = run(folder, "git", "diff", "--name-only", "--diff-filter=U").split()
    return push(folder, branch, f"Update the template from {before} to {after}", conflicts)


def version(folder: Path) -> str:
    return yaml.safe_load((folder / ".copier-answers.yml").read_text(encoding="utf-8"))["_commit"]


def push(folder: Path, branch: str, title: str, conflicts: list[str]) -> str:
    note = f"Conflicts to settle: {', '.join(conflicts)}" if conflicts else "Without conflicts."
    run(folder, "git", "switch", "--quiet", "--create", branch)
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", f"--message={title}", f"--message={note}")
    run(folder, "git", "push", "--quiet", "origin", branch)
    return f"has the new branch {branch}. {note}"


def main(addresses: list[str]) -> int:
    """Updates all projects, also when one fails. Returns 1 if one could not be updated."""
    failed = 0
    for address in addresses:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                print(f"{address} {update(address, Path(scratch))}", flush=True)
            except (subprocess.CalledProcessError, OSError, KeyError) as error:
                failed = 1
                said = getattr(error, "stderr", None) or str(error)
                print(f"{address} could not be updated: {said.strip().splitlines()[-1]}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
