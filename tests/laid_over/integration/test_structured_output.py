"""Tests agents with an output schema: what they may have, how often models are asked, and what readers get."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import delete

from app.core import fair_slots
from app.models.execution import Execution
from app.repositories import process
from app.services.agents import structured_output
from app.services.ai import AssistantMessage, Prompt, Reasoning, ToolCall, UserMessage
from app.services.processes import heartbeat
from tests.agents import AGENTS, agent, by_role, calls, events, execute, play, read, returned
from tests.agents import ended as ended_execution
from tests.chats import CONVERSATIONS, messages, resume, stream
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.integration.test_agent_replies import ADD, of_type, reached, send
from tests.integration.test_agent_reply_faults import (
    ENDS,
    SECONDS,
    Spoken,
    all_written,
    assert_nothing_is_left,
    begin,
    died,
    speak,
    stop,
)
from tests.sockets import connected
from tests.sse import Event

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
ROME = {"city": "Rome ♥", "degrees": 30}
TEXT = '{"city":"Rome ♥","degrees":30}'
FENCED = f"Certainly!\n```json\n{json.dumps(ROME, indent=2)}\n```"
GOOD = f"```json\n{json.dumps(ROME, indent=2)}\n```"
WRONG = '{"city": "Rome"}'
MISSING = 'The answer does not fit the output schema at /: "degrees" is a required property.'


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)


@pytest.fixture
async def app(make_settings: MakeSettings) -> AsyncGenerator[FastAPI]:
    async with running(make_settings(tokens_per_day=10_000_000), is_server=True) as app:
        yield app


async def forecaster(client: httpx2.AsyncClient, *tools: str, **more: Any) -> str:
    return (await agent(client, *tools, **{"output_schema": SCHEMA, **more}))["id"]


def told_to_the_model(prompt: Prompt) -> list[str]:
    return [message.text for message in prompt.messages if isinstance(message, UserMessage)]


def datas(told: Sequence[Event]) -> list[Event]:
    return of_type(list(told), "message.data")


async def test_an_answer_is_data(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, GOOD)
    reply = await send(alice, "Rome?", agent_id=await forecaster(alice))
    assert (reply["status"], reply["parts"], reply["content"]) == ("completed", [{"type": "data", "data": ROME}], TEXT)
    assert model.prompts[0].output_schema == SCHEMA
    [_question, listed] = (await messages(alice, reply["conversation_id"]))["items"]
    assert {name: listed[name] for name in reply} == reply
    execution = await read(alice, reply["execution_id"])
    assert (execution["output"], execution["usage"]["steps"]) == (TEXT, 1)
    assert execution["configuration"]["output_schema"] == SCHEMA
    [completed] = of_type(await events(alice, execution["id"]), "model.completed")
    assert (completed.data["data"], completed.data["text"], completed.data["validation_error"]) == (ROME, TEXT, None)
    found = (await alice.get(CONVERSATIONS, params={"query": "degrees"})).json()["items"]
    assert [one["id"] for one in found] == [reply["conversation_id"]]


async def test_an_execution_without_a_conversation_answers_with_data(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, WRONG, GOOD)
    execution = await ended_execution(alice, (await execute(alice, await forecaster(alice)))["id"])
    assert (execution["output"], execution["usage"]["steps"]) == (TEXT, 2)
    told = await events(alice, execution["id"])
    assert not of_type(told, "model.delta")
    assert [event.data["validation_error"] for event in of_type(told, "model.completed")] == [MISSING, None]


async def test_a_model_is_told_what_is_wrong_and_asked_again(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, FENCED, WRONG, GOOD, GOOD)
    agent_id = await forecaster(alice)
    told = await stream(alice, "Rome?", agent_id=agent_id)
    assert [event.type for event in told] == ["message.created", "message.data", "message.completed"]
    reply = told[-1].data["message"]
    assert (reply["parts"], reply["usage"]["input_tokens"]) == ([{"type": "data", "data": ROME}], 30)
    assert (await read(alice, reply["execution_id"]))["usage"]["steps"] == 3
    question, first, second = told_to_the_model(model.prompts[2])
    assert question == "Rome?"
    assert first.startswith("The answer is not JSON: ")
    assert second == f"{MISSING} Answer again, with nothing but a JSON object that fits the schema."
    assert [message.text for message in model.prompts[2].messages if isinstance(message, AssistantMessage)] == [
        FENCED,
        WRONG,
    ]
    await send(alice, "And now?", conversation_id=reply["conversation_id"])
    assert model.prompts[3].messages == (UserMessage("Rome?"), AssistantMessage(TEXT, []), UserMessage("And now?"))


async def test_memory_has_calls_and_the_answer_that_counts(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, calls(ADD, text="Let me see."), WRONG, GOOD, GOOD)
    told = await stream(alice, "Rome?", agent_id=await forecaster(alice, "calculate"))
    reply = told[-1].data["message"]
    assert [part["type"] for part in reply["parts"]] == ["text", "tool_call", "data"]
    assert reply["content"] == f"Let me see.\n\n{TEXT}"
    [delta] = of_type(told, "message.delta")
    assert (delta.data["text"], delta.data["part"]) == ("Let me see.", 0)
    await send(alice, "And now?", conversation_id=reply["conversation_id"])
    heard = [message.text for message in model.prompts[-1].messages if isinstance(message, AssistantMessage)]
    assert heard == ["Let me see.", TEXT]
    assert told_to_the_model(model.prompts[-1]) == ["Rome?", "And now?"]


async def test_after_three_answers_it_fails(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, FENCED, "{}", WRONG, "never asked")
    told = await stream(alice, "Rome?", agent_id=await forecaster(alice))
    end = told[-1]
    assert (end.type, end.data["code"]) == ("message.failed", "invalid_output")
    assert end.data["detail"] == f"The model was asked 3 times. {MISSING}"
    reply = end.data["message"]
    assert (reply["content"], reply["parts"], reply["usage"]["input_tokens"]) == ("", [], 30)
    assert len(model.prompts) == 3
    execution = await read(alice, reply["execution_id"])
    assert (execution["status"], execution["output"]) == ("failed", None)
    assert execution["error"] == {"code": "invalid_output", "detail": end.data["detail"]}
    await assert_nothing_is_left(app.state.database)


async def test_tries_count_steps(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTION_MAX_STEPS", "2")
    async with running(make_settings(), is_server=True) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        play(app, WRONG)
        reply = await send(client, "Rome?", agent_id=await forecaster(client))
    assert (reply["status"], reply["code"]) == ("failed", "limit_reached")


def chain(length: int, *, twice: bool) -> dict[str, Any]:
    """Makes a schema of definitions that each refer to the next one, once or twice."""
    choices = [2 if twice else 1] * length
    defs: dict[str, Any] = {
        f"d{number}": {"anyOf": [{"$ref": f"#/$defs/d{number + 1}"}] * count} for number, count in enumerate(choices)
    }
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**defs, f"d{length}": {}}}


def deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def having(**a: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": a}}


OWN_PARTS = "The output schema may refer to its own $defs alone"
TOO_MUCH = "The output schema may have at most 10000 values and 200000 characters, nested 64 levels"
BAD: Sequence[tuple[dict[str, Any], str]] = [
    ({}, 'The output schema must describe an object: its "type" must be "object".'),
    ({"type": "array"}, 'The output schema must describe an object: its "type" must be "object".'),
    ({"type": ["object", "null"]}, 'The output schema must describe an object: its "type" must be "object".'),
    ({"type": "object", "title": "x" * 32_000}, "The output schema must have at most 32000 bytes as JSON, and has 32"),
    ({"type": "object", "title": "♥" * 12_000}, "The output schema must have at most 32000 bytes as JSON, and has 36"),
    (having(type="text"), "The output schema is not a valid JSON schema at /properties/a/type: "),
    (having(minLength=-1), "The output schema is not a valid JSON schema at /properties/a/minLength: "),
    ({"type": "object", "properties": []}, "The output schema is not a valid JSON schema at /properties: "),
    (having(**{"$ref": "https://example.com/a.json"}), OWN_PARTS),
    (having(**{"$ref": "file:///etc/passwd"}), OWN_PARTS),
    (having(**{"$ref": "a.json#/b"}), OWN_PARTS),
    (having(**{"$ref": "#anchor"}), OWN_PARTS),
    (having(**{"$dynamicRef": "#/properties/a"}), OWN_PARTS),
    (having(**{"$ref": "#/$defs/b"}), "The output schema refers to #/$defs/b, which it does not have."),
    (having(**{"$ref": "#/type"}), OWN_PARTS),
    (having(**{"$ref": "#"}), OWN_PARTS),
    (having(**{"$id": "https://example.com/a.json"}), "The output schema must not have an $id"),
    ({"type": "object", "$schema": "https://example.com/a.json"}, "The output schema must be of draft 7, "),
    ({"type": "object", "$schema": 7}, "The output schema must be of draft 7, "),
    (having(pattern="(?=a)b"), "The output schema has a pattern at /properties/a/pattern that cannot be used"),
    (having(pattern=r"(a)\1"), "The output schema has a pattern at /properties/a/pattern that cannot be used"),
    (having(pattern=r"((\w{1,200}){1,200}){1,200}"), "The output schema has a pattern at /properties/a/pattern that"),
    (having(patternProperties={"(?!a)": {}}), "The output schema has a pattern at /properties/a/patternProperties/(?"),
    (having(pattern="("), "The output schema has a pattern at /properties/a/pattern that cannot be used"),
    (having(const="\0"), "The output schema must not have the character NUL, or half of a surrogate pair."),
    (having(const="\ud800"), "The output schema must not have the character NUL, or half of a surrogate pair."),
    (chain(20, twice=True), TOO_MUCH),
    (chain(200, twice=False), TOO_MUCH),
    (deep(60), "The output schema is nested more than 64 levels deep."),
    (deep(400), "The output schema is nested more than 64 levels deep."),
]


async def test_bad_schemas_are_refused_in_one_sentence(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    body = {"name": "Helper", "model_name": "demo"}
    kept = (await agent(alice, output_schema=SCHEMA))["id"]
    for schema, sentence in BAD:
        began = time.perf_counter()
        data = json.dumps({**body, "output_schema": schema})
        answer = await alice.post(AGENTS, content=data, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), (answer.text[:500], sentence)
        assert answer.json()["detail"].startswith(sentence), (answer.json()["detail"], sentence)
        assert len(answer.json()["detail"]) < 500
        assert time.perf_counter() - began < SECONDS
    data = '{"output_schema": {"type": "object", "const": NaN}}'
    answer = await alice.patch(f"{AGENTS}/{kept}", content=data, headers={"Content-Type": "application/json"})
    assert (answer.status_code, "NaN" in answer.text) == (422, True)
    assert (await alice.get(f"{AGENTS}/{kept}")).json()["output_schema"] == SCHEMA
    assert len((await alice.get(AGENTS)).json()["items"]) == 1


TREE: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}, "branches": {"items": {"$ref": "#/$defs/tree"}}},
    "required": ["name"],
    "$defs": {
        "loop": {"$ref": "#/$defs/loop"},
        "$ref": {"type": "string"},
        "tree": {
            "type": "object",
            "properties": {"name": {"pattern": "^[a-z]+$"}, "branches": {"items": {"$ref": "#/$defs/tree"}}},
        },
    },
}


async def test_good_schemas_are_kept_and_cleared(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, '{"name": "a", "branches": [{"name": "B"}]}', '{"name": "a", "branches": [{"name": "b"}]}', "as you like")
    made = await agent(alice, output_schema=TREE)
    assert made["output_schema"] == TREE
    path = f"{AGENTS}/{made['id']}"
    assert (await alice.patch(path, json={"name": "Other"})).json()["output_schema"] == TREE
    reply = await send(alice, "go", agent_id=made["id"])
    assert reply["parts"][0]["data"] == {"name": "a", "branches": [{"name": "b"}]}
    assert (await alice.patch(path, json={"output_schema": None})).json()["output_schema"] is None
    assert (await send(alice, "go", agent_id=made["id"]))["content"] == "as you like"
    changed = await alice.patch(path, json={"output_schema": SCHEMA})
    assert (changed.status_code, changed.json()["output_schema"]) == (200, SCHEMA)
    assert (await agent(alice))["output_schema"] is None


async def test_a_schema_that_takes_for_ever_stops_nothing_else(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers a schema whose check takes time that doubles with each level; others are served meanwhile."""
    monkeypatch.setattr(structured_output, "CHECK_SECONDS", 0.5)
    branch = {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "required": ["a"]}
    node = {"anyOf": [branch, branch, branch, {"const": 1}]}
    slow = {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    answer = '{"a":' * 40 + "2" + "}" * 40
    async with running(make_settings(), is_server=True) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        play(app, answer)
        agent_id = await forecaster(client, output_schema=slow)
        sent, longest = time.perf_counter(), 0.0
        sending = asyncio.create_task(send(client, "go", agent_id=agent_id))
        while not sending.done():
            began = time.perf_counter()
            await client.get(AGENTS)
            longest = max(longest, time.perf_counter() - began)
        reply = await sending
    assert (reply["status"], reply["code"]) == ("failed", "invalid_output")
    assert longest < 2
    assert time.perf_counter() - sent < 15  # its memory ends a check, too, but later


async def reasoned(app: FastAPI, client: httpx2.AsyncClient) -> list[Event]:
    """Returns the stream of a reply with text, reasoning, a call, an answer that does not fit, and one that does."""
    call = [ToolCall("a", "calculate", '{"expression": "2+3"}')]
    first = AssistantMessage("Let me see.", call, reasoning="A sum?")
    spoken = [
        Spoken([Reasoning("A sum?"), "Let ", "me see."], first),
        Spoken([Reasoning("Hm, "), Reasoning("so."), WRONG], AssistantMessage(WRONG, reasoning="Hm, so.")),
        Spoken([Reasoning("Now."), TEXT[:9], TEXT[9:]], AssistantMessage(TEXT, reasoning="Now.")),
    ]
    for one in spoken:
        one.go_on.set()
    speak(app, *spoken)
    return await stream(client, "Rome?", agent_id=await forecaster(client, "calculate"))


async def test_a_reply_with_data_is_resumed_from_each_of_its_events(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await reasoned(app, alice)
    reply = told[-1].data["message"]
    assert [part["type"] for part in reply["parts"]] == ["reasoning", "text", "tool_call", *["reasoning"] * 2, "data"]
    assert "".join(event.data["text"] for event in of_type(told, "message.delta")) == "Let me see."
    [data] = datas(told)
    assert (data.data["data"], data.data["part"], data.id) == (ROME, 5, "1.5.1")
    for is_deleted in (False, True):
        if is_deleted:
            monkeypatch.setattr(app.state.runner, "find_run", lambda _id: None)  # whose live stream still has all
            async with app.state.database.write() as session:
                await session.execute(delete(Execution))
        for number, event in enumerate(told):
            rest = await resume(alice, reply["id"], event.id)
            seen = [*told[: number + 1], *rest]
            assert all_written(seen) == all_written(told), (is_deleted, event)
            withdrawn = any(one.type == "message.rewound" and one.data["part"] <= 5 for one in rest)
            assert len(datas(rest)) == (0 if datas(told[: number + 1]) and not withdrawn else 1), (is_deleted, event)
            assert rest[-1].type == "message.completed"
        whole = await resume(alice, reply["id"])
        assert [event.data["data"] for event in datas(whole)] == [ROME]


async def test_a_socket_sends_data(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, WRONG, GOOD)
    agent_id = await forecaster(alice)
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="send", content="Rome?", agent_id=agent_id)
        frames = await socket.until(*ENDS)
    assert [frame["type"] for frame in frames] == ["message.created", "message.data", "message.completed"]
    assert (frames[1]["data"], frames[1]["part"], frames[1]["offset"]) == (ROME, 0, "1.0.1")
    assert frames[2]["message"]["parts"] == [{"type": "data", "data": ROME}]


async def test_tries_are_counted_across_processes(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Takes a reply over while its model writes the last of its answers: there is no other one."""
    lost = Spoken([Reasoning("Hm."), WRONG[:5]])
    model = speak(app, WRONG, "{}", lost, WRONG, GOOD)
    reply = await begin(app, alice, await forecaster(alice))
    async with asyncio.timeout(SECONDS):
        await lost.begun.wait()
    await died(app.state.database, reply["execution_id"])
    app.state.heartbeat._steady_since -= process.DEAD_SECONDS
    app.state.worker.wake()
    ended = await reached(alice, reply, "failed")
    assert (ended["code"], ended["parts"]) == ("invalid_output", [])
    assert len(model.prompts) == 4
    assert len(told_to_the_model(model.prompts[3])) == 3
    assert model.prompts[2].messages == model.prompts[3].messages


async def test_a_reply_that_was_taken_over_has_its_data_once(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    lost = Spoken([Reasoning("Hm."), WRONG[:5]])
    speak(app, WRONG, lost, GOOD)
    reply = await begin(app, alice, await forecaster(alice))
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="resume", reply_id=reply["id"])
        await socket.until("reasoning.delta")
        await died(app.state.database, reply["execution_id"])
        app.state.heartbeat._steady_since -= process.DEAD_SECONDS
        app.state.worker.wake()
        frames = await socket.until(*ENDS)
    assert [frame["type"] for frame in frames] == ["message.rewound", "message.data", "message.completed"]
    assert frames[-1]["message"]["parts"] == [{"type": "data", "data": ROME}]


async def test_a_stopped_reply_keeps_no_half_of_an_object(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    spoken = Spoken([Reasoning("Hm."), TEXT[:9]])
    speak(app, WRONG, spoken)
    reply = await begin(app, alice, await forecaster(alice))
    async with asyncio.timeout(SECONDS):
        await spoken.begun.wait()
    stopped = await stop(alice, reply)
    if stopped["status"] == "stopped":
        stopped = await reached(alice, reply, "stopped")
    assert (stopped["content"], stopped["parts"]) == ("", [{"type": "reasoning", "text": "Hm."}])
    await assert_nothing_is_left(app.state.database)


async def test_a_subagent_gives_its_data_as_json(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    helper = await agent(alice, name="The Helper!", output_schema=SCHEMA)
    chief = await agent(alice, name="Chief", subagent_ids=[helper["id"]])
    answers = [WRONG, GOOD]

    def as_chief(prompt: Prompt) -> Any:
        told = returned(prompt)
        return f"It says {told[0]}." if told else calls(("ask_the_helper", {"task": "help"}))

    play(app, by_role(as_chief, lambda _prompt: answers.pop(0)))
    reply = await send(alice, "Rome?", agent_id=chief["id"])
    assert reply["content"] == f"It says {TEXT}."
    assert reply["parts"][0]["result"] == TEXT


async def test_the_demo_model_answers_with_data(alice: httpx2.AsyncClient) -> None:
    reply = await send(alice, "Rome", agent_id=await forecaster(alice, "current_time"))
    assert reply["status"] == "completed", reply
    assert reply["parts"][-1]["data"].keys() == {"city", "degrees"}


async def test_an_answer_waits_where_too_many_are_checked(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that an answer does not count as one that does not fit because others are checked."""
    monkeypatch.setattr(structured_output, "AGAIN_SECONDS", 0.01)
    with monkeypatch.context() as full:
        full.setattr(fair_slots, "MOST_WAITING", 0)
        reading = asyncio.create_task(app.state.output_checker.read_answer(SCHEMA, TEXT))
        await asyncio.sleep(0)  # it has been refused once now
    answer, error = await reading
    assert error is None
    assert answer == json.loads(TEXT)
