"""Provides chat: conversations, and replies that go on when the request that asked for them has ended."""

from app.services.chat.messages import ChatService

__all__ = ["ChatService"]
