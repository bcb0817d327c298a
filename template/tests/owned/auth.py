import httpx2

from tests.conftest import PASSWORD, log_in
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
WRITES = [
    ("patch", "/api/v1/users/me", {"full_name": "Alice"}),
    ("post", "/api/v1/auth/api-keys", {"name": "A script", "scopes": ["read"]}),
    ("post", "/api/v1/auth/email/resend", None),
    ("post", "/api/v1/auth/logout", None),
    ("post", "/api/v1/auth/password/change", {"current_password": PASSWORD, "new_password": "another long phrase"}),
]
READS = {"/api/v1/users/me/export": 40, "/api/v1/admin/processes": 3}
"""Allows one statement for each table."""
