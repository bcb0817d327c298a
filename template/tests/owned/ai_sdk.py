import httpx2

from tests.owned.case import Case

CHAT = "/api/v1/ai-sdk/chat"
BODY = {"id": "my-chat", "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]}


async def chat(client: httpx2.AsyncClient) -> str:
    await client.post(CHAT, json=BODY)
    return f"{CHAT}/my-chat"


async def resumed(client: httpx2.AsyncClient) -> str:
    return f"{await chat(client)}/stream"


WRITES = [("post", CHAT, BODY)]
CASES = {"/api/v1/ai-sdk/chat/{id}": Case(chat), "/api/v1/ai-sdk/chat/{id}/stream": Case(resumed, is_silent=True)}
