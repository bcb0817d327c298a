from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned, now


class Conversation(Owned):
    __tablename__ = "conversations"
    __table_args__ = (sa.Index("ix_conversations_user_id_id", "user_id", "id"),)

    title: Mapped[str] = mapped_column(sa.String(200))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
