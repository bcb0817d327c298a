"""Limits what each person may use a day and a month (UTC): tokens, US dollars, characters and seconds of audio."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import Settings
from app.core.errors import BudgetExhausted
from app.models.base import now
from app.repositories.usage import Amount, Balance, UsageRepository
from app.services.ai import Prompt, full_name
from app.services.usage.prices import price

log = structlog.stdlib.get_logger("app.budgets")


@dataclass(frozen=True, slots=True)
class Budget:
    unit: Literal["tokens", "dollars", "characters", "seconds"]
    period: Literal["day", "month"]
    limit: Decimal

    def used(self, balance: Balance) -> Decimal:
        return self.part(balance.day if self.period == "day" else balance.month)

    def part(self, amount: Amount) -> Decimal:
        return amount.cost if self.unit == "dollars" else Decimal(getattr(amount, self.unit))

    def renews_at(self, at: datetime) -> datetime:
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.period == "day":
            return midnight + timedelta(days=1)
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


class Budgets:
    """Holds the budgets that are set. What a request may use is reserved before it starts, and checked against them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        every = (
            Budget("tokens", "month", Decimal(settings.tokens_per_month)),
            Budget("dollars", "month", settings.dollars_per_month),
            Budget("tokens", "day", Decimal(settings.tokens_per_day)),
            Budget("dollars", "day", settings.dollars_per_day),
        )
        self.active: Sequence[Budget] = [budget for budget in every if budget.limit]
        """Lists months first: whoever has used up both budgets must wait for the month."""
        self._in_dollars = any(budget.unit == "dollars" for budget in self.active)

    def at_most(self, prompt: Prompt) -> Amount:
        """Returns the most that a reply can use, at the price of the dearest model that may give it."""
        settings = self._settings
        most = settings.ai_max_output_tokens
        input_tokens, output_tokens = prompt.estimate_tokens(), min(prompt.max_output_tokens or most, most)
        models = [prompt.model or settings.ai_model, *settings.ai_fallback_models] if self._in_dollars else []
        costs = [price(full_name(name), input_tokens, output_tokens) or Decimal(0) for name in models]
        return Amount(input_tokens + output_tokens, max(costs, default=Decimal(0)))

    def add(self, *budgets: Budget) -> None:
        """Adds the budgets of a feature, without those whose limit is 0, which means none."""
        self.active = [*self.active, *(budget for budget in budgets if budget.limit)]

    async def reserve(
        self, session: AsyncSession, user_id: UUID, subject_id: UUID, feature: str, amount: Amount
    ) -> Balance:
        """Reserves the most that a request may use, until its usage is recorded, and returns the balance with it.

        Raises BudgetExhausted, AccountGone.
        """
        balance = await UsageRepository(session, user_id).reserve(subject_id, feature, amount)
        self.check(balance, amount)
        return balance

    def check(self, balance: Balance, reserved: Amount) -> None:
        """Checks that what has just been reserved, and is in the balance, fits. Raises BudgetExhausted."""
        for budget in self.active:
            used = budget.used(balance)
            if used > budget.limit and budget.part(reserved):
                raise _exhausted(budget, budget.limit - used + budget.part(reserved), budget.part(reserved), now())


def open_budgets(settings: Settings) -> Budgets:
    """Creates the budgets, and warns of models whose prices are unknown, which they cannot count in dollars."""
    if settings.dollars_per_day or settings.dollars_per_month:
        for name in {settings.ai_model, *settings.ai_allowed_models, *settings.ai_fallback_models}:
            if price(full_name(name), 1, 1) is None:
                log.warning("price unknown: budgets in dollars count nothing for this model", model=name)
    return Budgets(settings)


def _exhausted(budget: Budget, left: Decimal, wanted: Decimal, at: datetime) -> BudgetExhausted:
    renews_at = budget.renews_at(at)
    return BudgetExhausted(
        f"This request may use up to {_format(budget, wanted)}; {_format(budget, max(left, Decimal(0)))} "
        f"of your budget of {_format(budget, budget.limit)} a {budget.period} remain. "
        f"The budget renews at {renews_at:%Y-%m-%d %H:%M} UTC.",
        ceil((renews_at - at).total_seconds()),
    )


def _format(budget: Budget, value: Decimal) -> str:
    return f"{value:,.6f} US dollars" if budget.unit == "dollars" else f"{value:,.0f} {budget.unit}"
