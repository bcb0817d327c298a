"""Imitates Groq, which has an SDK of its own and nearly OpenAI's Chat Completions as its protocol."""

from tests.protocols.compatible import CHUNK, USAGE, Completions
from tests.protocols.server import event


class Groq(Completions):
    sdk = "groq"
    model = "groq:llama-test"
    path = "/openai/v1/chat/completions"
    key_variable = "GROQ_API_KEY"
    url_variable = "GROQ_BASE_URL"
    url_path = ""

    def usage(self) -> bytes:
        return event({**CHUNK, "choices": [], "x_groq": {"id": "req_1", "usage": USAGE}})


GROQ = Groq()
