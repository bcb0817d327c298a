import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned


class AgentNote(Owned):
    """Stores a note of a user's agents. Its id is that of the tool call that saved it."""

    __tablename__ = "agent_notes"

    text: Mapped[str] = mapped_column(sa.Text)
