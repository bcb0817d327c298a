"""Runs all checks of the template, part by part: `uvx nox -s deep [-- PART …]`, `-- --list`, `-- --list --json`.

Each part that passes leaves a record (see records.py), and is skipped from then on while the tree stays as it is,
unless it is named. So the parts may be run on different days, and one that was interrupted is run again.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import history
import records

ROOT = Path(__file__).resolve().parents[1]
NOX = (sys.executable, "-m", "nox", "--session")


def parts(root: Path) -> dict[str, tuple[str, ...]]:
    """Names the parts and the command of each, the quickest to fail first."""
    earlier = history.differing(root)
    updates = {f"updates-from-{version}": (*NOX, "updates", "--", f"-k=v{version}-") for version in earlier}
    made = [f"-k=not ({' or '.join(f'v{version}-' for version in earlier)})"] if earlier else []
    return {
        "tests": (*NOX, "lint", "typecheck", "tests"),
        "harness": (*NOX, "harness"),
        "docs": (*NOX, "docs"),
        "clients": (*NOX, "clients"),
        "faults": (*NOX, "faults"),
        "load": (*NOX, "load"),
        "random": (*NOX, "variants", "--", "--random=100"),
        "environments": (*NOX, "environments"),
        "variants": (*NOX, "variants"),
        "updates": (*NOX, "updates", "--", *made),
        **updates,
        "fuzz": (*NOX, "fuzz", "--", "--seconds=300"),
    }


def missing(root: Path) -> list[str]:
    """Names the parts that this tree has no record of."""
    return [part for part in parts(root) if not records.place(root, part).is_file()]


def prove(root: Path, part: str) -> bool:
    """Runs a part and writes its record. Returns whether it passed."""
    kept, began = records.place(root, part), time.monotonic()
    proofs = records.folder() / records.fingerprint(root) / "proofs"
    forget_failures(proofs)
    print(f"\n--- {part}: {said(root, part)}", flush=True)
    done = subprocess.run(parts(root)[part], cwd=root, env={**os.environ, "PROOFS": str(proofs)}, check=False)
    if done.returncode:
        print(f"--- {part} failed", flush=True)
        return False
    if records.place(root, part) != kept:
        print(f"--- {part} passed, but files changed meanwhile: no record is kept", flush=True)
        return False
    record = records.write(kept, part, time.monotonic() - began, records.seconds_of_a_loop())
    print(f"--- {part} passed in {record.seconds} s", flush=True)
    return True


def forget_failures(proofs: Path) -> None:
    """Deletes the results of tests that failed before, so that they run again; what passed holds for the same code."""
    for path in proofs.glob("*"):
        if path.suffix != ".lock" and json.loads(path.read_text(encoding="utf-8"))["failure"]:
            path.unlink()


def table(root: Path) -> str:
    """Describes for each part whether this tree has passed it, and when."""
    width = max(map(len, parts(root)))
    lines = [f"The tree {records.fingerprint(root)}:"]
    for part in parts(root):
        passed = records.read(records.place(root, part))
        told = (
            f"passed {passed.passed_at} in {passed.seconds} s (loop {passed.loop_seconds} s)"
            if passed
            else "not passed"
        )
        lines.append(f"{part:<{width}}  {told}  {said(root, part)}")
    return "\n".join(lines)


def said(root: Path, part: str) -> str:
    """Returns the command of a part, in short."""
    return shlex.join(parts(root)[part]).replace(shlex.join(NOX), "nox -s")


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="uvx nox -s deep --", description="Run all checks of the template, part by part.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="a part; without any, those that are not passed yet")
    parser.add_argument("--list", action="store_true", help="only list the parts, and which have passed")
    parser.add_argument("--json", action="store_true", help="for programs: their names alone")
    asked = parser.parse_args(arguments)
    try:
        known = list(parts(ROOT))
    except history.ReleaseError as error:
        parser.error(str(error))
    if asked.list:
        print(json.dumps(known) if asked.json else table(ROOT))
        return 0
    if unknown := [part for part in asked.parts if part not in known]:
        parser.error(f"there is no part {unknown[0]}; name one of {', '.join(known)}")
    passed = [prove(ROOT, part) for part in asked.parts or missing(ROOT)]
    print(table(ROOT))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
