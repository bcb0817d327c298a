import httpx2

from tests.conftest import log_in
from tests.owned.case import Case


async def session(client: httpx2.AsyncClient) -> str:
    email = (await client.get("/api/v1/users/me")).json()["email"]
    await log_in(client, email)
    return f"/api/v1/auth/sessions/{(await client.get('/api/v1/auth/sessions')).json()['items'][0]['id']}"


async def api_key(client: httpx2.AsyncClient) -> str:
    made = await client.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": ["read"]})
    return f"/api/v1/auth/api-keys/{made.json()['id']}"


CASES = {
    "/api/v1/auth/sessions/{session_id}": Case(session),
    "/api/v1/auth/api-keys/{api_key_id}": Case(api_key),
}
READS = {"/api/v1/users/me/export": 40}
"""A statement for each table."""
