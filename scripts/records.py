"""Keep which parts of the deep proof a tree has passed: a file for each, in a folder of the user's cache.

The folder's name is a hash of the tree, without CHANGELOG.md and the version, so that the commit of a release has the
records of what it releases. PARLEY_RECORDS names another place than ~/.cache/parley.
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
_VERSION = re.compile(rb'(?m)^version = ".*"$')


@dataclass(frozen=True)
class Record:
    """Says when a part passed, how long it took, and how fast the machine was (see `seconds_of_a_loop`)."""

    part: str
    passed_at: str
    seconds: int
    loop_seconds: float


def fingerprint(root: Path) -> str:
    """Hashes the name and the content of every file that git tracks or would."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout
    digest = hashlib.sha256()
    for name in sorted(set(os.fsdecode(listed).split("\0")[:-1]) - {LEFT_OUT}):
        if (root / name).is_file():
            digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(_content(root, name)).digest())
    return digest.hexdigest()[:16]


def folder(root: Path) -> Path:
    """Names the folder of this tree's records, which need not be there yet."""
    kept = os.environ.get("PARLEY_RECORDS") or Path.home() / ".cache" / "parley"
    return Path(kept) / fingerprint(root)


def read(kept: Path) -> dict[str, Record]:
    """Reads the records in a folder by the name of the part."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(kept.glob("*.json")))
    return {record["part"]: Record(**record) for record in found}


def write(kept: Path, part: str, seconds: float, loop_seconds: float) -> Record:
    """Writes that a part passed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(part, now, round(seconds), round(loop_seconds, 2))
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{part}.json").write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")
    return record


def seconds_of_a_loop() -> float:
    """Measures the machine: the seconds that Python takes to sum the squares of 10 million numbers."""
    began = time.perf_counter()
    sum(number * number for number in range(10_000_000))
    return time.perf_counter() - began


def _content(root: Path, name: str) -> bytes:
    content = (root / name).read_bytes()
    return _VERSION.sub(b"", content, count=1) if name == "pyproject.toml" else content
