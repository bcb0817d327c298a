"""Offers the only way to ask a language model.

Open a gateway with `app.services.ai.registry.open_gateway`, then ask it with a `Prompt`.
"""

from app.services.ai.base import (
    TOKENS_PER_PICTURE,
    AssistantMessage,
    ChatMessage,
    Image,
    ModelFailure,
    ModelGateway,
    ModelStream,
    ModelUsage,
    Piece,
    Prompt,
    Reasoning,
    ReasoningEffort,
    Sampling,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
    UserMessage,
    estimate_tokens,
    full_name,
)

__all__ = [
    "TOKENS_PER_PICTURE",
    "AssistantMessage",
    "ChatMessage",
    "Image",
    "ModelFailure",
    "ModelGateway",
    "ModelStream",
    "ModelUsage",
    "Piece",
    "Prompt",
    "Reasoning",
    "ReasoningEffort",
    "Sampling",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "ToolSpec",
    "UserMessage",
    "estimate_tokens",
    "full_name",
]
