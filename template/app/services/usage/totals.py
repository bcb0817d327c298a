from datetime import timedelta
from uuid import UUID

from app.core.database import Database
from app.models.base import now
from app.repositories.usage_totals import UsageTotalsRepository
from app.schemas.usage import UsageGroup, UsageOverview, UsageTotal


async def sum_usage(
    database: Database, by: UsageGroup, days: int, user_id: UUID | None, *, limit: int, cursor: int
) -> UsageOverview:
    """Sums what everyone, or one user, has used today and on the days before, `days` in all."""
    since = now().date() - timedelta(days=days - 1)
    async with database.read() as session:
        totals = UsageTotalsRepository(session)
        found = await totals.list(by, since, user_id, limit + 1, cursor)
        total = await totals.sum(since, user_id)
    return UsageOverview(
        items=[UsageTotal.model_validate(row) for row in found[:limit]],
        next_cursor=cursor + limit if len(found) > limit else None,
        total=UsageTotal.model_validate(total),
    )
