"""Tests what AI_MODEL may name, and how errors of providers are mapped; no provider's SDK is needed."""

import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import exceptions
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from app.core.config import _OTHER_NAMES, read_provider_settings  # pyright: ignore[reportPrivateUsage]
from app.core.errors import SetupError
from app.services.ai import ModelFailure, ModelStream
from app.services.ai.provider import ProviderModel
from app.services.ai.registry import open_gateway
from tests.protocols.dialect import SECRET
from tests.protocols.gateway import PROMPT, everything_logged, settings_for

NEEDS = [
    ("anthropic:claude-test", "anthropic", "anthropic", "ANTHROPIC_API_KEY"),
    ("claude-test", "anthropic", "anthropic", "ANTHROPIC_API_KEY"),
    ("openai:gpt-test", "openai", "openai", "OPENAI_API_KEY"),
    ("openai-chat:gpt-test", "openai", "openai", "OPENAI_API_KEY"),
    ("gpt-test", "openai", "openai", "OPENAI_API_KEY"),
    ("google:gemini-test", "google.genai", "google", "GOOGLE_API_KEY"),
    ("mistral:mistral-test", "mistralai", "mistral", "MISTRAL_API_KEY"),
    ("groq:llama-test", "groq", "groq", "GROQ_API_KEY"),
    ("bedrock:anthropic.claude-test", "boto3", "bedrock", "AWS_DEFAULT_REGION"),
    ("ollama:llama-test", "openai", "openai", "OLLAMA_BASE_URL"),
    ("openrouter:openai/gpt-test", "openai", "openai", "OPENROUTER_API_KEY"),
]
"""Lists a model, the module that it needs, the extra that installs it, and the variable that it requires."""


def installed(module: str) -> bool:
    parent, _, child = module.partition(".")
    return find_spec(parent) is not None and (not child or find_spec(module) is not None)


async def refusal(model: str, **settings: Any) -> str:
    with pytest.raises(SetupError) as caught:
        async with open_gateway(settings_for(model, **settings)):
            pass
    assert caught.value.__suppress_context__
    return str(caught.value)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_aws")
@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need[0])
async def test_what_a_model_lacks_is_named_in_a_sentence(
    need: tuple[str, str, str, str], value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, module, extra, variable = need
    if value is not None:
        monkeypatch.setenv(variable, value)
    advice = f"set {variable} in .env or in the environment"
    if not installed(module):
        advice = f"install what it needs with `uv add 'pydantic-ai-slim[{extra}]'`"
    assert await refusal(model) == f"AI_MODEL={model} cannot be used: {advice}."


@pytest.mark.parametrize("model", ["nonsense", "test", "DEMO", "gemini-test", "openai:", ":gpt-test", ":"])
async def test_a_name_that_is_none(model: str) -> None:
    advice = "name it demo, provider:name, or a bare claude-* or gpt-*"
    assert await refusal(model) == f"AI_MODEL={model} cannot be used: {advice}."


@pytest.mark.parametrize("value", [" ", "\n", "one two", "one\ntwo", "schlüssel", '"one', "on'e", '""'])
@pytest.mark.parametrize("need", [need for need in NEEDS if need[3].endswith("_API_KEY")], ids=lambda need: need[0])
async def test_a_key_that_is_none_is_said_and_not_repeated(
    need: tuple[str, str, str, str], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, module, _, variable = need
    monkeypatch.setenv(variable, value)
    wanted = f"{variable}: an API key has letters, digits and signs, and no spaces or quotes; copy it again."
    assert await refusal(model) == wanted or not installed(module)


@pytest.mark.parametrize("around", ["{}\n", "\r\n {}\t", '"{}"', " '{}'\n", '" {}"'])
@pytest.mark.parametrize("provider", ["openai", "azure", "bedrock", "cohere", "heroku", "huggingface", "vercel"])
def test_what_comes_along_with_a_key_is_removed(provider: str, around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = _OTHER_NAMES.get(provider, {}).get("api_key", "OPENAI_API_KEY")
    monkeypatch.setenv(variable, around.format("sk-one"))
    key = read_provider_settings(provider).api_key
    assert key
    assert key.get_secret_value() == "sk-one"


async def test_a_provider_that_nobody_knows() -> None:
    assert await refusal("acme:one") == "AI_MODEL=acme:one cannot be used: Unknown provider: acme."


@pytest.mark.parametrize("place", ["ai_allowed_models", "ai_fallback_models"])
async def test_every_model_that_is_named_must_be_usable(place: str) -> None:
    message = f"{place.upper()}=acme:one cannot be used: Unknown provider: acme."
    assert await refusal("demo", **{place: ["demo", "acme:one"]}) == message


def failing(error: Exception | None, kind: type[FunctionModel] = FunctionModel) -> ModelStream:
    async def speak(_messages: Sequence[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        yield "so "
        yield "far"
        if error:
            raise error

    return ProviderModel("acme:one", kind(stream_function=speak), settings_for("demo")).ask(PROMPT)


async def hear(answer: ModelStream) -> tuple[str, ModelFailure]:
    text = ""
    try:
        async for piece in answer:
            text += str(piece)
    except ModelFailure as failure:
        return text, failure
    raise AssertionError("the model did not fail")


def http(category: Any, status: int) -> exceptions.ModelHTTPError:
    return exceptions.ModelHTTPError.for_category(category, status_code=status, model_name="one", body=SECRET)


FAILURES = [
    (http(exceptions.ModelAuthenticationError, 401), "model_refused_key"),
    (http(exceptions.ModelQuotaExceededError, 402), "model_quota"),
    (http(exceptions.ModelRateLimitError, 429), "model_overloaded"),
    (http(exceptions.ModelOverloadedError, 529), "model_overloaded"),
    (http(exceptions.ModelUnavailableError, 503), "model_overloaded"),
    (http(exceptions.ModelServerError, 500), "model_unavailable"),
    (http(exceptions.ModelNotFoundError, 404), "model_error"),
    (http(exceptions.ModelContextWindowExceededError, 400), "context_too_long"),
    (exceptions.ModelTimeoutError("one", SECRET), "model_timeout"),
    (exceptions.ModelConnectionError("one", SECRET), "model_disconnected"),
    (exceptions.ContentFilterError(SECRET), "content_filtered"),
    (exceptions.UnexpectedModelBehavior(SECRET), "model_error"),
    (exceptions.UserError(SECRET), "model_error"),
    (AttributeError(SECRET), "model_error"),
    (None, "model_disconnected"),  # it ends without a final event
]


@pytest.mark.parametrize(
    ("error", "code"), FAILURES, ids=lambda value: value if isinstance(value, str) else repr(value)
)
async def test_a_failure_has_a_code_and_repeats_nothing(error: Exception | None, code: str) -> None:
    with everything_logged() as log:
        text, failure = await hear(failing(error))
    assert (failure.code, text) == (code, "so far")
    assert re.fullmatch(r"[A-Z][^.]+\.", str(failure))
    assert failure.__suppress_context__
    assert SECRET not in str(failure)
    assert SECRET not in log.getvalue()


async def test_a_log_tells_an_operator_which_error_it_was_and_where() -> None:
    with everything_logged() as log:
        await hear(failing(http(exceptions.ModelNotFoundError, 404)))
        await hear(failing(AttributeError(SECRET)))
    known, unknown = (json.loads(line) for line in log.getvalue().splitlines())
    assert (known["event"], known["error"], known["status"]) == ("model failed", "ModelNotFoundError", 404)
    assert (unknown["error"], unknown["where"].rsplit(":", 1)[0]) == ("AttributeError", __file__)


async def test_a_model_that_cannot_be_told_how_often_to_try_is_not_told() -> None:
    class Plain(FunctionModel):
        unsupported_settings = frozenset({"max_retries"})

    # pydantic-ai warns of a setting that a model ignores, and a warning is an error here.
    assert (await hear(failing(None, Plain)))[0] == "so far"


async def test_a_price_that_nobody_knows_is_none() -> None:
    answer = failing(None)
    await hear(answer)
    assert answer.usage.output_tokens == 2
    assert answer.usage.cost is None
