"""Offers the only way to ask a language model.

Open a gateway with `app.services.ai.registry.open_gateway`, then ask it with a `Prompt`.
"""

from app.services.ai.base import (
    AssistantMessage,
    ChatMessage,
    ModelFailure,
    ModelGateway,
    ModelStream,
    ModelUsage,
    Piece,
    Prompt,
    Reasoning,
    ReasoningEffort,
    ToolCall,
    ToolResult,
    ToolSpec,
    UserMessage,
    estimate_tokens,
    full_name,
)

__all__ = [
    "AssistantMessage",
    "ChatMessage",
    "ModelFailure",
    "ModelGateway",
    "ModelStream",
    "ModelUsage",
    "Piece",
    "Prompt",
    "Reasoning",
    "ReasoningEffort",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "UserMessage",
    "estimate_tokens",
    "full_name",
]
