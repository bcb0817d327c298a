"""Speaks OpenAI's API: models, and chat completions. Its clients need an address and a key, nothing else."""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from math import ceil
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse

from app.api.deps import CurrentUser, IdempotencyKey
from app.api.disconnects import ClientLeft, while_connected
from app.api.errors import ErrorFormat, Failure, failure
from app.api.sse import DATA_STREAM, KEEP_ALIVE, STREAM_SLOT, event_stream
from app.core.errors import AppError
from app.models.base import now
from app.repositories.principal import Scopes
from app.schemas.chat_completion import ChatCompletion, ChatCompletionCreate, ErrorRead, ModelList, ModelRead
from app.services.ai import ModelFailure
from app.services.completions.base import AGENT, AgentCompleter, CompletionEnd, ListedModel, Step
from app.services.completions.chunks import DONE, Chunks, collect, to_error
from app.services.completions.models import CompletionDependencies, ModelCompletions, open_running
from app.services.completions.service import CompletionService

T = TypeVar("T")

PREFIX = "/v1"
STATUSES = {
    "account_inactive": 403,
    "cancelled": 400,
    "budget_exhausted": 402,
    "content_filtered": 400,
    "context_too_long": 400,
    "internal": 500,
    "interrupted": 503,
    "limit_reached": 400,
    "model_overloaded": 503,
    "model_quota": 503,
    "model_timeout": 504,
    "refused": 400,
}
"""Maps the codes with which an answer can fail to statuses; for others it is that of a gateway, 502."""


_ALTERNATIVE = re.compile(r"\.(system|developer|user|assistant|tool|str|[A-Z]\w*|[^.]*\[[^.]*)(?=\.|\Z)")
"""Matches what names one of several forms of a value, in the path to a field that is refused."""
NO_PATH = f"There is no such path here; there are {PREFIX}/models and {PREFIX}/chat/completions."
NOT_AGAIN = {"x-should-retry": "false"}
"""Keeps OpenAI's clients from asking again by themselves, since an agent's tools may have run."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    state = app.state
    async with open_running(state.heartbeat.id, state.shutdown) as running:
        state.completions = CompletionDependencies(
            state.chat_settings, state.database, state.ai, state.chat_limits, running, now()
        )
        yield


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorRead} for status in (400, 401, 402, 403, 404, 409, 413, 429, 500, 502, 503, 504)
}
router = APIRouter(prefix=PREFIX, tags=["chat"], lifespan=lifespan, responses=ERRORS)


def tell(request: Request, failure: Failure) -> Response:
    """Tells of a failure in OpenAI's form. A 422 becomes the 400 of OpenAI, since LangChain asks again after a 422."""
    status = 400 if failure.status == 422 else failure.status
    detail = failure.detail if failure.status != 404 or "route" in request.scope else NO_PATH
    fields = [(_ALTERNATIVE.sub("", error.field.removeprefix("body.")), error.message) for error in failure.errors]
    content = to_error(status, failure.code, detail, fields)
    return JSONResponse(content, status, failure.headers)


error_formats: dict[str, ErrorFormat] = dict.fromkeys((PREFIX, f"{PREFIX}/chat/completions", f"{PREFIX}/models"), tell)
"""Tells errors in OpenAI's form below these paths, also where the API has the same prefix."""


async def completion_service(request: Request, user: CurrentUser) -> CompletionService:
    state = request.app.state
    agents: Callable[[UUID, Scopes], AgentCompleter] | None = getattr(state, "agent_completions", None)
    models = ModelCompletions(state.completions, user.id)
    return CompletionService(state.completions, models, agents and agents(user.id, user.scopes))


Completions = Annotated[CompletionService, Depends(completion_service)]


@router.get("/models")
async def list_models(completions: Completions) -> ModelList:
    """Lists the models that may be asked, and the agents."""
    return ModelList(data=list(map(_to_read, await completions.list_models())))


@router.get("/models/{model_id:path}")
async def read_model(model_id: Annotated[str, Path(min_length=1)], completions: Completions) -> ModelRead:
    return _to_read(await completions.get_model(model_id))


@router.post("/chat/completions", response_model=ChatCompletion, responses=DATA_STREAM, dependencies=[STREAM_SLOT])
async def create_chat_completion(
    data: ChatCompletionCreate, request: Request, completions: Completions, key: IdempotencyKey = None
) -> Response:
    """Answers the messages, whole or as a stream of chunks. Whoever leaves stops it, unless it has a key."""
    completion = await completions.begin(data, key)
    steps = completion.follow()
    found: Mapping[str, Any] | Step | Exception = ClientLeft("The client has left.")
    try:
        async with while_connected(request):
            found = await _expect(anext(steps) if data.stream else collect(completion, data.model, steps))
    finally:
        if not data.stream or isinstance(found, Exception):
            await steps.aclose()
    if isinstance(found, Exception):
        failed = _to_failure(found)
        once = NOT_AGAIN if data.model.startswith(AGENT) and key is None else {}
        return tell(request, replace(failed, headers={**failed.headers, **once}))
    if isinstance(found, Mapping):
        return JSONResponse(found)
    with_usage = bool(data.stream_options and data.stream_options.include_usage)
    return event_stream(_frames(Chunks(completion, data.model, with_usage=with_usage), found, steps))


async def _expect(result: Awaitable[T]) -> T | Exception:
    """Returns what an answer begins with, or why it failed: the status is not sent yet."""
    try:
        return await result
    except (AppError, ModelFailure) as error:
        return error


async def _frames(chunks: Chunks, first: Step, steps: AsyncGenerator[Step]) -> AsyncGenerator[bytes]:
    async with aclosing(steps):
        yield chunks.begin()
        step: Step = first
        try:
            while True:
                if step is None:
                    yield KEEP_ALIVE
                for chunk in chunks.write(step):
                    yield chunk
                if isinstance(step, CompletionEnd):
                    break
                step = await anext(steps)
        except (AppError, ModelFailure) as error:
            failed = _to_failure(error)
            yield f"data: {json.dumps(to_error(failed.status, failed.code, failed.detail))}\n\n".encode()
            return
        yield DONE


def _to_failure(error: Exception) -> Failure:
    if not isinstance(error, ModelFailure):
        return failure(error)
    headers = {} if error.retry_after is None else {"Retry-After": str(ceil(error.retry_after))}
    return Failure(STATUSES.get(error.code, 502), error.code, str(error), headers)


def _to_read(model: ListedModel) -> ModelRead:
    return ModelRead(id=model.id, created=int(model.created_at.timestamp()), owned_by=model.owner, name=model.name)
