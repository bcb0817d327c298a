"""Starts a PostgreSQL and a Redis of a test's own, which it may stop and start; Debian's packages have the programs."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import free_port


@dataclass(frozen=True)
class Own:
    """Holds the address of a server, and the commands that start and stop it and return once that is done."""

    url: str
    start: Sequence[str]
    stop: Sequence[str]

    def up(self) -> None:
        _run(self.start)

    def down(self) -> None:
        _run(self.stop)


@contextmanager
def own_postgresql() -> Iterator[Own]:
    port = free_port()
    with _folder() as folder:
        _run((_program("initdb"), "--auth=trust", "--username=postgres", f"--pgdata={folder}/data"))
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
        control = (_program("pg_ctl"), f"--pgdata={folder}/data", f"--log={folder}/log", "--wait")
        own = Own(
            f"postgresql://postgres@127.0.0.1:{port}/postgres",
            (*control, f"--options={options}", "start"),
            (*control, "--mode=fast", "stop"),
        )
        yield from _started(own)


@contextmanager
def own_redis() -> Iterator[Own]:
    """Starts a Redis that loses its data when it stops."""
    port = free_port()
    client = (_program("redis-cli"), "-p", f"{port}")
    server = (_program("redis-server"), "--port", f"{port}", "--bind", "127.0.0.1", "--save", "", "--daemonize", "yes")
    waiting = f"until {' '.join(client)} ping >/dev/null 2>&1; do sleep 0.05; done"
    yield from _started(
        Own(
            f"redis://127.0.0.1:{port}/0",
            ("sh", "-c", f'"$@" && {waiting}', "sh", *server),
            (*client, "shutdown", "nosave"),
        )
    )


def _started(own: Own) -> Iterator[Own]:
    own.up()
    try:
        yield own
    finally:
        own.down()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        yield Path(folder)


def _program(name: str) -> str:
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(there[-1]) if there else shutil.which(name)
    assert found, f"{name} is needed: it is in Debian's package postgresql or redis"
    return found


def _run(command: Sequence[str]) -> None:
    """Runs a command, as the user postgres if the tests run as root, which PostgreSQL refuses to do."""
    user = "postgres" if os.geteuid() == 0 else None
    done = subprocess.run(
        command, stdout=sys.stderr, stderr=subprocess.STDOUT, check=False, timeout=60, user=user, cwd="/"
    )
    assert done.returncode == 0, command
