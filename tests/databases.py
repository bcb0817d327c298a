"""Runs PostgreSQL with TLS, and PgBouncer, from the system's packages."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from servers import free_port
from services import POSTGRESQL

PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))])
HBA = "local all all trust\nhostssl proving all all trust clientcert=verify-ca\nhostssl all all all trust\n"
"""Lets nobody in without TLS, nor without a certificate of their own into the database `proving`."""


def other_user() -> dict[str, Any]:
    """Returns arguments of `subprocess` for another user where this one is root, whom neither server runs for."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found, f"{name} is needed: install it, as .ci/services does"
    return found


def call(name: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [program(name), *arguments], **other_user(), capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def folder_of_servers() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        if user := other_user():
            shutil.chown(name, user["user"], user["group"])
        yield Path(name)


@contextmanager
def running(*command: str | Path, until: str) -> Iterator[None]:
    """Runs a server from when it has said that it is ready."""
    with subprocess.Popen(
        command, **other_user(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/"
    ) as process:
        try:
            assert process.stdout
            said = []
            for line in process.stdout:
                said.append(line)
                if until in line:
                    break
            else:
                raise AssertionError("".join(said))
            yield
        finally:
            process.send_signal(2)  # a fast end for both servers
            process.communicate(timeout=30)


@contextmanager
def pgbouncer(mode: str, **options: str) -> Iterator[str]:
    """Yields the netloc of a PgBouncer before the tests' PostgreSQL, with few connections to it."""
    there, port = urlsplit(POSTGRESQL), free_port()
    with folder_of_servers() as folder:
        (folder / "users.txt").write_text(f'"{there.username}" "{there.password or ""}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": folder / "users.txt",
            "pool_mode": mode,
            "default_pool_size": 5,
            **options,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        target = f"host={there.hostname} port={there.port or 5432}"
        (folder / "pgbouncer.ini").write_text(f"[databases]\n* = {target}\n[pgbouncer]\n{lines}")
        with running(program("pgbouncer"), folder / "pgbouncer.ini", until="process up"):
            yield f"{there.username}@127.0.0.1:{port}"


@dataclass(frozen=True)
class Cluster:
    folder: Path
    port: int

    def file(self, name: str) -> str:
        return str(self.folder / name)


@contextmanager
def tls_cluster() -> Iterator[Cluster]:
    """Runs a PostgreSQL whose certificate is for `localhost` alone."""
    with folder_of_servers() as folder:
        cluster = Cluster(folder, free_port())
        for authority in ("ca", "other"):
            make_certificate(folder, authority)
        for name in ("localhost", "client"):
            make_certificate(folder, name, "ca")
        data = folder / "data"
        call("initdb", "--auth=trust", "--username=postgres", f"--pgdata={data}", "--no-sync")
        (data / "pg_hba.conf").write_text(HBA)
        settings = {
            "listen_addresses": "localhost",
            "unix_socket_directories": folder,
            "ssl": "on",
            "ssl_cert_file": folder / "localhost.pem",
            "ssl_key_file": folder / "localhost.key",
            "ssl_ca_file": folder / "ca.pem",
            "fsync": "off",
        }
        told = [f"-c{name}={value}" for name, value in settings.items()]
        command = [program("postgres"), f"-D{data}", f"-p{cluster.port}", *told]
        with running(*command, until="ready to accept connections"):
            for name in ("app", "proving"):
                call("createdb", f"--host={folder}", f"--port={cluster.port}", "--username=postgres", name)
            yield cluster


def make_certificate(folder: Path, name: str, authority: str = "") -> None:
    """Makes `<name>.pem` and `<name>.key`, for the host of that name; without an authority it is one itself."""
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name=name\n[name]\n")
    by: tuple[str | Path, ...] = (
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign",
    )
    if authority:
        by = ("-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key")
        by = (*by, "-addext", f"subjectAltName=DNS:{name}")
    made = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")
    new = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
    call("openssl", "req", "-config", folder / "openssl.cnf", *new, *by, *made)
