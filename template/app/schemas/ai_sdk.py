"""Defines what chats of the AI SDK send and load."""

from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import Field, model_validator

from app.core.reasoning import ReasoningEffort
from app.models.conversation import CLIENT_ID_CHARACTERS
from app.schemas.base import Body, Read, Text
from app.schemas.client_tool import ClientTools
from app.schemas.message import ModelName

MAX_VALUES = 5_000

ChatId = Annotated[Text, Field(min_length=1, max_length=CLIENT_ID_CHARACTERS)]
"""Names a conversation: by its own id, or by one that the client has made up."""


class ChatRequest(Body):
    """Sends a message, answers one again, or answers tool calls. The service has the history; only the end is read."""

    id: ChatId
    messages: Annotated[list[Any], Field(min_length=1)]
    """Lists messages as the client has them. Of most requests the last one is enough."""
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: Text | None = None
    """Names the message that is edited, answered again or continued, if it is not the last one."""
    agent_id: UUID | None = None
    """Asks this agent, or with null none; left out, the one of the conversation."""
    model: ModelName | None = None
    reasoning_effort: ReasoningEffort | None = None
    tools: ClientTools = Field(default=[])
    """Lets the agent call tools that the client runs."""

    @model_validator(mode="before")
    @classmethod
    def _has_few_values(cls, data: Any) -> Any:
        """Limits what is validated; messages are not, of which a client sends all that it has."""
        fields = cast("dict[str, Any]", data if isinstance(data, dict) else {})
        if _has_more([value for name, value in fields.items() if name != "messages"], MAX_VALUES):
            raise ValueError(f"besides the messages there must be at most {MAX_VALUES} values")
        return cast("Any", data)


def _has_more(values: list[Any], limit: int) -> bool:
    """Tells whether there are more values than the limit in these, at any depth."""
    left = values
    while left and limit >= 0:
        value = left.pop()
        limit -= 1
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return limit < 0


class ChatMessages(Read):
    id: str
    messages: list[dict[str, Any]]
    """Lists the newest messages of the branch that is shown, as the client's `messages`, oldest first."""
