"""Imitates Ollama, which speaks OpenAI's Chat Completions."""

from tests.protocols.compatible import Completions


class Ollama(Completions):
    model = "ollama:llama-test"
    key_variable = "OLLAMA_API_KEY"
    url_variable = "OLLAMA_BASE_URL"


OLLAMA = Ollama()
