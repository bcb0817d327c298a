"""Defines the command that lists the processes, for whoever operates the project."""

import asyncio
from typing import TYPE_CHECKING

import typer

from app.cli._database import opened_database, print_table

if TYPE_CHECKING:
    from app.schemas.process import ProcessOverview, ProcessRead

app = typer.Typer()


@app.command()
def processes() -> None:
    """List the servers and workers that are alive, and those that died in the last ten minutes."""
    found = asyncio.run(_read()).processes
    if not found:
        typer.echo("No process runs.")
        return
    print_table(("id", "kind", "started", "last heartbeat", ""), map(_row, found))


def _row(process: "ProcessRead") -> tuple[object, ...]:
    kind = "server" if process.is_server else "worker" if process.is_worker else "command"
    kind += " and worker" if process.is_server and process.is_worker else ""
    times = (f"{at:%F %H:%M:%S}" for at in (process.created_at, process.last_heartbeat_at))
    return process.id, kind, *times, None if process.is_alive else "died"


async def _read() -> "ProcessOverview":
    from app.services.processes.overview import read_processes

    async with opened_database() as database:
        return await read_processes(database)
