"""Lets a model answer what a client brings: nothing is stored but what it used, and with a key the answer."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import structlog
from anyio import CancelScope, move_on_after
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import AccountGone
from app.core.retries import retry
from app.core.security import fingerprint
from app.core.shutdown import Shutdown
from app.core.streams.base import KEEP_ALIVE_SECONDS
from app.core.telemetry.spans import note_failure, traced
from app.core.text import storable
from app.models.base import now
from app.repositories.idempotency_key import IdempotencyRepository, KeptAnswer
from app.repositories.usage import UsageRecord, UsageRepository
from app.services.ai import (
    AssistantMessage,
    ModelFailure,
    ModelGateway,
    ModelStream,
    ModelUsage,
    Piece,
    Prompt,
    Reasoning,
    ToolCall,
    ToolSpec,
)
from app.services.chat.limits import ChatLimits
from app.services.chat.replies import FEATURE
from app.services.chat.settings import ChatSettings
from app.services.completions.base import (
    CompletionEnd,
    CompletionRequest,
    FinishReason,
    Interrupted,
    Step,
)
from app.services.usage.metrics import count_usage

log = structlog.stdlib.get_logger("app.completions")


class Running:
    """Holds the answers that this process generates, each in a task of its own."""

    def __init__(self, process_id: UUID) -> None:
        self.process_id = process_id
        self.is_closing = False
        self._tasks: dict[asyncio.Task[None], ModelCompletion] = {}

    def start(self, completion: "ModelCompletion") -> None:
        task = asyncio.create_task(completion.run())
        self._tasks[task] = completion
        task.add_done_callback(self._tasks.pop)

    async def finish(self, seconds: float) -> None:
        """Waits for the answers that are under way; those that take longer end without the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        self.is_closing = True
        for completion in self._tasks.values():
            completion.cancel()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def open_running(process_id: UUID, shutdown: Shutdown) -> AsyncGenerator[Running]:
    """Opens the answers of this process. At shutdown, those under way get the time that is left to end regularly."""
    running = Running(process_id)
    finishing = asyncio.create_task(_finish(running, shutdown))
    try:
        yield running
    finally:
        shutdown.request()
        await finishing
        await running.finish(shutdown.remaining())  # those that started after the shutdown was requested


async def _finish(running: Running, shutdown: Shutdown) -> None:
    await shutdown.requested.wait()
    await running.finish(shutdown.remaining())


@dataclass(frozen=True, slots=True)
class CompletionDependencies:
    """Holds what the answers of all people need."""

    settings: ChatSettings
    database: Database
    ai: ModelGateway
    chat_limits: ChatLimits
    running: Running
    opened_at: datetime


class ModelCompletions:
    """Answers one person's requests."""

    def __init__(self, dependencies: CompletionDependencies, user_id: UUID) -> None:
        self._dependencies = dependencies
        self._user_id = user_id

    async def begin(self, request: CompletionRequest, key: str | None) -> "ModelCompletion | KeptCompletion":
        """Asks the model. Raises Invalid, TooManyRequests, TooManyReplies, BudgetExhausted, Conflict."""
        needs, prompt, id = self._dependencies, self._prompt(request), uuid7()
        await needs.chat_limits.send(self._user_id)
        async with needs.database.write(self._user_id) as session:
            if key and (kept := await self._claim(session, request, key, id)):
                return KeptCompletion(kept)
            await needs.chat_limits.reserve(session, self._user_id, id, prompt)
        return ModelCompletion(needs, self._user_id, id, prompt, is_kept=key is not None)

    async def _claim(self, session: AsyncSession, request: CompletionRequest, key: str, id: UUID) -> KeptAnswer | None:
        asked = fingerprint(f"completion {request!r}")
        keys = IdempotencyRepository(session, self._user_id)
        return await keys.claim_answer(key, asked, id, self._dependencies.running.process_id)

    def _prompt(self, request: CompletionRequest) -> Prompt:
        settings = self._dependencies.settings
        return Prompt(
            request.messages,
            "\n\n".join(filter(None, (settings.ai_system_prompt, request.instructions))),
            request.model,
            [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in request.tools],
            request.temperature,
            request.reasoning_effort,
            request.output_schema,
            request.sampling,
            request.tool_choice,
            request.max_output_tokens,
        )


class ModelCompletion:
    """Represents the answer of a model, which it gives in a task of its own."""

    def __init__(
        self, dependencies: CompletionDependencies, user_id: UUID, id: UUID, prompt: Prompt, *, is_kept: bool
    ) -> None:
        self.id = id
        self.created_at = now()
        self._dependencies = dependencies
        self._user_id = user_id
        self._prompt = prompt
        self._is_kept = is_kept
        """Tells whether the client may come back for the answer, which therefore goes on when it leaves."""
        self._steps = asyncio.Queue[Step | Exception]()
        self._scope = CancelScope()
        dependencies.running.start(self)

    async def follow(self) -> AsyncGenerator[Step]:
        """Yields the answer. Raises ModelFailure, Interrupted."""
        try:
            while True:
                step: Step | Exception = None
                with move_on_after(KEEP_ALIVE_SECONDS):
                    step = await self._steps.get()
                if isinstance(step, Exception):
                    raise step
                yield step
                if isinstance(step, CompletionEnd):
                    return
        finally:
            if not self._is_kept:
                self.cancel()

    def cancel(self) -> None:
        """Stops the model; what it has used until then is recorded."""
        self._scope.cancel()

    async def run(self) -> None:
        """Asks the model. Nobody learns of the end before what it has used is stored."""
        with traced("completion", user_id=str(self._user_id), completion_id=str(self.id)):
            stream, failure = await self._ask()
            steps = [failure] if failure or stream is None else _end(self.id, stream)
            kept = None if failure or stream is None else _to_json(stream.message, steps)
            await self._settle(None if stream is None else stream.usage, kept)
        for step in steps:
            self._steps.put_nowait(step)

    async def _ask(self) -> tuple[ModelStream | None, Exception | None]:
        """Returns what has been asked, if anything has, and why it failed, if it did."""
        stream: ModelStream | None = None
        try:
            with self._scope:
                async with self._dependencies.ai.ask(self._prompt) as stream:
                    async for piece in stream:
                        self._say(piece)
                return stream, None
        except ModelFailure as failure:
            note_failure(failure.code)
            return stream, failure
        # The log has the place but not the text of the error, which may quote a key or what a person wrote.
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            log.error("completion failed", completion_id=str(self.id), error=type(error).__name__, where=where)
            return stream, ModelFailure("internal", "The answer failed inside this service.")
        return stream, Interrupted("The answer was interrupted; ask again.")

    def _say(self, piece: Piece) -> None:
        if isinstance(piece, Reasoning):
            self._steps.put_nowait(Reasoning(storable(piece.text)))
        elif text := storable(piece):
            self._steps.put_nowait(text)

    async def _settle(self, usage: ModelUsage | None, kept: dict[str, Any] | None) -> None:
        used = usage and UsageRecord(usage.model, usage.input_tokens, usage.output_tokens, usage.cost)

        async def store() -> None:
            async with self._dependencies.database.write(self._user_id) as session:
                await UsageRepository(session, self._user_id).record(self.id, FEATURE, used)
                if self._is_kept:
                    await IdempotencyRepository(session, self._user_id).keep_answer(self.id, kept)

        running, subject = self._dependencies.running, {"completion_id": str(self.id)}
        try:
            await retry(store, "write of a completion", is_patient=lambda: not running.is_closing, **subject)
        except AccountGone:
            return
        except SQLAlchemyError:
            log.exception("completion write failed", **subject)
        count_usage(FEATURE, used)


class KeptCompletion:
    """Gives an answer again."""

    def __init__(self, kept: KeptAnswer) -> None:
        self.id = kept.subject_id
        self.created_at = kept.created_at
        self._answer = kept.answer

    async def follow(self) -> AsyncGenerator[Step]:
        answer = self._answer
        if answer["reasoning"]:
            yield Reasoning(answer["reasoning"])
        if answer["text"]:
            yield answer["text"]
        if answer["calls"]:
            yield [ToolCall(**call) for call in answer["calls"]]
        yield CompletionEnd(**answer["end"])


def _end(id: UUID, stream: ModelStream) -> list[Step]:
    """Returns the calls of functions, with ids that are unique, and the end."""
    message, usage = stream.message, stream.usage
    calls = [
        ToolCall(f"call_{id.hex[-12:]}_{number}", storable(call.name), storable(call.arguments).strip() or "{}")
        for number, call in enumerate(message.tool_calls, start=1)
    ]
    reason: FinishReason = "tool_calls" if calls else "length" if message.code == "length" else "stop"
    end = CompletionEnd(reason, usage.input_tokens, usage.output_tokens)
    return [calls, end] if calls else [end]


def _to_json(message: AssistantMessage, steps: Sequence[Step | Exception]) -> dict[str, Any]:
    """Returns an answer as `KeptCompletion` reads it."""
    *calls, end = steps
    return {
        "reasoning": storable(message.reasoning),
        "text": storable(message.text),
        "calls": [asdict(call) for each in calls for call in cast("Sequence[ToolCall]", each)],
        "end": asdict(cast("CompletionEnd", end)),
    }
