import httpx2


async def test_a_note_is_its_owners(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    assert (await alice.post("/api/v1/notes", json={"title": "Buy milk"})).status_code == 201
    [note] = (await alice.get("/api/v1/notes")).json()["items"]
    assert note["title"] == "Buy milk"
    assert (await bob.get("/api/v1/notes")).json()["items"] == []
