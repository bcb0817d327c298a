"""Opens the models that work on conversations in background jobs, and asks them at the expense of one person."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from anyio import CancelScope
from uuid_utils.compat import uuid7

from app.core.config import Settings, read_settings
from app.core.database import Database
from app.core.errors import AccountGone, BudgetExhausted
from app.core.findings import Problem
from app.core.telemetry.settings import TelemetrySettings
from app.models.message import Role
from app.repositories.usage import UsageRecord, UsageRepository
from app.services.ai import ModelGateway, ModelStream, ModelUsage, Prompt
from app.services.ai.base import BYTES_PER_TOKEN
from app.services.ai.registry import find_unusable, open_gateway
from app.services.chat.replies import FEATURE
from app.services.chat.settings import ChatSettings
from app.services.usage.budgets import Budgets
from app.services.usage.metrics import count_usage

OUTPUT_TOKENS = {"TITLE_MODEL": 500, "HISTORY_SUMMARY_MODEL": 4_000}
"""Limits the tokens of an answer, which include reasoning, of the model that each of these settings names."""
RESERVATION = "chat_job"
"""Names what such work reserves, so that it does not count among the replies that somebody has at once."""


class BackgroundModel:
    """Asks a model about the conversations of people, whose budgets it counts against."""

    def __init__(self, database: Database, ai: ModelGateway, budgets: Budgets) -> None:
        self._database = database
        self._ai = ai
        self._budgets = budgets

    async def ask(self, user_id: UUID, prompt: Prompt) -> str | None:
        """Returns what the model writes; None if it is not asked, as no budget is left or the account was deleted.

        What it uses is recorded, however it ends. Raises ModelFailure.
        """
        id = uuid7()  # of this attempt: what one reserved whose process died stays for an hour
        stream: ModelStream | None = None
        try:
            async with self._database.write(user_id) as session:
                await self._budgets.reserve(session, user_id, id, RESERVATION, self._budgets.at_most(prompt))
        except (AccountGone, BudgetExhausted):
            return None
        try:
            async with self._ai.ask(prompt) as stream:
                return "".join([piece async for piece in stream if isinstance(piece, str)])
        finally:
            with CancelScope(shield=True):  # also when the job takes too long
                await self._record(user_id, id, None if stream is None else stream.usage)

    async def _record(self, user_id: UUID, id: UUID, usage: ModelUsage | None) -> None:
        used = usage and UsageRecord(usage.model, usage.input_tokens, usage.output_tokens, usage.cost)
        async with self._database.write(user_id) as session:
            await UsageRepository(session, user_id).record(id, FEATURE, used)
        count_usage(FEATURE, used)


def quote(role: Role, text: str) -> str:
    """Returns a message as a model reads it that does not take part in the conversation."""
    return f"<{role}>\n{text}\n</{role}>\n"


def truncate(text: str, tokens: int) -> str:
    """Returns the beginning of a text, of at most so many tokens by our estimate."""
    return text.encode(errors="replace")[: tokens * BYTES_PER_TOKEN].decode(errors="ignore")


@asynccontextmanager
async def open_background_model(
    place: str, settings: Settings, chat_settings: ChatSettings, telemetry: TelemetrySettings, database: Database
) -> AsyncGenerator[BackgroundModel | None]:
    """Opens the model that the setting `place` names, without fallbacks and retries; None if it is empty.

    Raises SetupError.
    """
    own = _settings_of(place, settings, chat_settings)
    if not own.ai_model:
        yield None
        return
    async with open_gateway(own, telemetry, place=place) as ai:
        yield BackgroundModel(database, ai, Budgets(own))


async def diagnostics() -> list[str]:
    """Reports to the `doctor` command which of these models cannot be used, and why."""
    settings, chat_settings, found = read_settings(Settings), read_settings(ChatSettings), list[str]()
    for place in OUTPUT_TOKENS:
        own = _settings_of(place, settings, chat_settings)
        unusable = await find_unusable(own, place=place) if own.ai_model else {}
        found += [Problem(sentence) for sentences in unusable.values() for sentence in sentences]
    return found


def _settings_of(place: str, settings: Settings, chat_settings: ChatSettings) -> Settings:
    name: str = getattr(chat_settings, place.lower())
    models: dict[str, Any] = {"ai_model": name, "ai_allowed_models": [], "ai_fallback_models": []}
    most = min(OUTPUT_TOKENS[place], settings.ai_max_output_tokens)  # any budget suffices for the latter
    return settings.model_copy(update={**models, "ai_max_retries": 0, "ai_max_output_tokens": most})
