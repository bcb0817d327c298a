"""Defines the command that lists executions, for whoever operates the project."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli._database import opened_database, print_table
from app.core.errors import SetupError

if TYPE_CHECKING:
    from app.schemas.execution import ExecutionOverview, ExecutionSummary

SHOWN = 100

app = typer.Typer(name="executions", help="See the executions of everyone.", no_args_is_help=True)


@app.command("list")
def list_executions(
    status: Annotated[str | None, typer.Option(help="Only those with this status, such as failed.")] = None,
) -> None:
    """List the newest executions of everyone, and count those that have not finished or finished within a day."""
    found = asyncio.run(_read(status))
    counts = ", ".join(f"{number} {status}" for status, number in sorted(found.counts.items()))
    typer.echo(counts or "None has been under way within a day.")
    if found.items:
        print_table(("id", "user", "agent", "status", "started", "tokens", "error"), map(_row, found.items))


def _row(item: "ExecutionSummary") -> tuple[object, ...]:
    started = None if item.started_at is None else f"{item.started_at:%F %H:%M:%S}"
    tokens = item.usage.input_tokens + item.usage.output_tokens
    error = None if item.error is None else f"{item.error.code}: {item.error.detail}"
    return item.id, item.email, item.agent_name, item.status, started, tokens, error


async def _read(status: str | None) -> "ExecutionOverview":
    from app.models.execution import ExecutionStatus
    from app.services.agents.overview import read_executions

    if status is not None and status not in set(ExecutionStatus):
        raise SetupError(f"There is no status {status}; those are {', '.join(ExecutionStatus)}.")
    of = None if status is None else ExecutionStatus(status)
    async with opened_database() as database:
        return await read_executions(database, SHOWN, None, of, None)
