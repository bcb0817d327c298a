"""Opens the worker of a process after everything that its jobs use, so that it also closes first."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from app.services.jobs.worker import open_worker


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Runs jobs, if this process does."""
    state = app.state
    if not state.runs_jobs:
        yield
        return
    async with open_worker(state.worker, state.settings, state.supervisor):
        yield


router = APIRouter(lifespan=lifespan)
