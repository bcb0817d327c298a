from datetime import date
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned

DOLLARS = sa.Numeric(18, 9)
"""US dollars. A token may cost less than a millionth of one."""


class Usage(Owned):
    """What one person used on one day (UTC) of one feature and one model."""

    __tablename__ = "usage"
    __table_args__ = (sa.UniqueConstraint("user_id", "day", "feature", "model"),)

    day: Mapped[date]
    feature: Mapped[str] = mapped_column(sa.String(32))
    model: Mapped[str] = mapped_column(sa.Text)
    requests: Mapped[int] = mapped_column(sa.BigInteger)
    input_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    output_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    characters: Mapped[int] = mapped_column(sa.BigInteger)
    """Read aloud."""
    seconds: Mapped[int] = mapped_column(sa.BigInteger)
    """Of audio that was listened to."""
    cost: Mapped[Decimal | None] = mapped_column(DOLLARS)
    """None where the model's price is not known."""


class Reservation(Owned):
    """The most that something under way may use. Its id is that of what reserved it, such as a reply or a step."""

    __tablename__ = "usage_reservations"

    day: Mapped[date]
    """The day (UTC) on which it counts, also when it is settled later."""
    feature: Mapped[str] = mapped_column(sa.String(32))
    tokens: Mapped[int] = mapped_column(sa.BigInteger)
    characters: Mapped[int] = mapped_column(sa.BigInteger)
    seconds: Mapped[int] = mapped_column(sa.BigInteger)
    cost: Mapped[Decimal] = mapped_column(DOLLARS)
