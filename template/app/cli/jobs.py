"""Defines the commands for background jobs, for whoever operates the project."""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from app.cli._database import opened_database
from app.core.commands import full_command
from app.core.errors import SetupError

SHOWN = 100

app = typer.Typer(name="jobs", help="See background jobs, retry and delete them.", no_args_is_help=True)


@app.command("list")
def list_jobs() -> None:
    """Count the jobs of each name, and list those that failed, newest first."""
    typer.echo("\n".join(asyncio.run(_list()) or ["There are no jobs."]))


@app.command()
def retry(
    ids: Annotated[list[UUID] | None, typer.Argument(help="The jobs to run again; if left out, all of them.")] = None,
) -> None:
    """Run failed jobs again, with as many attempts as new ones."""
    typer.echo(f"Put {_jobs(asyncio.run(_retry(ids)))} back into the queue.")


@app.command()
def delete(name: Annotated[str, typer.Argument(help="The name of the jobs.")]) -> None:
    """Delete the jobs of a name that wait or failed, such as those of a function that is gone."""
    typer.echo(f"Deleted {_jobs(asyncio.run(_delete(name)))}.")


def _jobs(number: int) -> str:
    return f"{number} {'job' if number == 1 else 'jobs'}"


async def _list() -> list[str]:
    from app.jobs import jobs
    from app.repositories.job import JobRepository

    async with opened_database() as database, database.read() as session:
        stored = JobRepository(session)
        lines = [
            f"{name}: {', '.join(f'{number} {status}' for status, number in sorted(of.items()))}"
            + ("" if name in jobs else ", but no module of app/jobs/ defines it")
            for name, of in sorted((await stored.count_by_name()).items())
        ]
        for job in await stored.list_failed(SHOWN):
            lines.append(f"{job.id} {job.name}: {job.error} (attempt {job.attempts}, {job.failed_at:%F %H:%M} UTC)")
    return lines


async def _retry(ids: list[UUID] | None) -> int:
    from app.repositories.job import JobRepository

    async with opened_database() as database, database.write() as session:
        retried = await JobRepository(session).retry_failed(ids)
        if lacking := [id for id in ids or () if id not in retried]:
            raise SetupError(
                f"No job {lacking[0]} failed, so none was put back; {full_command('jobs list')} lists those that did."
            )
        return len(retried)


async def _delete(name: str) -> int:
    from app.repositories.job import JobRepository

    async with opened_database() as database, database.write() as session:
        return await JobRepository(session).delete_of_name(name)
