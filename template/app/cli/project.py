"""Defines the commands that prepare the project and serve it."""

import json
import os
import re
import secrets
import signal
import socket
import sys
from math import ceil
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.cli._console import prints_unicode
from app.cli._settings import load_settings
from app.core.commands import full_command
from app.core.errors import SetupError
from app.core.files import create_file, write_file
from app.core.shutdown import STOPPING

if TYPE_CHECKING:
    from app.core.config import Settings

LAST_WORDS_SECONDS = 3
"""Gives the clients of a stopping server time to read how their streams ended."""

SECRET_LINE = re.compile(r"(?m)^(SECRET_KEY(?==)|\w+_PASSWORD(?==$)).*$")
"""Matches lines of `.env.example` that get a random value in `.env`: the secret key and empty passwords."""

Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 means every address.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")]

app = typer.Typer()


@app.command()
def init() -> None:
    """Write .env with random secrets. An existing file stays as it is."""
    from dotenv import dotenv_values

    from app.core.config import ENV_FILE, load_environment

    if _write_env():
        typer.echo(f"Wrote {ENV_FILE} with a random SECRET_KEY.")
        return
    typer.echo(f"{ENV_FILE} exists and stays as it is.")
    load_environment()  # which says so if it cannot be read
    if len(dotenv_values(ENV_FILE).get("SECRET_KEY") or "") < 32:
        typer.echo(f"It needs this line:\nSECRET_KEY={_secret()}")


@app.command()
def dev(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Write .env, migrate the database and serve; restart whenever a file of the application changes."""
    from app.cli.db import bring_up_to_date, offer_migration
    from app.core.config import ROOT

    if _write_env():
        typer.echo("Wrote .env with a random SECRET_KEY.")
    settings = load_settings()
    _check_port(host, port)
    bring_up_to_date(settings)
    offer_migration(settings)
    typer.echo(f"The API: http://{host}:{port}{settings.api_v1_prefix}")
    if settings.environment == "local":
        typer.echo(f"Its documentation: http://{host}:{port}/docs")
    typer.echo(f"Next: create an account with {full_command('users create EMAIL')}; README.md goes on from there")
    _serve(settings, host, port, reload_dir=ROOT / "app")


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Number of server processes; more need REDIS_URL.")] = 1,
) -> None:
    """Serve the application."""
    settings = load_settings()
    if workers > 1 and settings.redis_url is None:
        raise SetupError(f"{workers} workers need REDIS_URL, through which they share streams and limits: set it.")
    _check_port(host, port)
    _serve(settings, host, port, workers=workers)


@app.command()
def openapi(output: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None) -> None:
    """Print the OpenAPI document as JSON."""
    from app.main import create_app

    escaped = output is None and not prints_unicode()
    document = json.dumps(create_app(load_settings()).openapi(), indent=2, ensure_ascii=escaped)
    if output is None:
        typer.echo(document)
        return
    try:
        write_file(output, f"{document}\n".encode())
    except OSError as error:
        raise SetupError(f"{output} cannot be written ({error.strerror}).") from None


def _write_env() -> bool:
    """Writes .env; returns False when there is one. Raises SetupError."""
    from app.core.config import ENV_FILE, ROOT

    if ENV_FILE.exists():
        return False
    try:
        text = (ROOT / ".env.example").read_text(encoding="utf-8")
        filled = SECRET_LINE.sub(lambda line: f"{line[1]}={_secret()}", text)
        if "\nSECRET_KEY=" not in f"\n{filled}":
            filled = f"SECRET_KEY={_secret()}\n{filled}"
        return create_file(ENV_FILE, filled.encode())
    except ValueError:
        raise SetupError(f"{ROOT / '.env.example'} cannot be read: it must be a text file in UTF-8.") from None
    except OSError as error:
        raise SetupError(f"{ENV_FILE} cannot be written ({error.filename or 'disk'}: {error.strerror}).") from None


def _secret() -> str:
    return secrets.token_urlsafe(48)


def _check_port(host: str, port: int) -> None:
    """Raises SetupError when nothing can listen there, before the slow loading of the application."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
            probe.bind(address)
    except OSError as error:
        raise SetupError(
            f"Cannot listen on {host}:{port} ({error.strerror}): choose another --host or --port."
        ) from None


def _serve(settings: "Settings", host: str, port: int, *, reload_dir: Path | None = None, workers: int = 1) -> None:
    import uvicorn

    from app.core.logging import configure_logging

    if workers > 1:
        configure_logging(settings)  # the parent does not load the application, which would
    # uvicorn shuts down, then sends itself the signal again.
    for number in STOPPING:
        signal.signal(number, _end)
    uvicorn.run(
        "app.asgi:developed" if reload_dir else "app.asgi:app",
        factory=reload_dir is not None,
        host=host,
        port=port,
        workers=workers,
        reload=reload_dir is not None,
        reload_dirs=reload_dir and [str(reload_dir)],
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the application reads them itself, if TRUSTED_PROXIES allows it
        http="app.core.server_protocols:HttpProtocol",
        ws="app.core.server_protocols:WebSocketProtocol",
        ws_max_size=settings.socket_max_frame_bytes,
        ws_per_message_deflate=False,  # short texts hardly shrink, and each socket would keep a compressor
        timeout_graceful_shutdown=ceil(settings.shutdown_grace_seconds) + LAST_WORDS_SECONDS,
    )


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exits once: a terminal, `uv run` and a supervisor may each send a signal, and a second would interrupt this."""
    for number in STOPPING:
        signal.signal(number, _ignore)
    sys.exit(0)


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Replaces SIG_IGN, with which Python would report a signal that came but was not handled yet as lost."""
