"""Reads the events of an execution as an answer that cannot be withdrawn, without what the agent's own tools do."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from app.core.errors import AppError
from app.services.ai import ModelFailure, Reasoning, ToolCall
from app.services.completions.base import CompletionEnd, Interrupted, Step

_BETWEEN_TEXTS = "\n\n"
_ENDS_OF_CALLS = {"tool.returned", "tool.failed", "subagent.completed"}


class ApprovalRequired(AppError):
    """Ends an answer that waits for a person, for which OpenAI's clients cannot ask; they try again after a 409."""

    status, code = 400, "approval_required"

    def __init__(self, execution_id: str, tool_call_id: str) -> None:
        """Takes the execution that asks, which may be that of a subagent."""
        super().__init__(
            f"A tool of the agent waits for approval: approve {tool_call_id} at POST /executions/{execution_id}/"
            "approvals. If this request had an Idempotency-Key, send it again then."
        )


class AnswerReader:
    """Turns events into steps. With `given`, it begins after the results of these calls."""

    def __init__(self, given: Collection[str] = ()) -> None:
        self._lacking = set(given)
        self._said = self._shown = ""
        """Holds what was sent of the text and of the reasoning of the model's answer that is under way."""
        self._has_text = False
        self._open: dict[str, ToolCall] = {}
        """Holds the calls of the last answer that have no result yet."""
        self._asked: list[ToolCall] = []
        self._input_tokens = self._output_tokens = 0
        self._input_tokens_before = self._output_tokens_before = 0
        """Counts what was used before the results were given, of which the answer before has told."""
        self._code: str | None = None

    @property
    def skips(self) -> bool:
        return bool(self._lacking)

    def read(self, type: str, data: Mapping[str, Any]) -> Iterator[Step]:
        """Yields what an event adds to the answer. Raises ModelFailure, Interrupted."""
        if type in _ENDS_OF_CALLS:
            self._open.pop(data["tool_call_id"], None)
            self._lacking.discard(data["tool_call_id"])
        elif type.startswith("execution."):
            yield from self._read_end(type, data)
        elif not self.skips:
            yield from self._read_step(type, data)
        elif type == "model.completed":
            self._note_calls(data)
            self._input_tokens_before += data["input_tokens"]
            self._output_tokens_before += data["output_tokens"]

    def _read_step(self, type: str, data: Mapping[str, Any]) -> Iterator[Step]:
        match type:
            case "model.started" if self._said:
                raise Interrupted("The answer was begun anew by another process; ask again.")
            case "model.delta":
                yield from self._say(data["text"])
            case "reasoning.delta":
                self._shown += data["text"]
                yield Reasoning(data["text"])
            case "model.completed":
                yield from self._complete(data)
            case "result.requested":
                yield from self._ask(data)
            case _:
                pass

    def _read_end(self, type: str, data: Mapping[str, Any]) -> Iterator[Step]:
        match type:
            case "execution.completed":
                yield from self._end(data)
            case "execution.failed":
                raise ModelFailure(data["code"], data["detail"])
            case "execution.cancelled":
                raise ModelFailure("cancelled", "The execution was cancelled.")
            case _:
                pass

    def _say(self, text: str) -> Iterator[Step]:
        if not text:
            return
        if not self._said and self._has_text:
            yield _BETWEEN_TEXTS
        self._said += text
        self._has_text = True
        yield text

    def _complete(self, data: Mapping[str, Any]) -> Iterator[Step]:
        """Yields what was not heard of an answer of the model that is stored now."""
        self._note_calls(data)
        self._input_tokens += data["input_tokens"]
        self._output_tokens += data["output_tokens"]
        self._code = data.get("code")
        reasoning = data.get("reasoning", "")
        if reasoning and not (self._shown or self._said):
            yield Reasoning(reasoning)
        text = data["text"] if data.get("validation_error") is None else ""
        if not text.startswith(self._said):
            raise Interrupted("The answer was begun anew by another process; ask again.")
        yield from self._say(text[len(self._said) :])
        self._said = self._shown = ""

    def _note_calls(self, data: Mapping[str, Any]) -> None:
        self._open = {
            call["tool_call_id"]: ToolCall(call["tool_call_id"], call["name"], call["arguments"])
            for call in data["calls"]
        }

    def _ask(self, data: Mapping[str, Any]) -> Iterator[Step]:
        """Yields the client's calls of a step together, once all are known; they come after all others have ended."""
        self._asked.append(ToolCall(data["tool_call_id"], data["name"], data["arguments"]))
        if {call.id for call in self._asked} >= self._open.keys():
            yield self._asked
            yield CompletionEnd("tool_calls", self._input_tokens, self._output_tokens)

    def _end(self, data: Mapping[str, Any]) -> Iterator[Step]:
        if not self._has_text:
            yield from self._say(data["output"])
        used = data["usage"]  # that of subagents included
        input_tokens = used["input_tokens"] - self._input_tokens_before
        output_tokens = used["output_tokens"] - self._output_tokens_before
        yield CompletionEnd("length" if self._code == "length" else "stop", input_tokens, output_tokens)
