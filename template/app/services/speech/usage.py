"""Counts and limits what a user uses of speech."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from uuid import UUID

from anyio import CancelScope
from uuid_utils.compat import uuid7

from app.core.concurrency import ConcurrencyLimit, Renew
from app.core.database import Database
from app.repositories.usage import Amount, UsageRecord, UsageRepository
from app.services.speech.settings import SpeechSettings
from app.services.usage.budgets import Budget, Budgets
from app.services.usage.metrics import count_usage

FEATURE = "speech"
"""Names the feature in usage records."""
MILLION, HOUR = 1_000_000, 3_600


def daily_budgets(settings: SpeechSettings) -> tuple[Budget, ...]:
    return (
        Budget("characters", "day", Decimal(settings.speech_characters_per_day)),
        Budget("seconds", "day", Decimal(settings.speech_seconds_per_day)),
    )


def synthesis_usage(settings: SpeechSettings, model: str, characters: int) -> UsageRecord:
    """Returns the usage record of reading this many characters aloud."""
    price = settings.tts_dollars_per_million_characters
    return UsageRecord(model, 0, 0, _cost(model, price, Decimal(characters) / MILLION), characters=characters)


def transcription_usage(settings: SpeechSettings, model: str, seconds: float) -> UsageRecord:
    whole = ceil(seconds)
    return UsageRecord(model, 0, 0, _cost(model, settings.stt_dollars_per_hour, Decimal(whole) / HOUR), seconds=whole)


def _cost(model: str, price: Decimal | None, amount: Decimal) -> Decimal | None:
    """Returns US dollars; None if the price is not set."""
    return Decimal(0) if model.startswith("offline:") else price and round(price * amount, 9)


@dataclass(slots=True)
class Job:
    """Tracks what a request has used so far."""

    used: UsageRecord | None = None


class SpeechMeter:
    """Limits and counts the speech of one user."""

    def __init__(self, database: Database, budgets: Budgets, slots: ConcurrencyLimit, user_id: UUID) -> None:
        self._database = database
        self._budgets = budgets
        self._slots = slots
        self._user_id = user_id

    def turn(self) -> AbstractAsyncContextManager[Renew]:
        """Holds one of the user's `max_concurrent_speech` slots. Raises TooManyAtOnce."""
        return self._slots.acquire(str(self._user_id))

    @asynccontextmanager
    async def counted(self, most: UsageRecord) -> AsyncGenerator[Job]:
        """Reserves what a job may use at most, and counts what it has used in the end, however it ends.

        Raises BudgetExhausted.
        """
        subject_id, job = uuid7(), Job()
        amount = Amount(0, most.cost or Decimal(0), most.characters, most.seconds)
        async with self._database.write(self._user_id) as session:
            await self._budgets.reserve(session, self._user_id, subject_id, FEATURE, amount)
        try:
            yield job
        finally:
            with CancelScope(shield=True):
                async with self._database.write(self._user_id) as session:
                    await UsageRepository(session, self._user_id).record(subject_id, FEATURE, job.used)
            count_usage(FEATURE, job.used)
