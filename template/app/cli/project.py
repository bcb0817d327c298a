"""Defines the commands that prepare the project and serve it."""

import json
import re
import secrets
from pathlib import Path
from typing import Annotated

import typer

from app.cli._console import prints_unicode
from app.cli._settings import load_settings
from app.core.commands import full_command
from app.core.errors import SetupError
from app.core.files import create_file, write_file

SECRET_LINE = re.compile(r"(?m)^(SECRET_KEY(?==)|\w+_PASSWORD(?==$)).*$")
"""Matches lines of `.env.example` that get a random value in `.env`: the secret key and empty passwords."""

Host = Annotated[str, typer.Option(help="The address to listen on: 0.0.0.0 is every one of IPv4, :: also of IPv6.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, show_default="PORT, else 8000", help="The port to listen on.")
]

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
def dev(host: Host = "127.0.0.1", port: Port = None) -> None:
    """Write .env, migrate the database and serve; restart whenever a file of the application changes."""
    from app.cli._server import listen, run_server
    from app.cli.db import bring_up_to_date, offer_migration
    from app.core.config import ROOT

    if _write_env():
        typer.echo("Wrote .env with a random SECRET_KEY.")
    settings = load_settings()
    listeners, url = listen(host, settings.port if port is None else port)
    bring_up_to_date(settings)
    offer_migration(settings)
    typer.echo(f"The API: {url}{settings.api_v1_prefix}")
    if settings.environment == "local":
        typer.echo(f"Its documentation: {url}/docs")
    typer.echo(f"Next: create an account with {full_command('users create EMAIL')}; README.md goes on from there")
    run_server(settings, listeners, url, reload_dir=ROOT / "app")


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Number of server processes; more need REDIS_URL.")] = 1,
) -> None:
    """Serve the application."""
    from app.cli._server import listen, run_server

    settings = load_settings()
    if workers > 1 and settings.redis_url is None:
        raise SetupError(f"{workers} workers need REDIS_URL, through which they share streams and limits: set it.")
    listeners, url = listen(host, settings.port if port is None else port)
    run_server(settings, listeners, url, workers=workers)


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
