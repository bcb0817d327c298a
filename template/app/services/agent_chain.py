"""The models that the settings name, as those that use tools: the same clients, tries, fallbacks and deadlines."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from app.services.agent_ai import NOTHING, AgentModel, Answered, Prompt, Step
from app.services.ai import Model, Spent
from app.services.ai_chain import AIChain, ChainAnswer
from app.services.demo import DemoModel
from app.services.demo_agent import DemoAgent

if TYPE_CHECKING:
    from app.services.providers import ProviderModel


class AgentChain:
    """What ends a silence here is any sign of life: a word, a call or a thought."""

    def __init__(self, ai: AIChain, opened: Mapping[str, AgentModel]) -> None:
        self._ai = ai
        self.opened = opened

    @property
    def models(self) -> Sequence[str]:
        return self._ai.models

    def check(self, model: str) -> None:
        self._ai.check(model)

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator[Step]:
        async with self._ai.ask(prompt.model, lambda model: self.opened[model.name].ask(prompt)) as answer:
            yield _ChainStep(answer)


class _ChainStep:
    def __init__(self, answer: ChainAnswer[Step]) -> None:
        self._answer = answer

    @property
    def spent(self) -> Spent:
        return self._answer.spent

    @property
    def code(self) -> str | None:
        return self._answer.code

    @property
    def answered(self) -> Answered:
        return self._answer.given.answered if self._answer.given else NOTHING

    def __aiter__(self) -> AsyncGenerator[str]:
        return aiter(self._answer)


def open_agent_ai(ai: AIChain) -> AgentChain:
    return AgentChain(ai, {name: _agent_model(model) for name, model in ai.opened.items()})


def _agent_model(model: Model) -> AgentModel:
    if isinstance(model, DemoModel):
        return DemoAgent(model.delay)
    # Imported here because it takes a second and 50 MB, which the demo spares; with a provider's model it is there.
    from app.services.agent_provider import ProviderAgent

    return ProviderAgent(cast("ProviderModel", model))
