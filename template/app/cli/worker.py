"""Defines the command of a process that runs background jobs and serves nothing."""

import asyncio
from typing import Any

import typer

from app.cli._settings import load_settings
from app.core.shutdown import STOPPING

SINGLE_WORKER_ADVICE = "cannot share a file: stop it (a server is a worker, too) or set DATABASE_URL to PostgreSQL"

app = typer.Typer()


@app.command()
def worker() -> None:
    """Run background jobs, beside the servers, until Ctrl-C."""
    from app.core.logging import configure_logging
    from app.main import create_app

    settings = load_settings()
    configure_logging(settings)
    application = create_app(settings, is_server=True)
    application.state.is_worker = True
    if settings.database_url.get_backend_name() == "sqlite":
        application.state.alone = SINGLE_WORKER_ADVICE
    asyncio.run(_work(application))


async def _work(app: Any) -> None:
    leave = asyncio.Event()
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, leave.set)
    async with app.router.lifespan_context(app):
        typer.echo("Working. Ctrl-C ends it.")
        await leave.wait()
