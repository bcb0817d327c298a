"""Writes files whole or not at all, also on a full disk, and on file systems without hard links or permissions."""

import errno
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

WAITS, SECONDS = 100, 0.02
"""Sets how often, and how long each time, to wait for a process that writes the same file, which takes milliseconds."""


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yields a path to write to, which then replaces the file at once; if writing fails, that stays as it was.

    Raises OSError.
    """
    new = path.with_name(f".{token_hex(8)}.new")
    try:
        yield new
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, which keeps its mode; follows links, and writes to pipes and devices, too. Raises OSError."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = Path(os.path.realpath(path))
    with replacing(path) as new:
        new.write_bytes(content)
        with suppress(OSError):  # there is none to keep, or the file system has no modes
            new.chmod(path.stat().st_mode)


def create_file(path: Path, content: bytes) -> bool:
    """Creates a file that only its owner may read. Returns False if it exists already. Raises OSError.

    A hard link is the one way to name a file only if the name is free. Where there are none, the name is reserved with
    a file beside it, which is deleted afterwards; it stays if the process is killed at that moment.
    """
    new = path.with_name(f".{token_hex(8)}.new")
    try:
        new.touch(mode=0o600)
        new.write_bytes(content)
        try:
            os.link(new, path)
        except FileExistsError:
            return False
        except OSError:
            return _rename_to_free_name(new, path)
        return True
    finally:
        new.unlink(missing_ok=True)


def _rename_to_free_name(new: Path, path: Path) -> bool:
    lock = path.with_name(f"{path.name}.lock")
    for _ in range(WAITS):
        if path.exists():
            return False
        with suppress(FileExistsError):
            lock.touch(exist_ok=False)
            try:
                if not path.exists():  # another process may have been faster
                    new.rename(path)
                    return True
            finally:
                lock.unlink()
        time.sleep(SECONDS)
    advice = "another process seems to write it; if there is none, delete this file"
    raise FileExistsError(errno.EEXIST, advice, str(lock))
