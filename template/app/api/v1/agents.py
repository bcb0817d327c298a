from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.datastructures import State

from app.api.deps import CurrentUser, Cursor, DatabaseDep, IdempotencyKey, Limit
from app.api.v1.executions import Executions, execution_stream_of
from app.core.config import read_settings
from app.core.jobs import find_job
from app.repositories.principal import Scopes
from app.schemas.agent import AgentCreate, AgentRead, AgentUpdate
from app.schemas.base import PageRead
from app.schemas.execution import ExecutionCreate, ExecutionRead
from app.services.agents.dependencies import RunDependencies
from app.services.agents.metrics import open_metrics
from app.services.agents.notifier import open_notifier
from app.services.agents.replies import AgentReplies, ReplyDependencies
from app.services.agents.reply_stream import AgentReplyStream
from app.services.agents.runner import QUEUE, open_runner
from app.services.agents.service import AgentService
from app.services.agents.settings import ExecutionSettings
from app.services.agents.stream import open_execution_watch
from app.services.agents.structured_output import open_output_checker
from app.services.agents.tool_catalog import publish
from app.services.agents.toolbox import ToolSettings, open_tools
from app.services.chat.settings import ChatSettings
from app.services.jobs.worker import JobWorker, open_worker
from app.services.processes.process_pool import open_process_pool

TOOL_PROCESSES = 2
JOB = "run_execution"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    state = app.state
    state.execution_settings = settings = read_settings(ExecutionSettings)
    state.features.append("agents")
    state.limits["execution_input_characters"] = settings.execution_input_max_characters
    toolbox = open_tools(read_settings(ToolSettings))
    await publish(state.database, toolbox)
    async with AsyncExitStack() as stack:
        if state.is_server:
            await stack.enter_async_context(open_metrics(state.database, state.telemetry))
        state.notifier = await stack.enter_async_context(open_notifier(state.shutdown))
        watch = open_execution_watch(state.database, state.streams, state.notifier)
        state.execution_watch = await stack.enter_async_context(watch)
        state.output_checker = await stack.enter_async_context(open_output_checker())
        chat_settings = read_settings(ChatSettings)
        state.reply_dependencies = ReplyDependencies(
            settings, chat_settings, state.database, state.ai, state.notifier, toolbox, state.heartbeat.id
        )
        state.worker.slots[QUEUE] = settings.worker_concurrency if state.runs_jobs else 0
        if state.runs_jobs or not state.is_server:
            workers = await stack.enter_async_context(open_process_pool(TOOL_PROCESSES))
            dependencies = RunDependencies(
                settings,
                chat_settings,
                state.database,
                state.streams,
                state.ai,
                toolbox,
                state.budgets,
                state.notifier,
                state.shutdown,
                workers,
                state.output_checker,
            )
            runner = open_runner(dependencies, state.heartbeat, state.supervisor)
            if not state.is_server:
                state.reply_dependencies.open_worker = partial(_open_own_worker, state)
            state.runner = state.reply_dependencies.runner = await stack.enter_async_context(runner)
        state.agent_replies = partial(_replies_of, state)
        yield


def _replies_of(state: State, user_id: UUID, scopes: Scopes = None) -> AgentReplies:
    """Lets agents write replies of conversations."""
    return AgentReplies(
        state.reply_dependencies,
        AgentReplyStream(state.database, execution_stream_of(state, user_id), user_id),
        user_id,
        may_act=scopes is None or "agents" in scopes,
    )


def _open_own_worker(state: State, user_id: UUID) -> AbstractAsyncContextManager[None]:
    """Runs the executions of one person while the block lasts, for commands, which run no jobs."""
    worker = JobWorker({JOB: find_job(JOB)}, state.settings, state, only_user=user_id)
    return open_worker(worker, state.settings, state.supervisor)


router = APIRouter(prefix="/agents", tags=["agents"], lifespan=lifespan)


async def agent_service(request: Request, database: DatabaseDep, user: CurrentUser) -> AgentService:
    state = request.app.state
    return AgentService(database, state.ai, state.output_checker, user.id)


Agents = Annotated[AgentService, Depends(agent_service)]


@router.post("", status_code=201)
async def create_agent(data: AgentCreate, agents: Agents) -> AgentRead:
    return await agents.create(data)


@router.get("")
async def list_agents(agents: Agents, limit: Limit = 50, cursor: Cursor = None) -> PageRead[AgentRead]:
    return await agents.list(limit, cursor)


@router.get("/{agent_id}")
async def read_agent(agent_id: UUID, agents: Agents) -> AgentRead:
    return await agents.get(agent_id)


@router.patch("/{agent_id}")
async def update_agent(agent_id: UUID, data: AgentUpdate, agents: Agents) -> AgentRead:
    """Changes the fields that are sent. Executions that have begun keep the values that they began with."""
    return await agents.update(agent_id, data)


@router.delete("/{agent_id}", status_code=204)
async def delete_agent(agent_id: UUID, agents: Agents) -> None:
    """Deletes an agent. Its executions are kept, and those that are running go on."""
    await agents.delete(agent_id)


@router.post("/{agent_id}/execute", status_code=202)
async def execute_agent(
    agent_id: UUID,
    data: ExecutionCreate,
    request: Request,
    response: Response,
    executions: Executions,
    *,
    key: IdempotencyKey = None,
) -> ExecutionRead:
    """Queues an execution, which a worker runs; the header `Location` has its path."""
    execution = await executions.execute(agent_id, data, key)
    path = request.app.url_path_for("read_execution", execution_id=execution.id)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}{path}"
    return execution
