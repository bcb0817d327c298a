from collections.abc import Sequence

from app.schemas.chat_completion import ChatCompletionCreate
from app.services.ai import full_name
from app.services.completions.base import AGENT, AgentCompleter, Completion, ListedModel, ModelNotFound
from app.services.completions.models import CompletionDependencies, ModelCompletions
from app.services.completions.request import to_request


class CompletionService:
    """Answers one person's requests, by models and by agents, and lists both."""

    def __init__(
        self, dependencies: CompletionDependencies, models: ModelCompletions, agents: AgentCompleter | None
    ) -> None:
        self._dependencies = dependencies
        self._models = models
        self._agents = agents

    async def list_models(self) -> Sequence[ListedModel]:
        models = list(map(self._to_model, self._dependencies.ai.models))
        return [*models, *(await self._agents.list_models() if self._agents else ())]

    async def get_model(self, id: str) -> ListedModel:
        """Raises ModelNotFound, MissingScope."""
        if id.startswith(AGENT) and self._agents is not None:
            return await self._agents.find_model(id)
        if full_name(id) in self._dependencies.ai.models:
            return self._to_model(full_name(id))
        raise ModelNotFound(id)

    async def begin(self, data: ChatCompletionCreate, key: str | None) -> Completion:
        """Begins an answer. Raises ModelNotFound, UnsupportedParameter, Invalid, and what limits raise."""
        settings = self._dependencies.settings
        request = to_request(data, settings.message_max_characters, settings.history_max_tokens)
        if data.model.startswith(AGENT):
            if self._agents is None:
                raise ModelNotFound(data.model)
            return await self._agents.begin(request, key)
        if full_name(data.model) not in self._dependencies.ai.models:
            raise ModelNotFound(data.model)
        return await self._models.begin(request, key)

    def _to_model(self, name: str) -> ListedModel:
        return ListedModel(name, name, name.partition(":")[0], self._dependencies.opened_at)
