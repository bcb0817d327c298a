"""Tests servers of Chat Completions that stream an answer otherwise than OpenAI does."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic_ai.providers.openrouter import OpenRouterProvider

from app.services.ai import Prompt, Reasoning, ToolResult, ToolSpec, UserMessage
from tests.protocols import gateway
from tests.protocols.compatible import CHUNK, Completions
from tests.protocols.dialect import KEY, Call, Dialect
from tests.protocols.gateway import Connect, ask, everything_logged, warm_gateways
from tests.protocols.openai_chat import CHAT_COMPLETIONS
from tests.protocols.server import Answer, End, event, problem
from tests.protocols.spoken import INSTALLED

COMPLETIONS = [dialect for dialect in INSTALLED if isinstance(dialect, Completions) and dialect.sdk == "openai"]
every = pytest.mark.parametrize("dialect", COMPLETIONS, ids=lambda dialect: dialect.model)

HIGH, LOW = "\ud83d", "\ude00"
THOUGHTS: Sequence[tuple[Sequence[str], str]] = [
    (["<think>", "secret", "</think>", "Hi"], "Hi"),
    (["<thi", "nk>sec", "ret</th", "ink>H", "i"], "Hi"),
    (["<think>secret</think>Hi"], "Hi"),
    ([*"<think>secret</think>Hi"], "Hi"),
    (["\n<think>\nsecret\n</think>\n\nHi"], "Hi"),
    (["<think></think>Hi"], "Hi"),
    (["<think>", "hi so</th", "ink>Hi"], "Hi"),
    (["Hi. ", "i.<thi", "nk>secret</think> Bye."], "Hi. i. Bye."),
    (["<think>a < b, </thin and <think></think>Hi"], "Hi"),
    (["<think>one</think>\n<think>two</think>\nHi"], "Hi"),
    (["Hi.<think>secret</think> Bye."], "Hi. Bye."),
    (["Hi.\n<think>secret</think>\nBye."], "Hi.\n\nBye."),
    (["<thinking>secret</thinking>Hi"], "Hi"),
    (["<thought>secret</thought>Hi"], "Hi"),
    (["[THINK]secret[/THINK]Hi"], "Hi"),
    (["<THINK>secret</THINK>Hi"], "Hi"),
    (["<reasoning>secret</reasoning>Hi"], "Hi"),
    (["    <think>secret</think>Hi"], "Hi"),
    (["\ufeff<think>secret</think>Hi"], "Hi"),
    (["<think> secret</think>Hi"], "Hi"),
    (["<think>"], ""),
    (["Hi. <think>secret</think> Bye."], "Hi.  Bye."),
    (["Let me check:\n\n<think>\nsecret\n</think>\n\n4"], "Let me check:\n\n\n\n4"),
    (["café<think>secret</think>, **so**<think>secret</think> (x)<think>secret</think>"], "café, **so** (x)"),
    (["😀<think>secret</think>"], "😀"),
    (["````\n```\n````\n<think>secret</think>Hi"], "````\n```\n````\nHi"),
    (["~~~\n```\n~~~\n<think>secret</think>Hi"], "~~~\n```\n~~~\nHi"),
]
"""Lists the pieces of an answer and the text that is not thought in it."""
QUOTED = [
    "Models write <think> and </think> around a thought.",
    "Use the tag `<think>`.",
    "`<think>` and `</think>` are tags.",
    "The tag (<think>) begins a thought.",
    "Write:\n<think>\nyour thought\n</think>",
    "```xml\n<think>\n</think>\n```",
    "~~~\n<think>x</think>\n~~~\nDone.",
    "As code:\n\n    <think>x</think>\n",
    "模型会用<think>和</think>标签。",
    "</think> ends a thought.",
    "a <b> and [TH] and <thin",
    "<think> is a tag that reasoning models use.",
    "Models wrap their thoughts in\n<think> tags, and clients hide them.",
    "Use `Vec<think>`, Foo<thought>, and Bar<thinking>.",
    "- ```xml\n  <think>q</think>\n  ```",
    "```\n~~~\n<think>q</think>\n```",
    "- <think>q</think>",
    "好的<think>",
]

SERVERS = [
    ("openai-chat:some-model", ["OPENAI_BASE_URL=https://gateway.example/v1", "OPENAI_API_KEY=…"]),
    ("openai-chat:qwen3-8b", ["OPENAI_BASE_URL=http://localhost:1234/v1"]),
    ("vllm:Qwen/Qwen3-8B", ["VLLM_BASE_URL=http://localhost:8000/v1"]),
    ("litellm:some-model", ["LITELLM_BASE_URL=http://localhost:4000/v1", "LITELLM_API_KEY=…"]),
    ("ollama:qwen3", ["OLLAMA_BASE_URL=http://localhost:11434/v1"]),
    (
        "azure:some-deployment",
        ["AZURE_OPENAI_ENDPOINT=https://some-name.openai.azure.com/openai/v1", "AZURE_OPENAI_API_KEY=…"],
    ),
    ("openrouter:openai/gpt-5-mini", ["OPENROUTER_API_KEY=…"]),
]
"""Lists models and the settings with which the manual says that they can be used."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def connected(anyio_backend: str) -> AsyncGenerator[Connect]:
    assert anyio_backend
    async with warm_gateways() as connect:
        yield connect


@every
@pytest.mark.parametrize("with_finish", [True, False])
async def test_of_usage_that_grows_the_last_counts(dialect: Completions, with_finish: bool, connected: Connect) -> None:
    ai, server = await connected(dialect)
    frames = [dialect.chunk({"content": "so "}, usage=_usage(100, count)) for count in range(1, 11)]
    closing = dialect.chunk({}, "stop", **({"usage": _usage(100, 10)} if with_finish else {}))
    server.will(dialect.answer([*frames, closing, dialect.done]))
    heard = await ask(ai)
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (100, 10)


@pytest.mark.parametrize("dialect", INSTALLED, ids=lambda dialect: dialect.model)
async def test_a_character_in_two_halves_is_one(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.speak(f"Hi {HIGH}", f"{LOW} end ", HIGH, LOW))
    heard = await ask(ai)
    assert (heard.text, heard.code) in [("Hi 😀 end 😀", None), ("", "model_error")]
    assert heard.text or not isinstance(dialect, Completions)


@every
async def test_half_a_character_is_replaced(dialect: Completions, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.speak(f"{LOW}Hi {HIGH}", f" {HIGH}"))
    heard = await ask(ai)
    assert (heard.text, heard.message.text) == ("\ufffdHi \ufffd \ufffd", "\ufffdHi \ufffd \ufffd")


@every
async def test_half_a_character_of_a_thought_is_replaced(dialect: Completions, connected: Connect) -> None:
    ai, server = await connected(dialect)
    thought = dialect.chunk({dialect.reasoning_field: f"so {HIGH}"})
    server.will(dialect.answer([thought, *dialect.begin("Hi"), *dialect.closing("Hi")]))
    heard = await ask(ai)
    assert (heard.reasoning, heard.text) == ("so \ufffd", "Hi")


@every
async def test_arguments_of_tools_may_have_characters_in_two_halves(dialect: Completions, connected: Connect) -> None:
    ai, server = await connected(dialect)
    call = Call("call_1", "note", (f'{{"text": "{HIGH}', f'{LOW}"}}'))
    server.will(dialect.answer(dialect.calling("", call)))
    [called] = (await ask(ai, _with_tool("note"))).message.tool_calls
    assert json.loads(called.arguments) == {"text": "😀"}


@every
@pytest.mark.parametrize(("pieces", "text"), THOUGHTS, ids=str)
async def test_thoughts_between_tags_are_reasoning_and_no_text(
    dialect: Completions, pieces: Sequence[str], text: str, connected: Connect
) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.speak(*pieces))
    heard = await ask(ai)
    code = None if text else "empty_answer"
    assert (heard.text, heard.message.text if text else "", heard.code) == (text, text, code)
    assert "<" not in heard.reasoning or "a < b" in heard.reasoning
    assert ("secret" in heard.reasoning) == ("secret" in "".join(pieces))
    assert heard.reasoning == heard.message.reasoning or not text


@pytest.mark.parametrize("text", QUOTED)
@pytest.mark.parametrize("is_cut", [False, True])
async def test_tags_that_are_quoted_are_text(text: str, is_cut: bool, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.speak(*(text if is_cut else [text])))
    heard = await ask(ai)
    assert (heard.text, heard.reasoning) == (text, "")


@pytest.mark.parametrize("field", ["content", "reasoning", "reasoning_content"])
async def test_each_piece_of_a_thought_is_shown(field: str, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    pieces = ["<think>", "so", " so", "</think>"] if field == "content" else ["so", " so"]
    thoughts = [CHAT_COMPLETIONS.chunk({field: piece}) for piece in pieces]
    server.will(CHAT_COMPLETIONS.answer([*thoughts, *CHAT_COMPLETIONS.begin("Hi"), *CHAT_COMPLETIONS.closing("Hi")]))
    heard = [piece async for piece in ai.opened[CHAT_COMPLETIONS.model].ask(gateway.PROMPT)]
    assert heard == [Reasoning("so"), Reasoning(" so"), "Hi"]


async def test_a_doubtful_thought_is_shown_when_it_ends_and_its_pieces_are_signs_of_life(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.speak("<think> se", "cr", "et</think>Hi"))
    stream = ai.opened[CHAT_COMPLETIONS.model].ask(gateway.PROMPT)
    assert [piece async for piece in stream] == ["", "", "", Reasoning(" secret"), "Hi"]
    assert stream.message.reasoning == " secret"
    server.will(CHAT_COMPLETIONS.speak("<think> is", " a tag."))
    stream = ai.opened[CHAT_COMPLETIONS.model].ask(gateway.PROMPT)
    assert [piece async for piece in stream] == ["", "", "<think> is a tag."]
    assert "thinking" not in (stream.message.raw or "")


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_text": "so"},
        {"thinking": "so"},
        {"reasoning_content": {"text": "so"}},
        {"reasoning_details": [{"type": "reasoning.text", "text": "so"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}]},
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}]},
    ],
    ids=str,
)
async def test_a_thought_in_any_form_is_reasoning(delta: dict[str, Any], connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    frames = [CHAT_COMPLETIONS.chunk(delta), *CHAT_COMPLETIONS.begin("Hi"), *CHAT_COMPLETIONS.closing("Hi")]
    server.will(CHAT_COMPLETIONS.answer(frames))
    assert [piece async for piece in ai.opened[CHAT_COMPLETIONS.model].ask(gateway.PROMPT)] == [
        Reasoning("so"),
        "Hi",
    ]


async def test_a_thought_between_tags_is_no_history(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    call = Call("call_1", "note", ("{}",))
    server.will(CHAT_COMPLETIONS.answer(CHAT_COMPLETIONS.calling("<think>secret</think>Hi", call)))
    prompt = _with_tool("note")
    said = (await ask(ai, prompt)).message
    server.will(CHAT_COMPLETIONS.speak("Bye"))
    await ask(ai, Prompt([*prompt.messages, said, UserMessage("And?")], tools=prompt.tools))
    [assistant] = [message for message in server.requests[-1].body["messages"] if message["role"] == "assistant"]
    assert "<think>" not in json.dumps(assistant)
    assert assistant["content"] == "Hi"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ([CHAT_COMPLETIONS.done], "no_finish_reason"),
        ([CHAT_COMPLETIONS.usage()], "no_finish_reason"),
        ([CHAT_COMPLETIONS.usage(), CHAT_COMPLETIONS.done], "no_finish_reason"),
        ([CHAT_COMPLETIONS.chunk({}, "")], "model_disconnected"),
        (
            [CHAT_COMPLETIONS.chunk({"content": ""}, usage={"prompt_tokens": 1, "completion_tokens": 1})],
            "model_disconnected",
        ),
        ([], "model_disconnected"),
    ],
)
async def test_an_answer_without_a_finish_reason_is_whole_if_its_end_was_said(
    ending: Sequence[bytes], code: str, connected: Connect
) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.answer([*CHAT_COMPLETIONS.begin("Hi"), *ending]))
    heard = await ask(ai)
    assert (heard.text, heard.code) == ("Hi", code)
    assert (heard.message.text == "Hi") == (code == "no_finish_reason")


@pytest.mark.parametrize(
    "error",
    [
        {"object": "error", "message": "Out of memory.", "type": "InternalServerError", "param": None, "code": 500},
        {"message": "Out of memory."},
        {"detail": "Out of memory."},
        {"error": "Out of memory."},
        {"error": {"message": "Out of memory."}, "choices": []},
    ],
)
async def test_an_error_in_a_stream_is_one_in_any_form(error: dict[str, Any], connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.answer([*CHAT_COMPLETIONS.begin("Hi"), event(error), CHAT_COMPLETIONS.done]))
    heard = await ask(ai)
    assert (heard.text, heard.code in {"model_error", "model_unavailable"}) == ("Hi", True)


@pytest.mark.parametrize("blank", [b"data:\n\n", b"data: \n\n", b":\n\n", b"\n\n\n", b"event: ping\n\n"])
async def test_an_event_without_data_says_nothing(blank: bytes, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.interrupt("Hi", frame=blank))
    assert (await ask(ai)).text == "Hi"


async def test_chunks_without_blank_lines_are_read(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    frames = [*CHAT_COMPLETIONS.begin("H", "i"), CHAT_COMPLETIONS.chunk({}, "stop"), CHAT_COMPLETIONS.done]
    server.will(CHAT_COMPLETIONS.answer([frame[:-1] for frame in frames]))
    heard = await ask(ai)
    assert (heard.text, heard.message.text, heard.code) == ("Hi", "Hi", None)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        *((reason, "length") for reason in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((reason, "content_filtered") for reason in ("content_filter", "SAFETY", "sensitive", "content_filter: X")),
        *(
            (reason, "model_unavailable")
            for reason in ("abort", "error", "network_error", "insufficient_system_resource")
        ),
        *((reason, None) for reason in ("stop", "eos", "end_turn", "STOP")),
    ],
)
async def test_finish_reasons_have_many_names(reason: str, code: str | None, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.speak("Hi", reason=reason))
    heard = await ask(ai)
    assert (heard.text, heard.code) == ("Hi", code)


async def test_an_error_of_a_choice_is_one(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    failed = {"index": 0, "delta": {}, "finish_reason": "stop", "error": {"code": 502, "message": "Out of memory."}}
    frames = [*CHAT_COMPLETIONS.begin("Hi"), event({**CHUNK, "choices": [failed]}), CHAT_COMPLETIONS.done]
    server.will(CHAT_COMPLETIONS.answer(frames))
    assert (await ask(ai)).code in {"model_error", "model_unavailable"}


async def test_after_the_finish_reason_a_lost_connection_does_not_matter(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    frames = [*CHAT_COMPLETIONS.begin("Hi"), CHAT_COMPLETIONS.chunk({}, "stop")]
    server.will(CHAT_COMPLETIONS.answer(frames, End.cut))
    heard = await ask(ai)
    assert (heard.text, heard.message.text, heard.code) == ("Hi", "Hi", None)


@pytest.mark.parametrize(
    "type", ["application/json", "Application/JSON; charset=utf-8", "text/event-stream", "text/plain"]
)
async def test_an_answer_that_is_not_streamed_is_read(type: str, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    message = {"role": "assistant", "content": "Hi"}
    document = {**CHUNK, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": _usage(7, 2)}
    server.will(_as_json(document, type), _as_json({"error": {"message": "No.", "code": "server_error"}}, type))
    heard = await ask(ai)
    assert (heard.text, heard.code, heard.usage.output_tokens) == ("Hi", None, 2)
    heard = await ask(ai)
    assert (heard.text, heard.code) == ("", "model_unavailable")


@pytest.mark.parametrize("type", ["application/json", "text/plain"])
async def test_a_stream_is_read_whatever_its_head_calls_it(type: str, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(replace(CHAT_COMPLETIONS.speak("Hi"), headers={"content-type": type}))
    assert (await ask(ai)).text == "Hi"


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": {"prompt_tokens": "7", "completion_tokens": "2"}},
        {"usage": {"input_tokens": 7, "output_tokens": 2}},
        {"usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -1}}},
        {"x_groq": {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}},
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {},
                    "finish_reason": "stop",
                    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
                }
            ]
        },
    ],
    ids=str,
)
async def test_usage_is_found_where_it_is(fields: dict[str, Any], connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    finish = CHAT_COMPLETIONS.chunk({}, "stop", **fields)
    server.will(CHAT_COMPLETIONS.answer([*CHAT_COMPLETIONS.begin("Hi"), finish, CHAT_COMPLETIONS.done]))
    usage = (await ask(ai)).usage
    assert (usage.input_tokens, usage.output_tokens) == (7, 2)


ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'
HEADS = [[(0, "a", "f", "")], [(0, "b", "f", "")]]
CALLS: Sequence[tuple[Sequence[Sequence[tuple[Any, ...]]], Sequence[tuple[str, str]]]] = [
    (
        [[(0, "a", "f", "")], [(0, "b", "f", "")], [(0, None, None, ROME)], [(1, None, None, OSLO)]],
        [("f", ROME), ("f", OSLO)],
    ),
    ([*HEADS], [("f", "{}"), ("f", "{}")]),
    ([[(0, "a", "f", None)], [(0, "b", "f", OSLO)]], [("f", "{}"), ("f", OSLO)]),
    ([[(None, None, "f", "")], [(None, None, "g", ROME)]], [("f", "{}"), ("g", ROME)]),
    ([[(0, None, "f", ROME), (0, None, "f", ROME)]], [("f", ROME), ("f", ROME)]),
    ([[(0, "a", "f", ROME)], [(0, "a", "g", OSLO)]], [("f", ROME), ("g", OSLO)]),
    ([[(0, "a", "f", ROME)], [(0, "a", "f", OSLO)]], [("f", ROME), ("f", OSLO)]),
    ([[(0, "a", None, '{"city"')], [(0, "a", "f", ': "Rome"}')]], [("f", ROME)]),
    ([[(0, None, None, ROME)], [(0, None, "f", None)]], [("f", ROME)]),
    ([[(None, "a", "f", '{"city"')], [(None, "b", None, ': "Rome"}')]], [("f", ROME)]),
    ([[(0, "a", "f", "")], [(0, None, None, ROME)], [(0, None, None, ROME)]], [("f", ROME)]),
    ([[(0, "a", "f", '{"ci')], [(0, None, None, '{"city": "Ro')], [(0, None, None, ROME)]], [("f", ROME)]),
    ([[(0, "a", "get_", "")], [(0, None, "city", ROME)]], [("get_city", ROME)]),
]
"""Lists the tool calls of some deltas, as index, id, name and arguments, and the calls that they make."""


@pytest.mark.parametrize(("deltas", "calls"), CALLS, ids=str)
async def test_calls_are_told_apart(
    deltas: Sequence[Sequence[tuple[Any, ...]]], calls: Sequence[tuple[str, str]], connected: Connect
) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    frames = [CHAT_COMPLETIONS.chunk({"tool_calls": [_item(*item) for item in delta]}) for delta in deltas]
    server.will(CHAT_COMPLETIONS.answer([*frames, *CHAT_COMPLETIONS.closing("", "tool_calls")]))
    called = (await ask(ai, _with_tool("f"))).message.tool_calls
    assert [(call.name, call.arguments) for call in called] == calls
    assert len({call.id for call in called}) == len(calls)


@pytest.mark.parametrize(
    "delta",
    [
        {"function_call": {"name": "f", "arguments": ROME}},
        {"tool_calls": {"index": 0, "id": "a", "function": {"name": "f", "arguments": ROME}}},
    ],
)
async def test_older_forms_of_calls_are_read(delta: dict[str, Any], connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(CHAT_COMPLETIONS.answer([CHAT_COMPLETIONS.chunk(delta), *CHAT_COMPLETIONS.closing("", "tool_calls")]))
    [call] = (await ask(ai, _with_tool("f"))).message.tool_calls
    assert (call.name, call.arguments) == ("f", ROME)


async def test_the_signature_of_a_call_goes_back_with_it(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    signed = {**_item(0, "a", "f", ROME), "extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    calling = CHAT_COMPLETIONS.chunk({"tool_calls": [signed]})
    server.will(CHAT_COMPLETIONS.answer([calling, *CHAT_COMPLETIONS.closing("", "tool_calls")]))
    prompt = _with_tool("f")
    said = (await ask(ai, prompt)).message
    server.will(CHAT_COMPLETIONS.speak("Bye"))
    await ask(ai, Prompt([*prompt.messages, said, ToolResult("a", "f", "warm")], tools=prompt.tools))
    [call] = server.requests[-1].body["messages"][1]["tool_calls"]
    assert call["extra_content"] == signed["extra_content"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "content_filter", "message": "filtered"}, "content_filtered"),
        ({"code": 400, "type": "exceed_context_size_error", "message": "too long"}, "context_too_long"),
        ({"code": None, "message": "when context the overflows"}, "context_too_long"),
    ],
)
async def test_refusals_are_known_by_what_servers_say(error: dict[str, Any], code: str, connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(problem(400, {"error": error}))
    assert (await ask(ai)).code == code


@pytest.mark.parametrize(("model", "lines"), SERVERS, ids=[model for model, _ in SERVERS])
async def test_the_usual_servers_need_these_settings(
    model: str, lines: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaces only the host of the address, and the ellipsis of the key."""
    path = "/api/v1" if model.startswith("openrouter:") else ""
    async with gateway.serve() as server:
        monkeypatch.setattr(OpenRouterProvider, "base_url", f"{server.url}{path}")
        for name, _, value in (line.partition("=") for line in lines):
            address = urlsplit(value)
            monkeypatch.setenv(name, f"{server.url}{address.path}" if address.scheme else KEY)
            path = address.path if address.scheme else path
        async with gateway.open_gateway(gateway.settings_for(model)) as ai:
            server.will(CHAT_COMPLETIONS.speak("<think>secret</think>Hi"))
            assert (await ask(ai)).text == "Hi"
    [request] = server.requests
    assert (request.path, request.body["model"]) == (f"{path}/chat/completions", model.partition(":")[2])
    has_key = any(line.endswith("…") for line in lines)
    assert (KEY in {*request.headers.values(), request.headers.get("authorization", "")[7:]}) == has_key


@pytest.mark.parametrize(
    ("model", "address", "field"),
    [
        ("openai-chat:llama-3", "OPENAI_BASE_URL", "max_tokens"),
        ("openai-chat:gpt-4o-mini", "OPENAI_BASE_URL", "max_tokens"),
        ("openai-chat:gpt-5-mini", "OPENAI_BASE_URL", "max_completion_tokens"),
        ("openai-chat:openai/gpt-5-mini", "OPENAI_BASE_URL", "max_completion_tokens"),
        ("litellm:gpt-5-mini", "LITELLM_BASE_URL", "max_tokens"),
        ("ollama:qwen3", "OLLAMA_BASE_URL", "max_tokens"),
        ("vllm:Qwen/Qwen3-8B", "VLLM_BASE_URL", "max_tokens"),
    ],
)
async def test_the_length_limit_has_the_name_that_the_server_knows(
    model: str, address: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway.serve() as server:
        monkeypatch.setenv(address, f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "")
        async with gateway.open_gateway(gateway.settings_for(model, ai_max_output_tokens=77)) as ai:
            server.will(CHAT_COMPLETIONS.speak("Hi"))
            assert (await ask(ai, replace(gateway.PROMPT, temperature=0.5))).text == "Hi"
    body = server.requests[0].body
    assert ("temperature" in body) == (field == "max_tokens" and not model.startswith("litellm:"))
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {field: 77}


async def test_groq_is_asked_to_keep_thoughts_out_of_the_text() -> None:
    if not (groq := [dialect for dialect in INSTALLED if dialect.sdk == "groq"]):
        return
    for model, format in (("groq:qwen/qwen3-32b", "parsed"), ("groq:llama-3.1-8b-instant", None)):
        async with gateway.gateway(groq[0], model) as (ai, server):
            server.will(groq[0].speak("Hi"))
            await ask(ai)
        assert server.requests[0].body.get("reasoning_format") == format


async def test_a_log_says_what_to_do_about_an_address_that_the_server_does_not_know(connected: Connect) -> None:
    ai, server = await connected(CHAT_COMPLETIONS)
    server.will(Answer([b"not found"], 404, {"content-type": "text/plain"}))
    with everything_logged() as log:
        assert (await ask(ai)).code == "model_error"
    [failed] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "model failed"]
    assert "openai-chat:" in failed["advice"]


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _with_tool(name: str) -> Prompt:
    return Prompt([UserMessage("Well?")], tools=[ToolSpec(name, "Does it.", {"type": "object", "properties": {}})])


def _as_json(document: dict[str, Any], type: str) -> Answer:
    return Answer([json.dumps(document).encode()], headers={"content-type": type})


def _item(index: Any, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    """Returns an item of `tool_calls` without what is None, but for empty arguments."""
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return {"function": function, **({} if index is None else {"index": index}), **({"id": id} if id else {})}
