from uuid import UUID

import pytest

from app.core.database import Database
from app.repositories.agent_note import AgentNoteRepository
from app.repositories.user import UserRepository
from app.services.tools.notes import save_note, search_notes
from tests.calls import call, context, refused


async def person(database: Database, email: str = "alice@example.com") -> UUID:
    async with database.write() as session:
        return (await UserRepository(session).create(email=email, hashed_password="x")).id


async def test_what_is_saved_is_found(database: Database) -> None:
    alice = await person(database)
    for number, text in enumerate(["Buy oat milk", "Milk is white", "Call Bob", "100 % milk_free"]):
        await call(save_note, context(database, alice, key=str(number)), text=text)

    async def found(words: str) -> list[str]:
        said = await call(search_notes, context(database, alice), words=words)
        return [line.partition(": ")[2] for line in said.split("\n\n")]

    assert await found("MILK") == ["100 % milk_free", "Milk is white", "Buy oat milk"]
    assert await found(" milk  white ") == ["Milk is white"]
    assert await found("%") == await found("k_f") == ["100 % milk_free"]
    assert len(await found("")) == 4
    assert await call(search_notes, context(database, alice), words="honey") == "There is no such note."


async def test_a_call_that_is_made_again_saves_nothing_more(database: Database) -> None:
    alice = await person(database)
    for key in ("one", "one", "two"):
        assert await call(save_note, context(database, alice, key=key), text="same") == "The note is saved."
    async with database.read() as session:
        assert await AgentNoteRepository(session, alice).count() == 2


async def test_a_note_of_another_person_is_not_found(database: Database) -> None:
    alice, bob = await person(database), await person(database, "bob@example.com")
    await call(save_note, context(database, alice), text="mine")
    assert await call(search_notes, context(database, bob)) == "There is no such note."


@pytest.mark.parametrize("text", ["", " ", "a\0b", "x" * 4_001])
async def test_what_is_no_note(text: str) -> None:
    assert "text: " in await refused(save_note, text=text)
    assert "words: " in await refused(search_notes, words=f"\0{text}")
