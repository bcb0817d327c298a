from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from app.core.database import Database
from app.models.base import now
from app.repositories.usage import Balance, UsageRepository
from app.schemas.usage import BudgetRead, UsageDay, UsageReport
from app.services.usage.budgets import Budget, Budgets


class UsageService:
    """Reports what one user has used, and may still use."""

    def __init__(self, database: Database, budgets: Budgets, user_id: UUID) -> None:
        self._database = database
        self._budgets = budgets
        self._user_id = user_id

    async def read(self, days: int) -> UsageReport:
        """Reports the usage of today and the days before it, `days` in all, and the budgets."""
        at = now()
        async with self._database.read() as session:
            usage = UsageRepository(session, self._user_id)
            used = await usage.since(at.date() - timedelta(days=days - 1))
            balance = await usage.balance(at)
        return UsageReport(
            days=[UsageDay.model_validate(row) for row in used],
            budgets=[_budget(budget, balance, at) for budget in self._budgets.active],
        )


def _budget(budget: Budget, balance: Balance, at: datetime) -> BudgetRead:
    used = budget.used(balance)
    return BudgetRead(
        unit=budget.unit,
        period=budget.period,
        limit=budget.limit,
        used=used,
        left=max(budget.limit - used, Decimal(0)),
        renews_at=budget.renews_at(at),
    )
