"""Provides what tests of background jobs share."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy import select, update

from app.core.database import Database
from app.core.jobs import jobs
from app.models.job import BackgroundJob
from app.repositories.job import JobRepository
from tests.conftest import client_for, sign_in


@contextmanager
def own_jobs(*names: str) -> Generator[None]:
    """Forgets jobs of these names, which a project may have, and at the end all those that a test has defined."""
    before = dict(jobs)
    for name in names:
        jobs.pop(name, None)
    try:
        yield
    finally:
        jobs.clear()
        jobs.update(before)


async def enqueue(database: Database, name: str, **options: Any) -> None:
    arguments = options.pop("arguments", {})
    async with database.write() as session:
        await JobRepository(session).enqueue(name, arguments, **options)


async def rows(database: Database, name: str) -> list[BackgroundJob]:
    async with database.read() as session:
        found = select(BackgroundJob).where(BackgroundJob.name == name).order_by(BackgroundJob.id)
        return list(await session.scalars(found))


async def change(database: Database, name: str, **values: Any) -> None:
    async with database.write() as session:
        await session.execute(update(BackgroundJob).where(BackgroundJob.name == name).values(**values))


async def new_user(app: FastAPI, email: str) -> UUID:
    async with client_for(app) as client:
        client.headers.update(await sign_in(client, email))
        return UUID((await client.get("/api/v1/users/me")).json()["id"])
