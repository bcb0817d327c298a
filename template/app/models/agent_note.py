import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned


class AgentNote(Owned):
    """What a person's agents keep for later. Its id comes from the call that saved it, so it tells no order."""

    __tablename__ = "agent_notes"

    text: Mapped[str] = mapped_column(sa.Text)
