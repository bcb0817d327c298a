"""Describes the entries by which conversations are found; triggers of the database write them."""

import sqlalchemy as sa

from app.models.base import Base

CONVERSATION_SEARCH = sa.table(
    "chat_search",
    sa.column("id", sa.Uuid()),
    sa.column("conversation_id", sa.Uuid()),
    sa.column("words"),
    sa.column("number", sa.Integer()),
)
"""Has an entry for each message that is not pending, and one for each title, with the id of its conversation."""

Base.metadata.info.setdefault("derived", []).append(CONVERSATION_SEARCH.name)
