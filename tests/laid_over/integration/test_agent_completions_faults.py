"""Tests agents as models on bad days: clients that leave or send again, processes that die or stop, limits."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, update

from app.core.config import Settings
from app.models.base import now
from app.models.execution import Approval, Execution
from app.models.usage import Reservation
from app.repositories import process
from app.services.agents.approvals import expire
from app.services.ai import AssistantMessage, ModelFailure, ToolResult, UserMessage
from app.services.completions import agent_completion
from app.services.processes import heartbeat
from tests.agents import EXECUTIONS, Thinking, agent, asking, calls, play, reached, read, returned
from tests.conftest import MakeSettings, client_for, listening, running, sign_in
from tests.integration.test_agent_completions import ADD, ROME, executions, model_of, results
from tests.integration.test_agent_reply_faults import SECONDS, Spoken, assert_nothing_is_left, count, died, speak
from tests.integration.test_chat_completions import (
    COMPLETIONS,
    HELLO,
    WEATHER,
    answer_of,
    chunks_of,
    complete,
    error_of,
)

KEY = {"Idempotency-Key": "one"}
SHAPES = pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)


@pytest.fixture
async def app(make_settings: MakeSettings) -> AsyncGenerator[FastAPI]:
    async with running(make_settings(tokens_per_day=10_000_000), is_server=True) as app:
        yield app


@asynccontextmanager
async def limited(settings: Settings) -> AsyncGenerator[tuple[FastAPI, httpx2.AsyncClient]]:
    async with running(settings, is_server=True) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        yield app, client


async def waiting(client: httpx2.AsyncClient, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what an agent was asked that calls the client's function, and its answer."""
    ask = {"model": await model_of(client, "calculate"), "tools": [WEATHER], **more}
    return ask, await answer_of(client, **ask)


def texts(answer: dict[str, Any]) -> str | None:
    return answer["choices"][0]["message"]["content"]


def told(response: httpx2.Response) -> tuple[str, str]:
    """Returns the text of a stream, and the code of the error with which it ended."""
    events = [json.loads(line[6:]) for line in response.text.split("\n") if line.startswith("data: ")]
    words = [event["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    return "".join(words), events[-1]["error"]["code"]


class TestResults:
    async def test_they_are_given_once_by_several_requests(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        played = play(app, calls(ROME), lambda prompt: "; ".join(returned(prompt)))
        ask, asked = await waiting(alice)
        ask["messages"] = [*HELLO, *results(asked, "It rains")]
        given = await asyncio.gather(*(answer_of(alice, **ask) for _ in range(4)))
        assert {texts(answer) for answer in given} == {"It rains"}
        assert len(played.prompts) == 2
        assert len({answer["id"] for answer in given}) == 1
        [execution] = await executions(alice)
        assert execution["status"] == "completed"

    async def test_a_late_repeat_is_answered_from_the_history(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        played = play(app, calls(ROME), "It rains.", "It rains again.")
        ask, asked = await waiting(alice)
        ask["messages"] = [*HELLO, *results(asked, "rain")]
        assert texts(await answer_of(alice, **ask)) == "It rains."
        assert texts(await answer_of(alice, **ask)) == "It rains again."
        assert [type(message) for message in played.prompts[-1].messages] == [
            UserMessage,
            AssistantMessage,
            ToolResult,
        ]

    @SHAPES
    async def test_a_repeat_with_the_key_gets_the_same_answer(
        self, app: FastAPI, alice: httpx2.AsyncClient, streams: bool
    ) -> None:
        played = play(app, calls(ROME, text="Let me look."), calls(ROME, text="Once more."), "It rains.")
        ask, asked = await waiting(alice, headers={"Idempotency-Key": "ask"})
        assert (await answer_of(alice, **ask)) == asked
        ask |= {"messages": [*HELLO, *results(asked, "rain")], "headers": KEY}
        again = await answer_of(alice, **ask)
        assert texts(again) == "Once more."
        last = await answer_of(alice, **ask | {"messages": [*ask["messages"], *results(again, "rain")], "headers": {}})
        assert texts(last) == "It rains."
        if streams:
            _first, said, made, finish = chunks_of(await complete(alice, **ask, stream=True))
            assert said["choices"][0]["delta"] == {"content": "Once more."}
            assert made["choices"][0]["delta"]["tool_calls"][0]["id"] == results(again, "")[1]["tool_call_id"]
            assert (finish["choices"][0]["finish_reason"], finish["id"]) == ("tool_calls", again["id"])
        else:
            assert await answer_of(alice, **ask) == again
        assert len({asked["id"], again["id"], last["id"]}) == 3
        assert len(played.prompts) == 3

    async def test_usage_is_told_once(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, calls(ADD), calls(ROME), "It rains.")
        ask, asked = await waiting(alice)
        assert asked["usage"]["total_tokens"] == 30
        done = await answer_of(alice, **ask, messages=[*HELLO, *results(asked, "rain")])
        assert done["usage"]["total_tokens"] == 15

    async def test_all_calls_of_a_step_need_one(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, calls(ROME, ADD, ROME), lambda prompt: "; ".join(returned(prompt)))
        ask, asked = await waiting(alice)
        call, first, second = results(asked, "rain", "snow")
        for some, status in (([call, first], 400), ([{**call, "tool_calls": call["tool_calls"][:1]}, first], 400)):
            refused = await complete(alice, **ask, messages=[*HELLO, *some])
            assert (refused.status_code, second["tool_call_id"] in refused.text) == (status, True)
        assert texts(await answer_of(alice, **ask, messages=[*HELLO, call, second, first])) == "rain; 5; snow"

    async def test_calls_that_the_agent_has_not_made_have_none(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, calls(ROME), "It rains.")
        ask, asked = await waiting(alice)
        call, result = results(asked, "rain")
        invented = f"{result['tool_call_id']}9"
        made = [*call["tool_calls"], {**call["tool_calls"][0], "id": invented}]
        more = [*HELLO, {**call, "tool_calls": made}, result, {**result, "tool_call_id": invented}]
        refused = await complete(alice, **ask, messages=more)
        assert error_of(refused)[0] == 400
        assert invented in refused.text
        assert [execution["status"] for execution in await executions(alice)] == ["waiting"]

    async def test_calls_of_another_person_are_only_history(
        self, app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
    ) -> None:
        play(app, calls(ROME), "It rains.")
        _, asked = await waiting(alice)
        told = [*HELLO, *results(asked, "rain")]
        assert texts(await answer_of(bob, model=await model_of(bob), messages=told)) == "It rains."
        other = await answer_of(alice, model=await model_of(alice), messages=told)
        assert texts(other) == "It rains."  # by another agent
        assert sorted(execution["status"] for execution in await executions(alice)) == ["completed", "waiting"]

    async def test_they_may_be_late(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        """Begins anew from the history, and nobody hears of the execution that waited."""
        played = play(app, calls(ROME), "It rains.")
        ask, asked = await waiting(alice)
        async with app.state.database.write() as session:
            await session.execute(update(Approval).values(expires_at=now() - timedelta(seconds=1)))
        assert texts(await answer_of(alice, **ask, messages=[*HELLO, *results(asked, "rain")])) == "It rains."
        await expire(app.state.database, app.state.notifier)
        assert [execution["status"] for execution in await executions(alice)] == ["completed", "cancelled"]
        assert len(played.prompts) == 2
        await assert_nothing_is_left(app.state.database)

    async def test_they_may_be_long(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings(max_body_bytes=4_000_000)) as (app, client):
            played = play(app, calls(ROME), "It rains.")
            ask, asked = await waiting(client)
            told = [*HELLO, *results(asked, "rain " * 250_000)]
            assert texts(await answer_of(client, **ask, messages=told)) == "It rains."
            assert len(returned(played.prompts[-1])[0]) < 1_000_000

    async def test_nothing_is_reserved_and_no_room_taken_meanwhile(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MAX_CONCURRENT_EXECUTIONS", "1")
        async with limited(make_settings(tokens_per_day=1_000_000)) as (app, client):
            thinking = Thinking()
            play(app, calls(ROME), calls(ROME), thinking, "It rains.")
            (ask, asked), (_, _) = await waiting(client), await waiting(client)
            assert await count(app.state.database, Reservation) == 0
            busy = asyncio.create_task(answer_of(client, model=await model_of(client)))
            await thinking.begun.wait()
            ask["messages"] = [*HELLO, *results(asked, "rain")]
            assert error_of(await complete(client, **ask)) == (429, "too_many_executions", None)
            thinking.go_on.set()
            await busy
            assert texts(await answer_of(client, **ask)) == "It rains."

    async def test_a_client_leaves_amid_what_comes_after_them(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        thinking = Thinking()
        play(app, calls(ROME), thinking, "It rains.")
        ask, asked = await waiting(alice)
        ask["messages"] = [*HELLO, *results(asked, "rain")]
        await leave(app, alice, thinking, **ask)
        [execution] = await executions(alice)
        assert (await reached(alice, execution["id"], "cancelled"))["output"] is None
        assert texts(await answer_of(alice, **ask)) == "It rains."
        await assert_nothing_is_left(app.state.database)


async def leave(app: FastAPI, client: httpx2.AsyncClient, amid: Thinking | Spoken, **body: Any) -> None:
    """Asks, and leaves once the model is amid its answer."""
    headers = {**client.headers, **body.pop("headers", {})}
    async with listening(app) as url, httpx2.AsyncClient(base_url=url, headers=headers) as leaving:
        sent = asyncio.create_task(leaving.post(COMPLETIONS, json={"messages": HELLO, **body}))
        async with asyncio.timeout(SECONDS):
            await amid.begun.wait()
        sent.cancel()
        await asyncio.wait([sent])


class TestLeaving:
    @SHAPES
    @pytest.mark.parametrize("words", [[], ["It ", "is "]], ids=["before", "amid"])
    async def test_it_cancels_the_execution(
        self, app: FastAPI, alice: httpx2.AsyncClient, streams: bool, words: list[str]
    ) -> None:
        speak(app, spoken := Spoken(words))
        await leave(app, alice, spoken, model=await model_of(alice), stream=streams)
        [execution] = await executions(alice)
        await reached(alice, execution["id"], "cancelled")
        await assert_nothing_is_left(app.state.database)

    @SHAPES
    async def test_with_a_key_the_answer_is_there_later(
        self, app: FastAPI, alice: httpx2.AsyncClient, streams: bool
    ) -> None:
        speak(app, spoken := Spoken(["It is", " 5."], AssistantMessage("It is 5.")))
        ask = {"model": await model_of(alice), "headers": KEY}
        await leave(app, alice, spoken, **ask, stream=streams)
        spoken.go_on.set()
        first, again = [await answer_of(alice, **ask) for _ in range(2)]
        assert (texts(first), first) == ("It is 5.", again)
        assert error_of(await complete(alice, **ask, temperature=0.5)) == (409, "idempotency_key_reused", None)
        assert len(await executions(alice)) == 1

    async def test_requests_with_one_key_at_once_are_one(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        played = play(app, thinking := Thinking("It is 5."))
        ask = {"model": await model_of(alice), "headers": KEY}
        asked = [asyncio.create_task(complete(alice, **ask, stream=number % 2 == 0)) for number in range(6)]
        await thinking.begun.wait()
        thinking.go_on.set()
        answers = await asyncio.gather(*asked)
        assert {texts(answer.json()) for answer in answers[1::2]} == {"It is 5."}
        assert len({chunks_of(answer)[0]["id"] for answer in answers[::2]} | {answers[1].json()["id"]}) == 1
        assert len(played.prompts) == 1


class TestEnds:
    @SHAPES
    @pytest.mark.parametrize(
        ("failure", "status"),
        [(ModelFailure("model_overloaded", "It is busy."), 503), (RuntimeError("of nobody's concern"), 500)],
    )
    async def test_an_execution_fails(
        self, app: FastAPI, alice: httpx2.AsyncClient, failure: Exception, status: int, streams: bool
    ) -> None:
        play(app, failure)
        answer = await complete(alice, model=await model_of(alice), stream=streams)
        assert error_of(answer)[0] == status
        assert answer.headers["x-should-retry"] == "false"
        assert "nobody" not in answer.text
        await assert_nothing_is_left(app.state.database)

    async def test_what_an_agent_does_by_itself_is_a_sign_of_life(
        self, app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Tells of it only after a while, since an answer that has begun has no status of its own any more."""
        play(app, calls(ADD), calls(ADD), "It is 5.")
        model = await model_of(alice, "calculate")
        for seconds, signs in ((10, False), (0, True)):
            monkeypatch.setattr(agent_completion, "QUIET_SECONDS", seconds)
            answer = await complete(alice, model=model, stream=True)
            assert ((": keep-alive\n\n" in answer.text), chunks_of(answer)[-1]["object"]) == (
                signs,
                "chat.completion.chunk",
            )

    async def test_it_fails_after_words(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, calls(ADD, text="Let me see."), ModelFailure("model_overloaded", "It is busy."))
        answer = await complete(alice, model=await model_of(alice, "calculate"), stream=True)
        assert told(answer) == ("Let me see.", "model_overloaded")

    @pytest.mark.parametrize("how", ["cancelled", "deleted"])
    async def test_somebody_else_ends_it(self, app: FastAPI, alice: httpx2.AsyncClient, how: str) -> None:
        speak(app, spoken := Spoken(["It ", "is "]))
        asked = asyncio.create_task(complete(alice, model=await model_of(alice), stream=True))
        await spoken.begun.wait()
        [execution] = await executions(alice)
        if how == "cancelled":
            await alice.post(f"{EXECUTIONS}/{execution['id']}/cancel")
        else:
            async with app.state.database.write() as session:
                await session.execute(delete(Execution))
        async with asyncio.timeout(SECONDS):
            assert told(await asked) == ("It is ", {"cancelled": "cancelled", "deleted": "not_found"}[how])

    async def test_an_answer_is_cut_short(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        played = play(app, AssistantMessage("It is", code="length"))
        answer = await answer_of(alice, model=await model_of(alice), max_completion_tokens=3)
        assert (texts(answer), answer["choices"][0]["finish_reason"]) == ("It is", "length")
        assert played.prompts[0].max_output_tokens == 3

    async def test_a_budget_is_used_up(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings(tokens_per_day=20, ai_max_output_tokens=1)) as (app, client):
            play(app, calls(ADD), "It is 5.")
            answer = await complete(client, model=await model_of(client, "calculate"))
            assert error_of(answer) == (402, "budget_exhausted", None)
            assert answer.json()["error"]["type"] == "insufficient_quota"
            await assert_nothing_is_left(app.state.database)

    async def test_there_are_limits(self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MESSAGES_PER_MINUTE", "1")
        monkeypatch.setenv("EXECUTION_INPUT_MAX_CHARACTERS", "4")
        async with limited(make_settings()) as (app, client):
            play(app, "Yes.")
            model = await model_of(client)
            assert error_of(await complete(client, model=model))[0] == 400  # hello is too long
            ask = {"model": model, "messages": [{"role": "user", "content": "hey"}]}
            assert texts(await answer_of(client, **ask)) == "Yes."
            refused = await complete(client, **ask)
            assert (error_of(refused)[0], int(refused.headers["retry-after"]) > 0) == (429, True)

    async def test_what_begins_an_execution_counts_and_what_goes_on_with_one_does_not(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MESSAGES_PER_MINUTE", "1")
        async with limited(make_settings()) as (app, client):
            play(app, calls(ROME), "Sunny.")
            model = await model_of(client)
            asked = await answer_of(client, model=model, messages=HELLO, tools=[WEATHER])
            ran = results(asked, "sunny")
            call = {"id": "made-up", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            made_up = [
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "made-up", "content": ""},
            ]
            refused = await complete(client, model=model, messages=[*HELLO, *made_up], tools=[WEATHER])
            assert error_of(refused)[0] == 429
            assert len(await executions(client)) == 1
            answer = await answer_of(client, model=model, messages=[*HELLO, *ran], tools=[WEATHER])
            assert texts(answer) == "Sunny."

    async def test_requests_at_once_count_each_other(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MAX_CONCURRENT_EXECUTIONS", "1")
        async with limited(make_settings()) as (app, client):
            play(app, thinking := Thinking())
            model = await model_of(client)
            asked = [asyncio.create_task(complete(client, model=model)) for _ in range(6)]
            left = set(asked)
            async with asyncio.timeout(SECONDS):
                while len(left) > 1:
                    done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                    assert {error_of(task.result()) for task in done} == {(429, "too_many_executions", None)}
            thinking.go_on.set()
            assert [(await task).status_code for task in left] == [200]


class TestProcesses:
    async def test_another_takes_over_before_a_word(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, thinking := Thinking("of the dead"), "It is 5.")
        asked = asyncio.create_task(answer_of(alice, model=await model_of(alice)))
        await thinking.begun.wait()
        await died(app.state.database, (await executions(alice))[0]["id"])
        async with asyncio.timeout(SECONDS):
            assert texts(await asked) == "It is 5."

    async def test_another_takes_over_amid_words(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        other = Spoken([], AssistantMessage("It is 5."))
        speak(app, calls(ADD, text="Let me see."), spoken := Spoken(["It is", " 6."]), other)
        ask = {"model": await model_of(alice, "calculate"), "headers": KEY}
        asked = asyncio.create_task(complete(alice, **ask, stream=True))
        await spoken.begun.wait()
        await died(app.state.database, (await executions(alice))[0]["id"])
        async with asyncio.timeout(SECONDS):
            assert told(await asked) == ("Let me see.\n\nIt is 6.", "interrupted")
            other.go_on.set()
            assert texts(await answer_of(alice, **ask)) == "Let me see.\n\nIt is 5."

    @SHAPES
    async def test_one_stops(self, make_settings: MakeSettings, streams: bool) -> None:
        settings = make_settings(shutdown_grace_seconds=0)
        async with running(settings, is_server=True) as app, client_for(app) as client:
            client.headers.update(await sign_in(client, "alice@example.com"))
            speak(app, spoken := Spoken(["It ", "is "]))
            ask = {"model": await model_of(client), "headers": KEY}
            asked = asyncio.create_task(complete(client, **ask, stream=streams))
            await spoken.begun.wait()
            app.state.shutdown.request()
            async with asyncio.timeout(SECONDS):
                answer = await asked
        assert (told(answer)[1] if streams else error_of(answer)[1]) == "interrupted"
        async with running(settings, is_server=True) as second, client_for(second, **dict(client.headers)) as client:
            play(second, "It is 5.")
            async with asyncio.timeout(SECONDS):
                assert texts(await answer_of(client, **ask)) == "It is 5."


class TestRequests:
    async def test_functions_have_names_and_descriptions_as_their_protocol_allows(
        self, app: FastAPI, alice: httpx2.AsyncClient
    ) -> None:
        played = play(app, calls(("_1-look", {})), "It rains.")
        odd = {"type": "function", "function": {"name": "_1-look", "description": "x" * 9_000}}
        ask = {"model": await model_of(alice), "tools": [odd]}
        asked = await answer_of(alice, **ask)
        assert texts(await answer_of(alice, **ask, messages=[*HELLO, *results(asked, "rain")])) == "It rains."
        assert len(played.prompts[0].tools[0].description) == 9_000

    async def test_a_function_with_the_name_of_the_agents_own_tool(self, alice: httpx2.AsyncClient) -> None:
        same = {"type": "function", "function": {"name": "calculate"}}
        refused = await complete(alice, model=await model_of(alice, "calculate"), tools=[same])
        assert error_of(refused)[0] == 400
        assert await executions(alice) == []

    async def test_the_choice_of_tools(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        played = play(app, "Yes.")
        ask = {"model": await model_of(alice, "calculate"), "tools": [WEATHER]}
        forced = {"type": "function", "function": {"name": "weather"}}
        for choice in ("required", forced):
            assert error_of(await complete(alice, **ask, tool_choice=choice)) == (
                400,
                "unsupported_parameter",
                "tool_choice",
            )
        for choice, names in (("auto", ["calculate", "weather"]), ("none", [])):
            await answer_of(alice, **ask, tool_choice=choice)
            assert [tool.name for tool in played.prompts[-1].tools] == names

    async def test_the_answer_fits_a_schema(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, "No object.", '{"city":   "Rome"}')
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        format = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
        model = await model_of(alice)
        chunks = chunks_of(await complete(alice, model=model, response_format=format, stream=True))
        said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:-1]]
        assert [json.loads(text) for text in said if text] == [{"city": "Rome"}]
        format["json_schema"]["schema"] = {"type": "nonsense"}
        assert error_of(await complete(alice, model=model, response_format=format))[0] == 400

    async def test_a_subagents_subagent_asks_for_approval(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        helper = await asking(alice, "calculate", name="Helper")
        middle = await agent(alice, name="Middle", subagent_ids=[helper["id"]])
        chief = await model_of(alice, name="Chief", subagent_ids=[middle["id"]])

        def answer(prompt: Any) -> Any:
            if done := returned(prompt):
                return done[-1]
            [tool] = prompt.tools
            return calls(ADD if tool.name == "calculate" else (tool.name, {"task": "add"}))

        play(app, answer)
        async with asyncio.timeout(SECONDS):
            refused = await complete(alice, model=chief, headers=KEY)
        assert error_of(refused) == (400, "approval_required", None)
        [waits] = (await alice.get(EXECUTIONS, params={"agent_id": helper["id"]})).json()["items"]
        [approval] = (await read(alice, waits["id"]))["approvals"]
        assert f"/executions/{waits['id']}/approvals" in refused.json()["error"]["message"]
        body = {"tool_call_id": approval["tool_call_id"], "approved": True}
        assert (await alice.post(f"{EXECUTIONS}/{UUID(waits['id'])}/approvals", json=body)).status_code == 200
        async with asyncio.timeout(SECONDS):
            assert texts(await answer_of(alice, model=chief, headers=KEY)) == "5"
