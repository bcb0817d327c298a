"""Describes the paths of spoken messages and replies."""

import httpx2

from tests.owned.case import Case


async def audio(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/api/v1/chat/messages", json={"content": "hello"})
    return f"/api/v1/chat/messages/{answer.json()['id']}/audio"


SPENDING = {"/api/v1/chat/messages/{message_id}/audio"}
CASES = {"/api/v1/chat/messages/{message_id}/audio": Case(audio, may_be_missing=True)}
