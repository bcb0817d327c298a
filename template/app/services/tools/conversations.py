from typing import Annotated

from pydantic import Field

from app.repositories.conversation_search import ConversationSearch, SearchHit
from app.schemas.base import Words
from app.services.tools import ToolContext, tool

BEFORE, SHOWN = 200, 600
"""Limits the characters of a message that are shown: before the first search word, and in all."""
FOUND = 10


@tool
async def search_conversations(
    context: ToolContext,
    words: Annotated[Words, Field(max_length=200, description="Words that a message must have, all of them.")],
) -> str:
    """Find the newest messages with certain words in this person's own conversations."""
    wanted = words.split()
    async with context.database.read() as session:
        found = await ConversationSearch(session, context.user_id).messages(wanted, FOUND)
    return "\n\n".join(_told(one, wanted[0]) for one in found) or "No message has all of these words."


def _told(found: SearchHit, word: str) -> str:
    start = max(0, found.content.lower().find(word.lower()) - BEFORE)
    excerpt = " ".join(found.content[start : start + SHOWN].split())
    return f"{found.said_at:%Y-%m-%d}, {found.role} in “{found.title}”: {excerpt}"
