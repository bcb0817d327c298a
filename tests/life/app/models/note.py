import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned


class Note(Owned):
    __tablename__ = "notes"

    title: Mapped[str] = mapped_column(sa.String(200))
