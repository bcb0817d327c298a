from collections.abc import Sequence
from typing import Any

import httpx2

from tests.owned.case import Case

SOCKET = "/api/v1/chat/ws"


async def conversation(client: httpx2.AsyncClient) -> str:
    made = await client.post("/api/v1/chat/conversations", json={})
    return f"/api/v1/chat/conversations/{made.json()['id']}"


async def messages(client: httpx2.AsyncClient) -> str:
    return f"{await conversation(client)}/messages"


async def reply(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/api/v1/chat/messages", json={"content": "hello"})
    return f"/api/v1/chat/messages/{answer.json()['id']}"


async def resumed(client: httpx2.AsyncClient) -> str:
    return f"{await reply(client)}/stream"


async def stopped(client: httpx2.AsyncClient) -> str:
    return f"{await reply(client)}/stop"


async def regenerated(client: httpx2.AsyncClient) -> str:
    return f"{await reply(client)}/regenerate"


async def streamed_again(client: httpx2.AsyncClient) -> str:
    return f"{await regenerated(client)}/stream"


async def rated(client: httpx2.AsyncClient) -> str:
    return f"{await reply(client)}/feedback"


async def frames(client: httpx2.AsyncClient) -> tuple[str, Sequence[dict[str, Any]]]:
    reply = (await client.post("/api/v1/chat/messages", json={"content": "hello"})).json()
    listed = await client.get(f"/api/v1/chat/conversations/{reply['conversation_id']}/messages")
    return SOCKET, [
        {"type": "send", "content": "hello", "conversation_id": reply["conversation_id"]},
        {"type": "send", "content": "hello", "parent_id": reply["id"]},
        {"type": "send", "content": "hello", "replaces": listed.json()["items"][0]["id"]},
        {"type": "resume", "reply_id": reply["id"]},
        {"type": "stop", "reply_id": reply["id"]},
        {"type": "regenerate", "reply_id": reply["id"]},
    ]


WRITES = [
    ("post", "/api/v1/chat/conversations", {"title": "Plans"}),
    ("post", "/api/v1/chat/messages", {"content": "hello"}),
    ("post", "/api/v1/chat/messages/stream", {"content": "hello"}),
]
SOCKETS = {SOCKET: frames}
CASES = {
    "/api/v1/chat/messages/{message_id}/stream": Case(resumed),
    "/api/v1/chat/messages/{message_id}/stop": Case(stopped),
    "/api/v1/chat/messages/{message_id}/regenerate": Case(regenerated, {"post": {}}),
    "/api/v1/chat/messages/{message_id}/regenerate/stream": Case(streamed_again, {"post": {}}),
    "/api/v1/chat/messages/{message_id}/feedback": Case(rated, {"put": {"rating": "up"}}),
    "/api/v1/chat/conversations/{conversation_id}": Case(conversation, {"patch": {"title": "Mine now"}}),
    "/api/v1/chat/conversations/{conversation_id}/messages": Case(messages),
}
