import httpx2

from tests.owned.case import Case


async def conversation(client: httpx2.AsyncClient) -> str:
    made = await client.post("/api/v1/chat/conversations", json={})
    return f"/api/v1/chat/conversations/{made.json()['id']}"


async def messages(client: httpx2.AsyncClient) -> str:
    return f"{await conversation(client)}/messages"


CASES = {
    "/api/v1/chat/conversations/{conversation_id}": Case(conversation, {"patch": {"title": "Mine now"}}),
    "/api/v1/chat/conversations/{conversation_id}/messages": Case(messages),
}
