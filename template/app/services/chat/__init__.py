"""Chat: conversations, and replies that outlive the requests that asked for them."""

from app.services.chat.messages import ChatService

__all__ = ["ChatService"]
