"""Tests that every command reaches a real PostgreSQL as its URL says, and says in a sentence why it cannot."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from databases import Cluster, tls_cluster
from processes import run, succeed
from servers import COMMAND, Project

pytestmark = [pytest.mark.deep, pytest.mark.slow]
COMMANDS = (("db", "upgrade"), ("doctor",), ("serve", "--port=0"))
ASK = """
import asyncio
from sqlalchemy import text
from app.core.config import Settings, read_settings
from app.core.database import open_database

async def ask():
    async with open_database(read_settings(Settings)) as database, database.rows() as connection:
        row = (await connection.execute(text({statement!r}))).one()
        line = (await connection.get_raw_connection()).driver_connection._transport.get_extra_info("socket")
        print(*row, {options})

asyncio.run(ask())
"""
"""Prints what a statement finds, and options of the connection's socket."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tls_cluster() as made:
        yield made


def settings(url: str, **others: str) -> dict[str, str]:
    return {"SECRET_KEY": uuid4().hex, "DATABASE_URL": url, **others}


def ask(folder: Path, url: str, statement: str, options: str = "", **others: str) -> str:
    script = ASK.format(statement=statement, options=options)
    return succeed(sys.executable, "-c", script, cwd=folder, **settings(url, **others)).strip()


TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
RIGHT = {
    "verify-full": "postgresql://postgres@localhost:{port}/app?sslmode=verify-full&sslrootcert={folder}/ca.pem",
    "verify-ca": "postgres://postgres@127.0.0.1:{port}/app?sslmode=verify-ca&sslrootcert={folder}/ca.pem",
    "require": "postgresql://postgres@127.0.0.1:{port}/app?sslmode=require&channel_binding=prefer",
    "a list": "postgresql://postgres@127.0.0.1:1,localhost:{port}/app?sslmode=verify-full&sslrootcert={folder}/ca.pem"
    "&target_session_attrs=read-write&connect_timeout=5",
    "after the mark": "postgresql:///?host=localhost&port={port}&user=postgres&dbname=app&sslmode=require",
    "client": "postgresql://postgres@localhost:{port}/proving?sslmode=verify-full&sslrootcert={folder}/ca.pem"
    "&sslcert={folder}/client.pem&sslkey={folder}/client.key",
    "system": "postgresql://postgres@localhost:{port}/app?sslrootcert=system",
    "channel binding": "postgresql://postgres@localhost:{port}/app?sslmode=require&channel_binding=require",
    "system and client": "postgresql://postgres@localhost:{port}/proving?sslmode=verify-full&sslrootcert=system"
    "&sslcert={folder}/client.pem&sslkey={folder}/client.key",
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_url_as_libpq_reads_it(name: str, cluster: Cluster, folder: Path) -> None:
    url = RIGHT[name].format(port=cluster.port, folder=cluster.folder)
    assert ask(folder, url, TLS, SSL_CERT_FILE=cluster.file("ca.pem")) == "True"


def test_every_command_takes_the_same_url(cluster: Cluster, folder: Path) -> None:
    project = Project(folder, **settings(RIGHT["verify-full"].format(port=cluster.port, folder=cluster.folder)))
    assert "answers" in run(*COMMAND, "doctor", cwd=folder, **project.settings).stdout

    async def serve() -> None:
        async with project.serve() as server, httpx2.AsyncClient() as client:
            assert (await client.get(f"{server.url}/health/ready")).status_code == 200
            assert await server.end(signal.SIGTERM) == 0

    asyncio.run(serve())


WRONG = {
    "another authority": ("localhost", "sslmode=verify-full&sslrootcert={folder}/other.pem", "self-signed certificate"),
    "another name": ("127.0.0.1", "sslmode=verify-full&sslrootcert={folder}/ca.pem", "certificate is not valid for"),
    "not the system's": ("localhost", "sslrootcert=system", "self-signed certificate"),
    "no channel binding": ("localhost", "channel_binding=require", "self-signed certificate"),
    "no certificate": (
        "localhost",
        "sslmode=verify-full&sslrootcert={folder}/ca.key",
        "(no certificate",
    ),
    "no file": ("localhost", "sslmode=verify-full&sslrootcert={folder}/none.pem", "none.pem cannot be read"),
    "no TLS": ("localhost", "sslmode=disable", "no pg_hba.conf entry"),
    "no client": ("localhost", "sslmode=require", "connection requires a valid client certificate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_sentence(name: str, cluster: Cluster, folder: Path) -> None:
    host, query, words = WRONG[name]
    database = "proving" if name == "no client" else "app"
    url = f"postgresql://postgres:hunter2@{host}:{cluster.port}/{database}?{query.format(folder=cluster.folder)}"
    for command in COMMANDS:
        done = run(*COMMAND, *command, cwd=folder, **settings(url))
        assert done.returncode != 0
        assert len([line for line in done.stdout.splitlines() if words in line]) == 1
        assert "Traceback" not in done.stdout
        assert "hunter2" not in done.stdout


def test_a_socket_s_folder(cluster: Cluster, folder: Path) -> None:
    for start in ("postgresql://postgres@/app?host=", "postgresql:///app?user=postgres&host="):
        url = f"{start}{cluster.folder}&port={cluster.port}"
        assert ask(folder, url, "SELECT inet_client_addr()") == "None"


def test_options_reach_the_server(cluster: Cluster, folder: Path) -> None:
    url = RIGHT["require"].format(port=cluster.port) + "&application_name=bot&options=-c%20search_path%3Dother"
    statement = (
        "SELECT current_setting('search_path'), application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    )
    assert ask(folder, url, statement) == "other bot"


def test_keep_alives_reach_the_socket(cluster: Cluster, folder: Path) -> None:
    url = RIGHT["require"].format(port=cluster.port) + "&keepalives_idle=77"
    options = "bool(line.getsockopt(1, 9)), line.getsockopt(6, 4)"  # SO_KEEPALIVE and TCP_KEEPIDLE of Linux
    assert ask(folder, url, "SELECT 1", options) == "1 True 77"
