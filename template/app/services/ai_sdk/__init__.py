"""Speaks the language of the AI SDK: what its chats send, and the chunks and messages that they understand."""
