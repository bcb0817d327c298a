import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Holiday(Base):
    __tablename__ = "holidays"

    name: Mapped[str] = mapped_column(sa.String(200))
