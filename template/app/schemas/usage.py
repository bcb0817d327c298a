from collections.abc import Sequence
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from app.schemas.base import Money, Read

UsageGroup = Literal["day", "feature", "model", "user"]


class UsageDay(Read):
    """Sums what was used on one day (UTC) of one feature and one model."""

    day: date
    feature: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    """Counts characters that were read aloud."""
    seconds: int
    """Counts seconds of transcribed audio."""
    cost: Money | None
    """Holds US dollars; null where the model's price is not known."""


class BudgetRead(Read):
    """Describes a budget and what is left of it. `limit`, `used` and `left` are in the unit that `unit` names."""

    unit: Literal["tokens", "dollars", "characters", "seconds"]
    period: Literal["day", "month"]
    limit: Money
    used: Money
    """Includes what is reserved for requests under way."""
    left: Money
    renews_at: datetime


class UsageReport(Read):
    days: Sequence[UsageDay]
    """Lists the newest day first; days without usage are left out."""
    budgets: Sequence[BudgetRead]
    """Lists the budgets that are set; an empty list means that there is no limit."""


class UsageTotal(Read):
    """Sums what was used. Of `day`, `feature`, `model` and `user_id`, the one that groups the sums is not null."""

    day: date | None = None
    feature: str | None = None
    model: str | None = None
    user_id: UUID | None = None
    email: str | None = None
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    """Counts characters that were read aloud."""
    seconds: int
    """Counts seconds of transcribed audio."""
    cost: Money | None
    """Holds US dollars, without what has no known price; null where no price is known."""


class UsageOverview(Read):
    items: Sequence[UsageTotal]
    """Lists days from the newest on; all others from the most expensive on."""
    next_cursor: int | None
    total: UsageTotal
    """Sums what all items of all pages do."""
