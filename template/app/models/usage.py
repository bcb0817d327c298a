from datetime import date
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned

DOLLARS = sa.Numeric(18, 9)
"""Holds US dollars with nine decimals: a token may cost less than a millionth of a dollar."""


class Usage(Owned):
    """Sums what one user used on one day (UTC) of one feature and one model."""

    __tablename__ = "usage"
    __table_args__ = (sa.UniqueConstraint("user_id", "day", "feature", "model"), sa.Index("ix_usage_day", "day"))

    day: Mapped[date]
    feature: Mapped[str] = mapped_column(sa.String(32))
    model: Mapped[str] = mapped_column(sa.Text)
    requests: Mapped[int] = mapped_column(sa.BigInteger)
    input_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    output_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    characters: Mapped[int] = mapped_column(sa.BigInteger)
    """Counts characters that were read aloud."""
    seconds: Mapped[int] = mapped_column(sa.BigInteger)
    """Counts seconds of transcribed audio."""
    cost: Mapped[Decimal | None] = mapped_column(DOLLARS)
    """Holds US dollars; None where the model's price is not known."""


class Reservation(Owned):
    """Reserves the most that work under way may use. Its id is that of the work, such as a reply or an execution."""

    __tablename__ = "usage_reservations"

    day: Mapped[date]
    """Names the day (UTC) on which it counts, even if it is settled later."""
    feature: Mapped[str] = mapped_column(sa.String(32))
    tokens: Mapped[int] = mapped_column(sa.BigInteger)
    characters: Mapped[int] = mapped_column(sa.BigInteger)
    seconds: Mapped[int] = mapped_column(sa.BigInteger)
    cost: Mapped[Decimal] = mapped_column(DOLLARS)
