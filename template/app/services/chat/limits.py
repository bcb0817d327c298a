"""Limits what a user may ask for: messages a minute, replies at a time, tokens and US dollars."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import AppError
from app.core.rate_limits import MINUTE, RateLimiter, Rule
from app.services.ai import Prompt
from app.services.chat.replies import FEATURE
from app.services.usage.budgets import Budgets


class TooManyReplies(AppError):
    status, code = 429, "too_many_replies"


class ChatLimits:
    """Checks the limits of chat. `messages_per_minute` and `max_concurrent_replies` apply to each user; 0: no limit."""

    def __init__(
        self, rate_limiter: RateLimiter, budgets: Budgets, messages_per_minute: int, max_concurrent_replies: int
    ) -> None:
        self._rate_limiter = rate_limiter
        self._budgets = budgets
        self._messages = Rule("messages", messages_per_minute, MINUTE)
        self._at_once = max_concurrent_replies

    async def send(self, user_id: UUID) -> None:
        """Counts a message against the user's rate limit. Raises TooManyRequests."""
        await self._rate_limiter.hit(self._messages, str(user_id))

    async def reserve(self, session: AsyncSession, user_id: UUID, reply_id: UUID, prompt: Prompt) -> None:
        """Reserves what a reply may use, in the transaction that stores it. Raises TooManyReplies, BudgetExhausted."""
        if not (self._at_once or self._budgets.active):
            return
        amount = self._budgets.at_most(prompt)
        balance = await self._budgets.reserve(session, user_id, reply_id, FEATURE, amount)
        if self._at_once and balance.reservations > self._at_once:
            raise TooManyReplies(
                f"At most {self._at_once} of your replies are written at a time; wait until one ends, or stop one."
            )
