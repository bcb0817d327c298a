"""Writes one answer of a model in the many shapes in which servers of Chat Completions stream it.

The answer is drawn first, and is what must be read, however it is written. Every choice follows from the seed.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.protocols.compatible import CHUNK
from tests.protocols.server import Answer

Delta = dict[str, Any]

WORDS = [
    *("Yes", " indeed", ".", " No", ",", "\n", "\n\n", " 10\u00a0000 €", " 你好", " 🙂", "👩\u200d👩\u200d👧", " é"),
    *("  ", "- ", " a < b", " <b>", " <", " [T", " `<think>`", " the <think> tag", " </think>"),
    "\n```\n<think>\n</think>\n```\n",
]
THOUGHTS = ["Let me see", " 🙂", "\n", " <b>", "</thin", " 2 < 3", " so", "."]
VALUES = ["Rome", 'a "quoted" word', "🙂", "ünï", "{}", "", "a\\b\n"]


@dataclass(frozen=True)
class Meaning:
    """Holds what an answer says. `end` tells by what its server lets the client know that the answer is whole."""

    text: str
    thought: str
    calls: Sequence[tuple[str, Mapping[str, str]]]
    usage: tuple[int, int] | None
    end: str


def draw(seed: int, *, with_tools: bool) -> tuple[Meaning, Answer]:
    chance = random.Random(seed)  # noqa: S311
    text = "".join(chance.choices(WORDS, k=chance.randint(1, 8)))
    thought = "".join(chance.choices(THOUGHTS, k=chance.randint(1, 5))) if chance.random() < 0.5 else ""
    text = (text.lstrip() if thought else text) if text.strip() else "Yes."
    calls = [(f"tool_{number}", _arguments(chance)) for number in range(chance.randint(1, 3))] if with_tools else []
    usage = (chance.randint(1, 5_000), chance.randint(1, 500)) if chance.random() < 0.8 else None
    end = chance.choice(["reason", "reason", "reason", "done", "usage" if usage else "done", "nothing"])
    meaning = Meaning(text, thought, calls, usage, end)
    is_document = end == "reason" and chance.random() < 0.05
    return meaning, _write_document(chance, meaning) if is_document else _write_stream(chance, meaning)


def _arguments(chance: random.Random) -> Mapping[str, str]:
    return {name: chance.choice(VALUES) for name in chance.sample(["city", "day", "note"], chance.randint(0, 2))}


def _write_document(chance: random.Random, meaning: Meaning) -> Answer:
    called = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(meaning.calls)
    ]
    message: Delta = {"role": "assistant", "content": meaning.text, "tool_calls": called or None}
    message |= {"reasoning_content": meaning.thought} if meaning.thought else {}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if called else "stop"}
    usage = meaning.usage and _usage(*meaning.usage)
    document = {**CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage}
    indent = chance.choice([None, 2])
    return Answer([json.dumps(document, indent=indent).encode()], headers={"content-type": "application/json"})


def _write_stream(chance: random.Random, meaning: Meaning) -> Answer:
    texts = _write_text(chance, meaning.text, meaning.thought)
    deltas = [*_opening(chance), *texts, *_write_calls(chance, meaning.calls)]
    chunks: list[Delta] = [_chunk(chance, delta) for delta in deltas]
    if meaning.end == "reason":
        chunks = _finish(chance, chunks, chance.choice(["tool_calls", "stop"]) if meaning.calls else "stop")
    chunks = _count(chance, chunks, meaning.usage, meaning.end)
    frames = [_frame(chance, json.dumps(chunk)) for chunk in chunks]
    if meaning.end == "done" or (meaning.end == "reason" and chance.random() < 0.8):
        frames.append(chance.choice([b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]"]))
    return Answer(_cut(chance, b"".join(frames)))


def _opening(chance: random.Random) -> Sequence[Delta]:
    openings: Sequence[Sequence[Delta]] = [
        [{"role": "assistant", "content": ""}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "assistant"}, {}],
        [{"role": None, "content": None, "tool_calls": None, "refusal": None, "reasoning": None}],
        [],
    ]
    return chance.choice(openings)


def _write_text(chance: random.Random, text: str, thought: str) -> Iterator[Delta]:
    if thought and chance.random() < 0.5:
        field = chance.choice(["reasoning", "reasoning_content"])
        yield from ({field: piece} for piece in _pieces(chance, thought))
    elif thought:
        name = chance.choice(["think", "thinking", "thought"])
        before, after = chance.choice(["", "\n", " "]), chance.choice(["", "\n", "\n\n"])
        text = f"{before}<{name}>{thought}</{name}>{after}{text}"
    for piece in _pieces(chance, text):
        yield {"content": piece, **({"role": "assistant"} if chance.random() < 0.2 else {})}


def _pieces(chance: random.Random, text: str) -> Iterator[str]:
    """Yields the text in pieces, cut anywhere, also between the halves of a surrogate pair."""
    units = [text[at : at + 1] for at in range(len(text))]
    halves = [half for unit in units for half in _halves(unit)]
    while halves:
        size = chance.choice([1, 1, 2, 3, 5, 8, 1_000])
        yield "".join(halves[:size])
        del halves[:size]


def _halves(unit: str) -> Sequence[str]:
    if ord(unit) < 0x10000:
        return [unit]
    above = ord(unit) - 0x10000
    return [chr(0xD800 + (above >> 10)), chr(0xDC00 + (above & 0x3FF))]


def _write_calls(chance: random.Random, calls: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[Delta]:
    style = chance.choice(STYLES)
    for number, (name, arguments) in enumerate(calls):
        pieces = list(style(chance, number, name, arguments))
        if chance.random() < 0.2:
            pieces = [{"type": "function", **piece} for piece in pieces]
        for piece in pieces:
            yield {"tool_calls": [piece], **({"content": None} if chance.random() < 0.3 else {})}


def _in_pieces(
    chance: random.Random, number: int, name: str, arguments: Mapping[str, str], index: Any, *, ids: bool = True
) -> Iterator[Delta]:
    """Writes a call as OpenAI does, with an index of any kind."""
    first: Delta = {"index": index, "function": {"name": name, "arguments": chance.choice(["", None])}}
    yield {**first, "id": f"call_{number}"} if ids else first
    for piece in _pieces(chance, json.dumps(arguments, ensure_ascii=chance.random() < 0.5)):
        yield {"index": index, "function": {"arguments": piece}}


def _standard(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    return _in_pieces(chance, number, name, arguments, chance.choice([number, number, number + 1, str(number)]))


def _without_ids(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    return _in_pieces(chance, number, name, arguments, number, ids=False)


def _sharing_an_index(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    return _in_pieces(chance, number, name, arguments, 0)


def _without_indices(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    for piece in _in_pieces(chance, number, name, arguments, None):
        yield {key: value for key, value in piece.items() if key != "index"} if number % 2 else piece


def _whole(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    """Writes the call at once, as text or as an object; some servers say it twice."""
    form: Any = arguments if chance.random() < 0.5 else json.dumps(arguments)
    whole: Delta = {"index": chance.choice([0, number]), "function": {"name": name, "arguments": form}}
    whole |= {"id": f"call_{number}"} if chance.random() < 0.7 else {}
    yield whole
    if chance.random() < 0.2:
        yield whole


def _repeating(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    """Repeats the id, the name or both with every piece."""
    more: Delta = chance.choice([{"id": f"call_{number}"}, {}])
    for piece in _in_pieces(chance, number, name, arguments, number):
        named = {**piece["function"], "name": name} if not more or chance.random() < 0.9 else piece["function"]
        yield {**piece, **more, "function": named}


def _changing_ids(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    for count, piece in enumerate(_in_pieces(chance, number, name, arguments, number)):
        yield {**piece, "id": f"call_{number}_{count}"}


def _same_ids(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    for piece in _in_pieces(chance, number, name, arguments, number):
        yield {**piece, **({"id": "call"} if "id" in piece else {})}


def _empty_first(chance: random.Random, number: int, name: str, arguments: Mapping[str, str]) -> Iterator[Delta]:
    first, *rest = _in_pieces(chance, number, name, arguments, number)
    yield {**first, "function": {"name": name, "arguments": "{}"}}
    yield from rest if arguments else ()


Style = Callable[[random.Random, int, str, Mapping[str, str]], Iterator[Delta]]
STYLES: Sequence[Style] = [
    *(_standard, _without_ids, _sharing_an_index, _without_indices, _whole),
    *(_repeating, _changing_ids, _same_ids, _empty_first),
]


def _chunk(chance: random.Random, delta: Delta, reason: str | None = None) -> Delta:
    choice: Delta = {"index": 0, "delta": delta, "finish_reason": reason}
    if reason is None:
        choice = chance.choice([choice, {"delta": delta}, {**choice, "index": None}, {**choice, "finish_reason": ""}])
    if chance.random() < 0.1:
        choice = {**choice, "logprobs": chance.choice([None, {"content": []}])}
    heads: Sequence[Delta] = [
        dict(CHUNK),
        {"id": f"chat-{chance.random()}", "object": "chat.completion.chunk", "created": 1.5, "model": "some"},
        {"id": None, "created": None, "model": None, "object": None},
        {"created": "2026-01-01T00:00:00Z", "model": ""},
        {},
    ]
    more = [{"index": 1, "delta": {"content": "another answer"}}] if chance.random() < 0.05 else []
    extra: Delta = {"x_server": {"queue": 0.1}, "service_tier": None} if chance.random() < 0.1 else {}
    return {**chance.choice(heads), "choices": [choice, *more], **extra}


def _finish(chance: random.Random, chunks: list[Delta], reason: str) -> list[Delta]:
    if chance.random() < 0.3 and chunks:
        *before, last = chunks
        [choice, *more] = last["choices"]
        return [*before, {**last, "choices": [{**choice, "finish_reason": reason}, *more]}]
    closing = _chunk(chance, {}, reason)
    if chance.random() < 0.3:
        closing["choices"][0]["delta"] = chance.choice([None, {"content": ""}, {"content": None, "role": None}])
    return [*chunks, closing]


def _count(chance: random.Random, chunks: list[Delta], usage: tuple[int, int] | None, end: str) -> list[Delta]:
    """Adds the usage, in the last chunk, in one of its own, or growing in every chunk."""
    if usage is None:
        return [{**chunk, **chance.choice([{}, {"usage": None}, {"usage": {}}])} for chunk in chunks]
    prompt, completion = usage
    own: Delta = {**CHUNK, "choices": chance.choice([[], None]), "usage": _usage(prompt, completion)}
    styles = {"usage": ["own"], "nothing": ["last", "growing"]}.get(end, ["own", "last", "growing", "both"])
    style = chance.choice(styles)
    if style == "growing" and chunks:
        grown = [min(completion, number + 1) for number in range(len(chunks))]
        chunks = [{**chunk, "usage": _usage(prompt, count)} for chunk, count in zip(chunks, grown, strict=True)]
    if style in ("last", "both", "growing") and chunks:
        chunks = [*chunks[:-1], {**chunks[-1], "usage": _usage(prompt, completion)}]
    if style in ("own", "both"):
        chunks = [*chunks, own]
        if chance.random() < 0.2:
            chunks.append({**own, "usage": chance.choice([None, _usage(0, 0), _usage(prompt, completion)])})
    return chunks


def _usage(prompt: int, completion: int) -> Mapping[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": None,
        "completion_tokens_details": {"reasoning_tokens": None},
    }


def _frame(chance: random.Random, data: str) -> bytes:
    line = chance.choice(["\n", "\n", "\n", "\r\n", "\r"])
    space = chance.choice([" ", " ", ""])
    blanks = [f": keep-alive{line}{line}", f"data:{line}{line}"]
    before = chance.choice(["", "", "", *blanks, f"event: message{line}", f"id: 1{line}"])
    return f"{before}data:{space}{data}{line}{line}".encode()


def _cut(chance: random.Random, data: bytes) -> Sequence[bytes]:
    """Cuts the bytes anywhere, also within a character."""
    size = chance.choice([1, 3, 7, 50, 100_000])
    return [data[at : at + size] for at in range(0, len(data), size)]
