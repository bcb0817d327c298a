"""Saves and finds notes, also as an example: the owner comes from the context, and a repeated call has one effect."""

from typing import Annotated

from pydantic import Field

from app.repositories.agent_note import AgentNoteRepository
from app.schemas.base import Text, Words
from app.services.tools import ToolContext, tool

FOUND = 10


@tool
async def save_note(
    context: ToolContext, text: Annotated[Words, Field(max_length=4_000, description="What to remember.")]
) -> str:
    """Save a note for this person, which can be found again at any later time."""
    async with context.database.write(context.user_id) as session:
        await AgentNoteRepository(session, context.user_id).save(context.row_id, text)
    return "The note is saved."


@tool
async def search_notes(
    context: ToolContext,
    words: Annotated[Text, Field(max_length=200, description="Words that a note must have, all of them.")] = "",
) -> str:
    """Find this person's newest notes with certain words, or the newest of all."""
    async with context.database.read() as session:
        notes = await AgentNoteRepository(session, context.user_id).search(words.split(), FOUND)
    return "\n\n".join(f"{note.created_at:%Y-%m-%d}: {note.text}" for note in notes) or "There is no such note."
