from collections.abc import Sequence
from datetime import date, datetime
from typing import Literal

from app.schemas.base import Money, Read


class UsageDay(Read):
    """What was used on one day (UTC) of one feature and one model."""

    day: date
    feature: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    """Read aloud."""
    seconds: int
    """Of audio that was listened to."""
    cost: Money | None
    """Null where the model's price is not known."""


class BudgetRead(Read):
    """Its numbers are what `unit` says."""

    unit: Literal["tokens", "dollars", "characters", "seconds"]
    period: Literal["day", "month"]
    limit: Money
    used: Money
    """With what is reserved for requests under way."""
    left: Money
    renews_at: datetime


class UsageReport(Read):
    days: Sequence[UsageDay]
    """Newest first; days without usage are left out."""
    budgets: Sequence[BudgetRead]
    """Those that are set: none means no limit."""
