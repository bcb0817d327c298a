from typing import Annotated

from pydantic import Field

from app.repositories.conversation_search import ConversationSearch, SearchHit, SearchWords
from app.schemas.base import Words
from app.services.tools import ToolContext, tool

SHOWN, BEFORE = 600, 200
"""Limits the characters of a message that are shown: in all, and before the first of the words."""
FOUND = 10


@tool
async def search_conversations(
    context: ToolContext,
    words: Annotated[Words, Field(max_length=200, description="Words that a message must have, all of them.")],
) -> str:
    """Find the newest messages with certain words in this person's own conversations."""
    wanted = SearchWords.read(words)
    async with context.database.read() as session:
        found = await ConversationSearch(session, context.user_id).messages(wanted, FOUND)
    return "\n\n".join(_told(one, wanted) for one in found) or "No message has all of these words."


def _told(found: SearchHit, words: SearchWords) -> str:
    excerpt = words.excerpt(found.content, SHOWN, BEFORE)
    return f"{found.said_at:%Y-%m-%d}, {found.role} in “{found.title}”: {excerpt}"
