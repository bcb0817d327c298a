"""Runs one execution from its stored events on, until it ends or has to wait."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog
from anyio import CancelScope, move_on_after
from structlog.contextvars import bound_contextvars

from app.core.database_errors import is_unavailable
from app.core.errors import AppError
from app.core.telemetry.spans import note_failure, traced
from app.core.text import storable
from app.models.execution import ExecutionStatus
from app.models.message import MessageStatus
from app.repositories.execution_queue import Claim
from app.schemas import execution_event as events
from app.schemas.execution import Configuration, Limits
from app.services.agents.configuration import client_tool_names, tool_specs
from app.services.agents.dependencies import RunDependencies
from app.services.agents.events import to_usage
from app.services.agents.journal import FEATURE, Journal, LeaseLost, StopRequested
from app.services.agents.reply_parts import ReplyParts
from app.services.agents.settling import describe_reply
from app.services.agents.structured_output import MAX_RETRIES, InvalidOutput, to_json
from app.services.agents.tool_calls import ToolCallHandler, to_event_call
from app.services.agents.transcript import InvalidAnswer, Transcript
from app.services.ai import AssistantMessage, ModelFailure, ModelUsage, Piece, Prompt

MAX_CONSECUTIVE_CRASHES = 5
"""Limits how many processes may die in a row without a completed step: the execution itself may kill them."""

log = structlog.stdlib.get_logger("app.executions")


class LimitReached(AppError):
    """Signals that the execution has used up one of its limits."""

    code = "limit_reached"


class AccountInactive(AppError):
    """Signals that the account that started the execution was deactivated."""

    code = "account_inactive"


class Run:
    def __init__(self, dependencies: RunDependencies, claim: Claim) -> None:
        self._dependencies = dependencies
        self._execution = claim.execution
        self._history = claim.history
        self._user_is_active = claim.user_is_active
        self._is_asking = bool(claim.begun)
        """Tells whether it is stored that the model is asked next."""
        self._journal = Journal(
            dependencies.database,
            dependencies.streams,
            dependencies.shutdown,
            claim,
            writes_titles=bool(dependencies.chat_settings.title_model),
        )
        self._scope = CancelScope()
        self._steps = CancelScope()
        self._text = self._reasoning = ""
        """Holds what the model has said in the step under way; `_reasoning` what it has shown of its reasoning."""
        self._used: ModelUsage | None = None

    async def __call__(self) -> bool:
        """Returns whether the execution has ended or waits."""
        execution = self._execution
        who = {"user_id": str(execution.user_id), "execution_id": str(execution.id)}
        with bound_contextvars(**who), traced("execution", agent_id=str(execution.agent_id), **who):
            await self._run()
        return not self._journal.is_open

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work()
        except LeaseLost:
            log.info("execution lease lost", execution_id=str(self._execution.id))
        finally:
            if self._journal.is_open:
                await self._journal.release()
            self._journal.close()
            self._dependencies.notifier.notify(self._execution.id, self._execution.parent_id)

    def cancel(self) -> None:
        """Stops the run at once; what was stored stays."""
        self._journal.is_patient = False
        self._scope.cancel()

    def stop(self) -> None:
        """Ends the execution with the text that there is."""
        self._journal.is_stopped = True
        self._steps.cancel()

    def _load(self) -> None:
        """Loads what the run goes on from, within the run, so that unreadable rows fail this execution only."""
        execution, history = self._execution, self._history
        self._configuration = Configuration.model_validate(execution.configuration)
        reply_id = execution.message_id
        is_alone = reply_id is None and execution.context is None
        prefix = "call" if is_alone else f"call_{execution.id.hex[-12:]}"  # unique in the conversation
        self._transcript = Transcript(
            execution.input,
            history.entries,
            context=execution.context or (),
            prefix=prefix,
            client_tools=client_tool_names(execution),
        )
        if reply_id is not None and execution.parent_id is None:
            self._journal.parts = ReplyParts(reply_id, history.happened)
        self._journal.is_stopped |= execution.stop_requested
        self._calls = ToolCallHandler(
            self._dependencies,
            execution,
            self._configuration,
            history=history,
            journal=self._journal,
            transcript=self._transcript,
        )

    async def _work(self) -> None:
        try:
            self._load()
            with move_on_after(self._limits.seconds - self._journal.used.seconds) as in_time:
                with self._steps, suppress(StopRequested):
                    await self._advance()
            if self._journal.is_stopped and self._journal.is_open:
                await self._end_stopped()
            elif in_time.cancelled_caught:
                raise LimitReached(f"The execution was stopped after {self._limits.seconds:g} s of work.")
        except ModelFailure as failure:
            await self._fail(failure.code, str(failure))
        except AppError as error:
            await self._fail(error.code, str(error))
        except LeaseLost:
            raise
        # An unexpected error ends the execution, too; its text goes to the log and not to the person.
        except Exception as error:
            if is_unavailable(error):  # the next run, here or elsewhere, goes on from what was stored
                log.warning("execution interrupted", execution_id=str(self._execution.id), error=type(error).__name__)
                return
            log.exception("execution failed", execution_id=str(self._execution.id))
            await self._fail("internal", "The execution failed inside this service.")

    async def _advance(self) -> None:
        """Takes steps until the execution ends or waits; when the process stops, another run takes the next step."""
        if not self._user_is_active:
            raise AccountInactive("The account was deactivated.")
        if not self._journal.sequence:
            self._journal.note(events.ExecutionStarted())
        if self._execution.consecutive_crashes > MAX_CONSECUTIVE_CRASHES:
            raise LimitReached(
                f"{self._execution.consecutive_crashes} processes in a row died while they ran this execution."
            )
        while self._goes_on:
            await self._step()
        if self._journal.is_open and not self._journal.is_stopped:
            await self._journal.commit()

    @property
    def _goes_on(self) -> bool:
        journal = self._journal
        return journal.is_open and not journal.is_stopped and not self._dependencies.notifier.stopping

    async def _step(self) -> None:
        if pending := self._transcript.pending:
            await self._calls.answer_next(pending)
        elif (answer := self._transcript.answer) is not None:
            await self._complete(answer)
        elif len(invalid := self._transcript.invalid_answers) > MAX_RETRIES:
            raise InvalidOutput(f"The model was asked {len(invalid)} times. {invalid[-1].validation_error}")
        else:
            await self._ask()

    async def _ask(self) -> None:
        self._check_limits()
        self._dependencies.ai.check(self._configuration.model_name)  # it may have been allowed only before
        prompt = self._prompt()
        await self._reserve(prompt)
        if not self._is_asking:
            started = events.ModelStarted(model=self._configuration.model_name, attempt=self._execution.attempt)
            self._journal.note(started)
            await self._journal.commit()
        self._is_asking = False
        async with self._dependencies.ai.ask(prompt) as stream:
            try:
                async for piece in stream:
                    self._say(piece)
            finally:
                self._used = stream.usage
                self._journal.add_usage(self._used)
            message = _storable(stream.message)
        if self._configuration.output_schema is None or message.tool_calls:
            self._note_answer(message)
        else:
            await self._note_output(self._configuration.output_schema, message)

    async def _note_output(self, schema: Mapping[str, Any], message: AssistantMessage) -> None:
        """Notes an answer that should fit the schema; if it does not, the model is told why in the next step."""
        output, error = await self._dependencies.output.read_answer(schema, message.text)
        if error is None:
            self._note_answer(replace(message, text=to_json(output)), output)
        else:
            said = (message.text, message.tool_calls, message.raw, message.code, message.reasoning)
            self._note_answer(InvalidAnswer(*said, validation_error=error))
            await self._journal.commit()  # its usage replaces what is reserved, before the next step reserves

    def _say(self, piece: Piece) -> None:
        """Streams a piece. Reasoning amid an answer is left out, since readers have it before the answer."""
        if isinstance(piece, str):
            text = storable(piece)
            self._text += text
            if self._configuration.output_schema is None:  # a part of an object is of no use
                self._journal.stream_text(text)
        elif not self._text:
            text = storable(piece.text)
            self._reasoning += text
            self._journal.stream_reasoning(text)

    def _note_answer(self, message: AssistantMessage, output: Mapping[str, Any] | None = None) -> None:
        calls, used = self._transcript.add(message), self._used or ModelUsage(self._configuration.model_name)
        self._journal.note(
            events.ModelCompleted(
                model=used.model,
                text=message.text,
                reasoning=self._reasoning,
                calls=list(map(to_event_call, calls)),
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                code=message.code,
                data=None if output is None else dict(output),
                validation_error=message.validation_error if isinstance(message, InvalidAnswer) else None,
            ),
            message,
        )
        self._text = self._reasoning = ""

    def _note_text(self, code: str) -> None:
        """Keeps the text of a step of a reply that does not come to its end, since a person has read it."""
        if self._journal.parts is None:
            return
        text = self._text if self._configuration.output_schema is None else ""
        if text or self._reasoning:
            self._note_answer(AssistantMessage(text, code=code))

    def _prompt(self) -> Prompt:
        agent, messages = self._configuration, tuple(self._transcript.messages)
        instructions = "\n\n".join(
            filter(None, (self._dependencies.chat_settings.ai_system_prompt, agent.instructions))
        )
        return Prompt(
            messages,
            instructions,
            agent.model_name,
            tool_specs(agent),
            agent.temperature,
            agent.reasoning_effort,
            agent.output_schema,
            agent.sampling,
            max_output_tokens=agent.max_output_tokens,
        )

    def _check_limits(self) -> None:
        """Raises LimitReached when the steps, tokens or dollars are used up."""
        limits, used = self._limits, self._journal.used
        for name in ("steps", "tokens", "dollars"):
            if (limit := getattr(limits, name)) and getattr(used, name) >= limit:
                raise LimitReached(f"The execution has used up its {limit} {name}.")

    async def _reserve(self, prompt: Prompt) -> None:
        """Reserves in the person's budgets the most that the request may use. Raises BudgetExhausted."""
        budgets, execution = self._dependencies.budgets, self._execution
        if budgets.active:
            user_id, id, amount = execution.user_id, execution.id, budgets.at_most(prompt)
            self._journal.has_reserved = True
            # By the journal, which retries: results of tools that are noted, but not stored yet, must not be lost.
            with CancelScope(shield=True):  # a stop amid it could leave the connection in its transaction
                await self._journal.transact(lambda session: budgets.reserve(session, user_id, id, FEATURE, amount))

    async def _complete(self, answer: AssistantMessage) -> None:
        completed = events.ExecutionCompleted(output=answer.text, usage=to_usage(self._execution))
        self._journal.note(completed)
        await self._end(ExecutionStatus.completed, output=answer.text)

    async def _end_stopped(self) -> None:
        self._note_text("stopped")
        self._journal.note(events.ExecutionCancelled())
        await self._end(ExecutionStatus.cancelled)

    async def _fail(self, code: str, detail: str) -> None:
        note_failure(code)
        self._note_text(code)
        self._journal.note(events.ExecutionFailed(code=code, detail=detail, usage=to_usage(self._execution)))
        await self._end(ExecutionStatus.failed, code=code, detail=detail[:500])

    async def _end(self, status: ExecutionStatus, **values: Any) -> None:
        await self._journal.end(status, self._describe_reply({"status": status, **values}), **values)

    def _describe_reply(self, end: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Returns how the reply ends that the execution writes, if it writes one."""
        if self._journal.parts is not None:
            most = self._dependencies.chat_settings.history_max_tokens
            return describe_reply(self._execution, end, self._journal.parts, self._transcript, most)
        if self._execution.message_id is None or self._execution.parent_id is not None:
            return None
        return {**end, "status": MessageStatus.failed}  # what is stored of it cannot be read

    @property
    def _limits(self) -> Limits:
        return self._configuration.limits


def _storable(message: AssistantMessage) -> AssistantMessage:
    calls = [
        replace(call, name=storable(call.name), arguments=storable(call.arguments).strip() or "{}")
        for call in message.tool_calls
    ]
    return replace(message, text=storable(message.text), tool_calls=calls, reasoning=storable(message.reasoning))
