"""Tests tools that clients declare and run: what the model may call, and the results that the reply waits for."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.core.config import Settings
from app.models.base import now
from app.models.execution import Approval
from app.services.agents.approvals import expire
from app.services.ai import AssistantMessage, ToolCall, ToolResult
from tests.agents import EXECUTIONS, agent, asking, calls, events, play, read, returned
from tests.chats import SEND, messages, resume, until
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.integration.test_agent_replies import approve, reached, send
from tests.sockets import connected
from tests.sse import Event

LOOK = {
    "name": "look-outside",
    "description": "Looks outside.",
    "input_schema": {"type": "object", "properties": {"where": {"type": "string"}}},
}
PICK = {"name": "pick_file"}
OUTSIDE = ("look-outside", {"where": "garden"})
ADD = ("calculate", {"expression": "2+3"})


def doubled(levels: int) -> dict[str, Any]:
    """Makes a schema that is twice as long with each level at which a reference is replaced by what it means."""
    names = [f"d{number}" for number in range(levels + 1)]
    twice = {one: {"anyOf": [{"$ref": f"#/$defs/{next}"}] * 2} for one, next in pairwise(names)}
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": {**twice, names[-1]: {}}}


def wordy(times: int) -> dict[str, Any]:
    """Makes a schema that is long once the references to its one description are replaced."""
    properties = {f"p{number}": {"$ref": "#/$defs/long"} for number in range(times)}
    return {"type": "object", "properties": properties, "$defs": {"long": {"description": "x" * 1_000}}}


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


def waiting(reply: dict[str, Any]) -> list[str]:
    return [part["tool_call_id"] for part in reply["parts"] if part.get("state") == "result_requested"]


def of_calls(told: list[Event]) -> list[Event]:
    return [event for event in told if event.type.startswith(("tool.", "result."))]


async def give(client: httpx2.AsyncClient, reply: dict[str, Any], *contents: str, **more: Any) -> httpx2.Response:
    """Gives these results, for as many of the calls that wait."""
    ids = waiting(reply)[: len(contents)]
    results = [{"tool_call_id": id, "content": content, **more} for id, content in zip(ids, contents, strict=True)]
    return await client.post(f"{SEND}/{reply['id']}/tool-results", json={"results": results})


async def asked(app: FastAPI, client: httpx2.AsyncClient, *made: Any) -> dict[str, Any]:
    """Returns a reply that waits for results of the client's tools, and then repeats all results."""
    play(app, calls(*made), lambda prompt: "; ".join(returned(prompt)))
    helper = await agent(client, "calculate")
    return await send(client, "How is it?", agent_id=helper["id"], tools=[LOOK, PICK])


async def test_a_client_runs_its_tool(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, calls(OUTSIDE, text="Let me see."), lambda prompt: f"It {returned(prompt)[-1]}.")
    helper = await agent(alice)
    reply = await send(alice, "How is it?", agent_id=helper["id"], tools=[LOOK])
    assert [(tool.name, tool.description, tool.input_schema) for tool in model.prompts[0].tools] == [
        (LOOK["name"], LOOK["description"], LOOK["input_schema"])
    ]
    assert (reply["status"], reply["content"]) == ("pending", "Let me see.")
    call = reply["parts"][-1]
    assert (call["name"], json.loads(call["arguments"])) == OUTSIDE
    assert call["state"] == "result_requested"
    assert call["expires_at"]
    answered = await give(alice, reply, "rains")
    assert answered.status_code == 200, answered.text
    assert waiting(answered.json()) == []
    done = await reached(alice, reply, "completed")
    assert done["content"] == "Let me see.\n\nIt rains."
    assert (done["parts"][1]["state"], done["parts"][1]["result"]) == ("returned", "rains")
    assert done["parts"][1]["expires_at"] is None
    execution = await read(alice, reply["execution_id"])
    assert [(one["kind"], one["status"]) for one in execution["approvals"]] == [("client_tool", "approved")]
    assert execution["configuration"]["client_tools"] == [LOOK]


async def test_a_stream_asks_the_client(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE), lambda prompt: f"It {returned(prompt)[-1]}.")
    helper = await agent(alice)
    reply = await send(alice, "How is it?", agent_id=helper["id"], tools=[LOOK])
    await give(alice, reply, "rains")
    told = await resume(alice, reply["id"])
    assert [event.type for event in told if event.type != "message.delta"] == [
        "message.created",
        "tool.called",
        "result.requested",
        "tool.returned",
        "message.completed",
    ]
    requested = told[2].data
    assert (requested["name"], requested["part"]) == ("look-outside", 0)
    assert requested["tool_call_id"] == waiting(reply)[0]
    for number, event in enumerate(told):
        rest = await resume(alice, reply["id"], event.id)
        assert of_calls(rest) == of_calls(told[number + 1 :])
    stored = [event.type for event in await events(alice, reply["execution_id"])]
    assert stored.count("result.requested") == 1


async def test_an_error_is_told_to_the_model(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    reply = await asked(app, alice, OUTSIDE)
    await give(alice, reply, "The window is shut.", is_error=True)
    done = await reached(alice, reply, "completed")
    assert done["content"] == "The window is shut."
    assert (done["parts"][0]["state"], done["parts"][0]["result"]) == ("failed", "The window is shut.")


async def test_all_calls_of_a_step_are_answered_together(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    made = (OUTSIDE, ADD, ("pick_file", {}))
    reply = await asked(app, alice, *made)
    assert [part["state"] for part in reply["parts"]] == ["result_requested", "returned", "result_requested"]
    alone = await give(alice, reply, "rains")
    assert alone.status_code == 422
    assert alone.json()["detail"].startswith(waiting(reply)[1])
    assert (await give(alice, reply, "rains", "a.txt")).status_code == 200
    done = await reached(alice, reply, "completed")
    assert done["content"] == "rains; 5; a.txt"  # in the order of the calls
    assert [part.get("result") for part in done["parts"]] == ["rains", "5", "a.txt", None]


async def test_a_call_that_needs_approval_comes_first(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE, ADD), lambda prompt: "; ".join(returned(prompt)))
    helper = await asking(alice, "calculate")
    reply = await send(alice, "How is it?", agent_id=helper["id"], tools=[LOOK])
    assert [part["state"] for part in reply["parts"]] == ["called", "approval_requested"]
    early = await alice.post(
        f"{SEND}/{reply['id']}/tool-results",
        json={"results": [{"tool_call_id": reply["parts"][0]["tool_call_id"], "content": "rains"}]},
    )
    assert early.status_code == 404
    await approve(alice, reply)
    listed: dict[str, Any] = {}

    async def is_asked() -> bool:
        listed.update((await messages(alice, reply["conversation_id"]))["items"][-1])
        return bool(waiting(listed))

    async with asyncio.timeout(20):
        await until(is_asked)
    await give(alice, listed, "rains")
    assert (await reached(alice, reply, "completed"))["content"] == "rains; 5"


async def test_results_are_given_once(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    reply = await asked(app, alice, OUTSIDE)
    answers = await asyncio.gather(*(give(alice, reply, f"rains {number}") for number in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json().get("code") for answer in answers if answer.status_code == 409} == {"call_closed"}
    done = await reached(alice, reply, "completed")
    [told] = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert done["content"] == f"rains {told}"


async def test_a_result_is_no_approval(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    reply = await asked(app, alice, OUTSIDE)
    body = {"tool_call_id": waiting(reply)[0], "approved": True}
    for path in (f"{SEND}/{reply['id']}", f"{EXECUTIONS}/{reply['execution_id']}"):
        refused = await alice.post(f"{path}/approvals", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "approval_closed")
    play(app, calls(ADD), "Done.")
    helper = await asking(alice, "calculate")
    needs_approval = await send(alice, "2+3?", agent_id=helper["id"])
    id = needs_approval["parts"][0]["tool_call_id"]
    path = f"{SEND}/{needs_approval['id']}/tool-results"
    assert (await alice.post(path, json={"results": [{"tool_call_id": id, "content": "6"}]})).status_code == 404


async def test_nobody_gives_a_result_in_time(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    reply = await asked(app, alice, OUTSIDE, ("pick_file", {}))
    async with app.state.database.write() as session:
        await session.execute(update(Approval).values(expires_at=now() - timedelta(seconds=1)))
    late = await give(alice, reply, "rains", "a.txt")
    assert (late.status_code, late.json()["code"]) == (409, "call_closed")
    await expire(app.state.database, app.state.notifier)
    done = await reached(alice, reply, "completed")
    assert [part.get("state") for part in done["parts"][:2]] == ["failed", "failed"]
    assert done["content"] == "; ".join(["The client gave no result in time."] * 2)


async def test_a_result_stays_with_its_call_beside_a_server_of_0_1(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Approves a client's call as a server of 0.1 does, which knows no kinds of approvals."""
    reply = await asked(app, alice, OUTSIDE, ("pick_file", {}))
    first, second = waiting(reply)
    async with app.state.database.write() as session:
        await session.execute(update(Approval).where(Approval.tool_call_id == first).values(status="approved"))
    results = [{"tool_call_id": second, "content": "a.txt"}]
    await alice.post(f"{SEND}/{reply['id']}/tool-results", json={"results": results})
    done = await reached(alice, reply, "completed")
    assert done["content"] == "The client gave no result.; a.txt"
    assert [part.get("result") for part in done["parts"][:2]] == ["The client gave no result.", "a.txt"]


async def test_a_reply_that_waits_is_stopped(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    reply = await asked(app, alice, OUTSIDE)
    stopped = await alice.post(f"{SEND}/{reply['id']}/stop")
    assert stopped.json()["status"] == "stopped"
    [call] = stopped.json()["parts"]
    assert (call["state"], call["expires_at"]) == ("failed", None)
    late = await give(alice, reply, "rains")
    assert (late.status_code, late.json()["code"]) == (409, "call_closed")
    model = play(app, "Fine.")
    await send(alice, "Well?", conversation_id=reply["conversation_id"], tools=[LOOK, PICK])
    assert returned(model.prompts[0]) == ["The reply ended before this call did."]


async def test_another_process_goes_on_from_the_results(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Shows that what waits is in the database alone, in which the next run finds calls and results in order."""
    reply = await asked(app, alice, ("pick_file", {}), OUTSIDE, ADD)
    await give(alice, reply, "a.txt", "rains")
    assert (await reached(alice, reply, "completed"))["content"] == "a.txt; rains; 5"
    model = play(app, "As I said.")
    await send(alice, "Sure?", conversation_id=reply["conversation_id"], tools=[LOOK, PICK])
    heard = model.prompts[0].messages
    assert returned(model.prompts[0]) == ["a.txt", "rains", "5"]
    [made] = [message for message in heard if isinstance(message, AssistantMessage) and message.tool_calls]
    results = [message for message in heard if isinstance(message, ToolResult)]
    assert [result.call_id for result in results] == [call.id for call in made.tool_calls]
    model = play(app, "As I said.")  # without the tools, calls of them cannot go back to the model
    await send(alice, "Really?", conversation_id=reply["conversation_id"])
    assert returned(model.prompts[0]) == []


async def test_malformed_arguments_do_not_reach_the_client(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    bad = AssistantMessage("", [ToolCall("a", "pick_file", "[1]"), ToolCall("b", "pick_file", "")])
    play(app, bad, lambda prompt: "; ".join(returned(prompt)))
    helper = await agent(alice)
    reply = await send(alice, "Go.", agent_id=helper["id"], tools=[PICK])
    assert [part["state"] for part in reply["parts"]] == ["failed", "result_requested"]
    assert reply["parts"][1]["arguments"] == "{}"
    await give(alice, reply, "a.txt")
    done = await reached(alice, reply, "completed")
    assert done["content"] == "The arguments are refused: they are no JSON object.; a.txt"


async def test_long_results_are_cut_for_the_model(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_RESULT_MAX_CHARACTERS", "10")
    async with running(make_settings(), is_server=True) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        reply = await asked(app, client, OUTSIDE)
        await give(client, reply, "x" * 1_000)
        assert (await reached(client, reply, "completed"))["content"] == f"{'x' * 10}\n[The rest is left out.]"


async def test_regenerate_and_sockets_take_tools(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, "No tool yet.", calls(OUTSIDE), lambda prompt: f"It {returned(prompt)[-1]}.")
    helper = await agent(alice)
    first = await send(alice, "How is it?", agent_id=helper["id"])
    again = (await alice.post(f"{SEND}/{first['id']}/regenerate", json={"tools": [LOOK]})).json()
    results = [{"tool_call_id": waiting(again)[0], "content": "snows"}]
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="tool_results", reply_id=again["id"], results=results)
        done = (await socket.until("message.completed"))[-1]
    assert done["message"]["content"] == "It snows."


@pytest.mark.parametrize(
    ("tools", "detail"),
    [
        ([{"name": "1st"}], "name"),
        ([{"name": "x" * 65}], "name"),
        ([{"name": "a b"}], "name"),
        ([PICK, PICK], "two tools"),
        ([{"name": "a", "input_schema": {"type": "string"}}], "object"),
        ([{"name": "a", "input_schema": {"type": "object", "description": "x" * 40_000}}], "bytes"),
        ([{"name": "a", "input_schema": {"type": "object", "properties": 5}}], "/properties"),
        ([{"name": "a", "input_schema": {"type": "object", "properties": {"b": {"$ref": "#/$defs/c"}}}}], "#/$defs/c"),
        ([{"name": "a", "input_schema": {"type": "object", "$ref": "http://127.0.0.1/"}}], "own $defs"),
        ([{"name": "a", "input_schema": {"type": "object", "items": {"$ref": "#"}}}], "own $defs"),
        ([{"name": "a", "input_schema": {"type": "object", "a": float("nan")}}], "NaN"),
        ([{"name": "a", "input_schema": wordy(300)}], "characters, nested"),
        ([{"name": "a", "input_schema": {"type": "object", "$schema": "http://127.0.0.1/"}}], "$schema"),
        ([{"name": "a", "input_schema": doubled(20)}], "at most 10000 values"),
        ([{"name": f"t{number}", "input_schema": doubled(6)} for number in range(20)], "characters, nested"),
        ([{"name": "a", "description": "x" * 4_001}], "description"),
        ([{"name": f"t{number}"} for number in range(51)], "50"),
        ([{"name": "a", "input_schema": {"type": "object", "description": "\0"}}], "NUL"),
        ([{"name": "a", "input_schema": {"type": "object", "\ud800": {}}}], "surrogate"),
        ([{"name": "calculate"}], "calculate"),
        ([{"name": "ask_writer"}], "ask_writer"),
        ([{"name": "a", "url": "http://127.0.0.1"}], "url"),
    ],
)
async def test_bad_tools_are_refused(alice: httpx2.AsyncClient, tools: list[Any], detail: str) -> None:
    writer = await agent(alice, name="Writer")
    helper = await agent(alice, "calculate", subagent_ids=[writer["id"]])
    body = {"content": "Go.", "agent_id": helper["id"], "tools": tools}
    refused = await alice.post(SEND, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert refused.status_code == 422, refused.text
    assert detail in refused.text


async def test_a_model_alone_has_no_tools(alice: httpx2.AsyncClient) -> None:
    refused = await alice.post(SEND, json={"content": "Go.", "tools": [PICK]})
    assert refused.status_code == 422
    assert "agent_id" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], 422),
        ([{"tool_call_id": "call_1", "content": "a"}], 404),
        ([{"tool_call_id": "", "content": "x" * 1_000_001}], 422),
        ([{"tool_call_id": "", "content": "a\0"}], 422),
        ([{"tool_call_id": "", "content": "a"}] * 2, 422),
        ([{"tool_call_id": "x" * 33, "content": "a"}], 422),
        ([{"tool_call_id": ""}], 422),
    ],
)
async def test_bad_results_are_refused(
    app: FastAPI, alice: httpx2.AsyncClient, results: list[dict[str, Any]], status: int
) -> None:
    reply = await asked(app, alice, OUTSIDE)
    body = [{**one, "tool_call_id": one["tool_call_id"] or waiting(reply)[0]} for one in results]
    refused = await alice.post(f"{SEND}/{reply['id']}/tool-results", json={"results": body})
    assert refused.status_code == status, refused.text
    [_question, listed] = (await messages(alice, reply["conversation_id"]))["items"]
    assert waiting(listed) == waiting(reply)


async def test_a_retried_message_is_one_message_only_with_the_same_tools(
    app: FastAPI, alice: httpx2.AsyncClient
) -> None:
    helper = await agent(alice)
    body = {"content": "Go.", "agent_id": helper["id"], "tools": [PICK]}
    first = await alice.post(SEND, json=body, headers={"Idempotency-Key": "one"})
    again = await alice.post(SEND, json=body, headers={"Idempotency-Key": "one"})
    assert again.json()["id"] == first.json()["id"]
    other = await alice.post(SEND, json={**body, "tools": [LOOK]}, headers={"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
