"""Provides what tests of chat share: paths, requests, and scripted models."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from app.services.ai import AssistantMessage, ModelUsage, Piece, Prompt, ToolResult, UserMessage
from tests.sse import Event, parse_all

SEND, STREAM, CONVERSATIONS = "/api/v1/chat/messages", "/api/v1/chat/messages/stream", "/api/v1/chat/conversations"


async def stream(client: httpx2.AsyncClient, content: str, **more: Any) -> list[Event]:
    return events_of(await client.post(STREAM, json={"content": content, **more}))


async def resume(client: httpx2.AsyncClient, reply_id: str, offset: int | str | None = None) -> list[Event]:
    headers = {} if offset is None else {"Last-Event-ID": str(offset)}
    return events_of(await client.get(f"{SEND}/{reply_id}/stream", headers=headers))


def events_of(answer: httpx2.Response) -> list[Event]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parse_all(answer.text)


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "message.delta")


async def messages(client: httpx2.AsyncClient, conversation_id: str, **query: Any) -> dict[str, Any]:
    return (await client.get(f"{CONVERSATIONS}/{conversation_id}/messages", params=query)).json()


async def all_messages(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """Returns the messages of the only conversation that exists, in order."""
    [conversation] = (await client.get(CONVERSATIONS)).json()["items"]
    return (await messages(client, conversation["id"]))["items"]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Polls until the condition holds; for changes by another process, which sends no signal to the test."""
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def stored(client: httpx2.AsyncClient, count: int) -> list[dict[str, Any]]:
    """Waits until the only conversation has at least `count` messages, and returns them."""

    async def enough() -> bool:
        return len(await all_messages(client)) >= count

    await until(enough)
    return await all_messages(client)


@dataclass
class Said:
    """Streams a scripted reply that costs nothing."""

    pieces: AsyncGenerator[Piece]
    message: AssistantMessage
    usage: ModelUsage = field(default=ModelUsage("demo"))

    def __aiter__(self) -> AsyncGenerator[Piece]:
        return self.pieces


class Scripted:
    """Replaces the model gateway: streams the given pieces, and keeps the messages of each prompt in `heard`."""

    models: Sequence[str] = ("demo",)
    code: str | None = None

    def __init__(self, *pieces: Piece) -> None:
        self.pieces = pieces
        self.heard: list[Sequence[UserMessage | AssistantMessage]] = []

    def check(self, model: str) -> None:
        assert model in self.models

    def hear(self, prompt: Prompt) -> None:
        self.heard.append([message for message in prompt.messages if not isinstance(message, ToolResult)])

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator[Said]:
        async with aclosing(self.stream(prompt)) as pieces:
            yield Said(pieces, AssistantMessage(code=self.code))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.hear(prompt)
        for piece in self.pieces:
            yield piece


class Endless(Scripted):
    """Streams its first piece, then waits until the test sets `go_on`, and streams the rest."""

    def __init__(self, first: Piece = "so far", *rest: Piece) -> None:
        super().__init__(*rest)
        self.first = first
        self.thinks, self.go_on = asyncio.Event(), asyncio.Event()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.hear(prompt)
        yield self.first
        self.thinks.set()
        await self.go_on.wait()
        for piece in self.pieces:
            yield piece
