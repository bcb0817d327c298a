import httpx2

from tests.owned.case import Case


async def note(client: httpx2.AsyncClient) -> str:
    made = await client.post("/api/v1/notes", json={"title": "Buy milk"})
    return f"/api/v1/notes/{made.json()['id']}"


CASES = {"/api/v1/notes/{note_id}": Case(note)}
PUBLIC = {("get", "/api/v1/notes/limit")}
OF_NOBODY = {"holidays"}
