"""Records which parts of the session `deep` a tree has passed: a file for each, in the user's cache.

A file's name has a hash of what the part reads: of the tree, without CHANGELOG.md and the version, so that the commit
of a release has the records of what it releases, and without the tests of other parts, so that a change of one of
those keeps this record valid. PARLEY_RECORDS names another place than ~/.cache/parley.
"""

import hashlib
import json
import os
import re
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

LEFT_OUT = "CHANGELOG.md"
KEEPING = frozenset({"scripts/deep.py", "scripts/records.py", "scripts/release.py"})
"""Lists scripts that run parts and read records, on which no other part depends; the part `tests` tests them."""
MARKS = {
    "environments": "environments",
    "faults": "faults",
    "fuzz": "",
    "load": "load",
    "random": "variants",
    "updates": "updates",
    "variants": "variants",
}
"""Maps the beginning of a part's name to the mark of the tests that it runs, if any. Other parts read all tests."""
_VERSION = re.compile(rb'(?m)^version = ".*"$')
_IMPORTED = re.compile(r"(?m)^(?:from|import) (test_\w+)")


@dataclass(frozen=True)
class Record:
    """Holds when a part passed, how long it took, and how fast the machine was (see `seconds_of_a_loop`)."""

    part: str
    passed_at: str
    seconds: int
    loop_seconds: float


def fingerprint(root: Path, part: str = "") -> str:
    """Hashes the name and the content of every file that git tracks or would track, as far as a part reads it."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout
    names = set(os.fsdecode(listed).split("\0")[:-1]) - {LEFT_OUT}
    mark = next((mark for known, mark in MARKS.items() if part.startswith(known)), None)
    if mark is not None:
        names -= KEEPING | unread_tests(root, mark)
    digest = hashlib.sha256()
    for name in sorted(names):
        if (root / name).is_file():
            digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(_content(root, name)).digest())
    return digest.hexdigest()[:16]


def unread_tests(root: Path, mark: str) -> set[str]:
    """Names the test modules that neither have tests with a mark nor are imported by one that has."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (root / "tests").glob("test_*.py")}
    read = {name for name, text in texts.items() if mark and re.search(rf"pytest\.mark\.{mark}\b", text)}
    while more := {name for known in read for name in _IMPORTED.findall(texts[known])} - read:
        read |= more
    return {f"tests/{name}.py" for name in texts.keys() - read}


def folder() -> Path:
    """Names the folder of all records, which need not be there yet."""
    return Path(os.environ.get("PARLEY_RECORDS") or Path.home() / ".cache" / "parley")


def place(root: Path, part: str) -> Path:
    """Names the file that records that this tree has passed the part."""
    return folder() / f"{part}-{fingerprint(root, part)}.json"


def read(path: Path) -> Record | None:
    """Reads a record; None where there is none."""
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write(path: Path, part: str, seconds: float, loop_seconds: float) -> Record:
    """Writes the record of a part that passed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(part, now, round(seconds), round(loop_seconds, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")
    return record


def seconds_of_a_loop() -> float:
    """Measures the machine: the seconds that Python takes to sum the squares of 10 million numbers."""
    began = time.perf_counter()
    sum(number * number for number in range(10_000_000))
    return time.perf_counter() - began


def _content(root: Path, name: str) -> bytes:
    content = (root / name).read_bytes()
    return _VERSION.sub(b"", content, count=1) if name == "pyproject.toml" else content
