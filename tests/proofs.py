"""Records what has been proven of a project's code, so that the same code is proven once in a run of the tests.

Runs that name the same folder in PROOFS share their proofs, as those of one CI run do.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Proof:
    by: str
    """Names the variant that had this code first."""
    tests: int = 0
    failure: str = ""


class Proofs:
    """Stores proofs in files, which processes share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def of(self, key: str, name: str, prove: Callable[[], int]) -> Proof:
        """Proves it, unless another process has or is about to. Raises AssertionError, also when that one failed."""
        path = self._folder / key
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_text(json.dumps(asdict(_tried(name, prove))), encoding="utf-8")
            proof = Proof(**json.loads(path.read_text(encoding="utf-8")))
        assert not proof.failure, proof.failure if proof.by == name else f"the same code failed as {proof.by}"
        return proof

    def note(self, key: str, proof: Proof) -> None:
        """Stores under this key what was proven under another."""
        with FileLock(f"{self._folder / key}.lock"):
            (self._folder / key).write_text(json.dumps(asdict(proof)), encoding="utf-8")

    def has(self, key: str) -> bool:
        return (self._folder / key).exists()


def folder_of_proofs(otherwise: Path) -> Path:
    return Path(os.environ.get("PROOFS") or otherwise)


def _tried(name: str, prove: Callable[[], int]) -> Proof:
    try:
        return Proof(name, prove())
    except AssertionError as error:
        return Proof(name, failure=str(error))
