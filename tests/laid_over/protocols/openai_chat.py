"""Imitates OpenAI's Chat Completions API, which `openai-chat:` models speak."""

from tests.protocols.compatible import Completions, OwnDialect
from tests.protocols.server import Answer


class ChatCompletions(Completions, OwnDialect):
    model = "openai-chat:gpt-5-test"
    reasoning_field = "reasoning_content"

    def refuse(self, words: str) -> Answer:
        return self.answer([*self.opening(), self.chunk({"refusal": words}), *self.closing("")])


CHAT_COMPLETIONS = ChatCompletions()
