"""Lets agents answer the requests of OpenAI's clients, as the models `agent:ID`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from fastapi import APIRouter, FastAPI
from starlette.datastructures import State

from app.api.v1.executions import execution_stream_of
from app.repositories.principal import Scopes
from app.services.completions.agents import AgentCompletionDependencies, AgentCompletions


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    app.state.agent_completions = partial(_completions_of, app.state)
    yield


router = APIRouter(lifespan=lifespan)


def _completions_of(state: State, user_id: UUID, scopes: Scopes) -> AgentCompletions:
    dependencies = AgentCompletionDependencies(state.reply_dependencies, state.chat_limits, state.output_checker)
    return AgentCompletions(dependencies, execution_stream_of(state, user_id), user_id, scopes)
