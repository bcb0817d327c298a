"""Tests the replies that agents write: tools, approvals, memory, stops, and streams that go on anywhere."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.services.ai import AssistantMessage, Prompt, ToolResult, UserMessage
from tests.agents import Thinking, agent, asking, by_role, calls, delegates, events, play, read, returned, team
from tests.chats import CONVERSATIONS, SEND, STREAM, events_of, messages, resume, stream, text_of
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.counting import statements
from tests.sockets import connected
from tests.sse import Event

SOCKET = "/api/v1/chat/ws"
ADD = ("calculate", {"expression": "2+3"})


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def send(client: httpx2.AsyncClient, content: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(SEND, json={"content": content, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def approve(client: httpx2.AsyncClient, reply: dict[str, Any], **more: Any) -> httpx2.Response:
    [call] = [part for part in reply["parts"] if part.get("state") == "approval_requested"]
    body = {"tool_call_id": call["tool_call_id"], "approved": True, **more}
    return await client.post(f"{SEND}/{reply['id']}/approvals", json=body)


async def reached(client: httpx2.AsyncClient, reply: dict[str, Any], *statuses: str) -> dict[str, Any]:
    """Follows the reply to its end, and returns it as it is listed."""
    async with asyncio.timeout(20):
        await resume(client, reply["id"])
    [found] = [one for one in (await messages(client, reply["conversation_id"]))["items"] if one["id"] == reply["id"]]
    assert found["status"] in statuses, found
    return found


def of_type(told: list[Event], *types: str) -> list[Event]:
    return [event for event in told if event.type in types]


async def test_an_agent_answers_with_tools(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="Let me see."), "It is 5.")
    helper = await agent(alice, "calculate")
    reply = await send(alice, "2+3?", agent_id=helper["id"])
    assert reply["status"] == "completed"
    assert reply["content"] == "Let me see.\n\nIt is 5."
    text, call, rest = reply["parts"]
    assert (text["text"], rest["text"]) == ("Let me see.", "It is 5.")
    assert call["type"] == "tool_call"
    assert (call["name"], call["state"], call["result"]) == ("calculate", "returned", "5")
    assert reply["agent_id"] == helper["id"]
    assert reply["usage"] == {"model": "demo", "input_tokens": 20, "output_tokens": 10, "cost": None}
    [_question, listed] = (await messages(alice, reply["conversation_id"]))["items"]
    assert {name: listed[name] for name in reply} == reply
    execution = await read(alice, reply["execution_id"])
    assert (execution["message_id"], execution["status"]) == (reply["id"], "completed")
    assert (await alice.get(f"{CONVERSATIONS}/{reply['conversation_id']}")).json()["agent_id"] == helper["id"]


async def test_a_stream_tells_what_the_agent_does(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="Let me see."), "It is 5.")
    helper = await agent(alice, "calculate")
    told = await stream(alice, "2+3?", agent_id=helper["id"])
    assert [event.type for event in told if event.type != "message.delta"] == [
        "message.created",
        "tool.called",
        "tool.returned",
        "message.completed",
    ]
    assert text_of(told) == "Let me see.It is 5."
    assert [event.data["part"] for event in told[1:-1]] == sorted(event.data["part"] for event in told[1:-1])
    reply_id = told[0].data["reply_id"]
    again = [event for event in await resume(alice, reply_id) if event.type != "message.delta"]
    assert again == [event for event in told if event.type != "message.delta"]
    for number, event in enumerate(told):
        rest = await resume(alice, reply_id, event.id)
        assert text_of(rest) == text_of(told[number + 1 :])
        assert of_type(rest, "tool.called", "tool.returned") == of_type(
            told[number + 1 :], "tool.called", "tool.returned"
        )


async def test_an_agent_remembers_its_calls(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, calls(ADD), "It is 5.", "As I said.")
    helper = await agent(alice, "calculate", instructions="Be brief.")
    first = await send(alice, "2+3?", agent_id=helper["id"])
    await send(alice, "Sure?", conversation_id=first["conversation_id"])
    heard = model.prompts[-1].messages
    assert isinstance(heard[0], UserMessage)
    assert isinstance(heard[1], AssistantMessage)
    assert [call.name for call in heard[1].tool_calls] == ["calculate"]
    assert heard[2] == ToolResult(heard[1].tool_calls[0].id, "calculate", "5")
    assert [message.text for message in heard[3:] if not isinstance(message, ToolResult)] == ["It is 5.", "Sure?"]
    assert "Be brief." in model.prompts[-1].instructions


@pytest.mark.parametrize("change", ["another agent", "no tool"])
async def test_calls_are_remembered_only_by_who_may_make_them(
    app: FastAPI, alice: httpx2.AsyncClient, change: str
) -> None:
    model = play(app, calls(ADD), "It is 5.", "As I said.")
    helper = await agent(alice, "calculate")
    first = await send(alice, "2+3?", agent_id=helper["id"])
    if change == "no tool":
        await alice.patch(f"/api/v1/agents/{helper['id']}", json={"tool_ids": []})
    else:
        helper = await agent(alice, "calculate")
    await send(alice, "Sure?", conversation_id=first["conversation_id"], agent_id=helper["id"])
    heard = model.prompts[-1].messages
    assert heard == (UserMessage("2+3?"), AssistantMessage("It is 5.", []), UserMessage("Sure?"))


async def test_a_reply_waits_for_approval(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="May I?"), lambda prompt: f"It is {returned(prompt)[-1]}.")
    helper = await asking(alice, "calculate")
    waiting = await send(alice, "2+3?", agent_id=helper["id"])
    assert (waiting["status"], waiting["content"]) == ("pending", "May I?")
    call = waiting["parts"][-1]
    assert call["state"] == "approval_requested"
    assert call["expires_at"]
    [_question, listed] = (await messages(alice, waiting["conversation_id"]))["items"]
    assert listed["parts"] == waiting["parts"]
    busy = await alice.post(SEND, json={"content": "?", "conversation_id": waiting["conversation_id"]})
    assert (busy.status_code, busy.json()["code"]) == (409, "conversation_busy")
    answered = await approve(alice, waiting)
    assert answered.status_code == 200, answered.text
    ended = await reached(alice, waiting, "completed")
    assert ended["content"] == "May I?\n\nIt is 5."
    again = await alice.post(
        f"{SEND}/{waiting['id']}/approvals", json={"tool_call_id": call["tool_call_id"], "approved": True}
    )
    assert (again.status_code, again.json()["code"]) == (409, "approval_closed")


async def test_a_denied_call_says_so(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), "Well then.")
    waiting = await send(alice, "2+3?", agent_id=(await asking(alice, "calculate"))["id"])
    assert (await approve(alice, waiting, approved=False, note="too dear")).status_code == 200
    ended = await reached(alice, waiting, "completed")
    assert (ended["parts"][0]["state"], ended["parts"][0]["result"]) == ("denied", "The call was denied: too dear")
    [failed] = of_type(await resume(alice, waiting["id"]), "tool.failed")
    assert failed.data["denied"]


async def test_a_subagent_asks_through_the_reply(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    def helper(prompt: Prompt) -> Any:
        return returned(prompt)[0] if returned(prompt) else calls(ADD)

    play(app, by_role(delegates, helper))
    chief = await team(alice, "calculate")
    helper_id = chief["subagents"][0]["id"]
    [tool] = (await alice.get(f"/api/v1/agents/{helper_id}")).json()["tools"]
    await alice.patch(f"/api/v1/agents/{helper_id}", json={"tool_policies": {tool["id"]: "ask"}})
    waiting = await send(alice, "go", agent_id=chief["id"])
    delegation, call = waiting["parts"]
    assert (delegation["name"], call["name"], call["state"]) == ("ask_the_helper", "calculate", "approval_requested")
    assert call["execution_id"] == delegation["execution_id"]
    assert (await approve(alice, waiting)).status_code == 200
    ended = await reached(alice, waiting, "completed")
    assert ended["content"] == "The helper says: 5"
    assert [part["state"] for part in ended["parts"][:2]] == ["returned", "returned"]


async def test_a_stopped_reply_keeps_its_text(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, calls(ADD, text="Let me see."), thinking)
    helper = await agent(alice, "calculate")
    sending = asyncio.create_task(send(alice, "2+3?", agent_id=helper["id"]))
    await thinking.begun.wait()
    [_question, pending] = await _only_messages(alice)
    stopped = await alice.post(f"{SEND}/{pending['id']}/stop")
    assert stopped.json()["status"] == "stopped"
    assert stopped.json()["content"] == "Let me see."
    assert await sending == stopped.json()
    assert (await read(alice, pending["execution_id"]))["status"] == "cancelled"


async def test_a_waiting_reply_is_stopped(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, calls(ADD, text="May I?"), "Fine.")
    helper = await asking(alice, "calculate")
    waiting = await send(alice, "2+3?", agent_id=helper["id"])
    stopped = (await alice.post(f"{SEND}/{waiting['id']}/stop")).json()
    assert (stopped["status"], stopped["content"]) == ("stopped", "May I?")
    assert stopped["parts"][1]["state"] == "failed"
    assert (await approve(alice, waiting)).status_code == 409
    await send(alice, "And now?", conversation_id=waiting["conversation_id"])
    results = [message for message in model.prompts[-1].messages if isinstance(message, ToolResult)]
    assert [result.content for result in results] == ["The reply ended before this call did."]


async def test_a_failed_reply_keeps_what_there_is(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="Let me see."), RuntimeError("secret"))
    reply = await send(alice, "2+3?", agent_id=(await agent(alice, "calculate"))["id"])
    assert (reply["status"], reply["code"], reply["content"]) == ("failed", "internal", "Let me see.")
    assert "secret" not in str(await resume(alice, reply["id"]))


async def test_a_reply_is_regenerated_by_the_same_agent(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), "one", calls(ADD), "two")
    helper = await agent(alice, "calculate")
    first = await send(alice, "2+3?", agent_id=helper["id"])
    second = (await alice.post(f"{SEND}/{first['id']}/regenerate", json={})).json()
    assert (second["content"], second["agent_id"]) == ("two", helper["id"])
    assert second["parts"][0]["tool_call_id"] != first["parts"][0]["tool_call_id"]
    [_question, shown] = (await messages(alice, first["conversation_id"]))["items"]
    assert shown["siblings"] == [first["id"], second["id"]]


async def test_a_conversation_is_handed_to_an_agent_and_back(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, "I am the agent.")
    first = await send(alice, "hello")
    assert first["agent_id"] is None
    path, helper = f"{CONVERSATIONS}/{first['conversation_id']}", await agent(alice)
    assert (await alice.patch(path, json={"agent_id": helper["id"]})).json()["agent_id"] == helper["id"]
    assert [one["id"] for one in await _listed(alice, agent_id=helper["id"])] == [first["conversation_id"]]
    reply = await send(alice, "who?", conversation_id=first["conversation_id"])
    assert (reply["content"], reply["agent_id"]) == ("I am the agent.", helper["id"])
    await alice.patch(path, json={"agent_id": None})
    assert (await send(alice, "who?", conversation_id=first["conversation_id"]))["agent_id"] is None
    assert await _listed(alice, agent_id=helper["id"]) == []


async def test_a_deleted_agent_answers_no_more(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, "here")
    helper = await agent(alice)
    reply = await send(alice, "hello", agent_id=helper["id"])
    await alice.delete(f"/api/v1/agents/{helper['id']}")
    body = {"content": "again", "conversation_id": reply["conversation_id"]}
    refused = await alice.post(SEND, json=body)
    assert (refused.status_code, refused.json()["detail"]) == (404, f"Agent {helper['id']} does not exist.")
    await alice.patch(f"{CONVERSATIONS}/{reply['conversation_id']}", json={"agent_id": None})
    assert (await alice.post(SEND, json=body)).status_code == 201


async def test_a_deleted_conversation_takes_its_executions_along(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, thinking)
    helper = await agent(alice)
    sending = asyncio.create_task(alice.post(STREAM, json={"content": "hello", "agent_id": helper["id"]}))
    await thinking.begun.wait()
    [_question, pending] = await _only_messages(alice)
    assert (await alice.delete(f"{CONVERSATIONS}/{pending['conversation_id']}")).status_code == 204
    async with asyncio.timeout(10):
        told = events_of(await sending)
    assert (told[-1].type, told[-1].data["code"]) == ("message.failed", "conversation_deleted")
    assert (await alice.get(f"/api/v1/executions/{pending['execution_id']}")).status_code == 404
    async with asyncio.timeout(10):
        while app.state.runner.runs:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_anothers_agent_does_not_exist(app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    play(app, "done")
    theirs = {"agent_id": (await agent(alice))["id"]}
    own = await send(bob, "hello")
    requests = [
        ("post", SEND, {"content": "hello"}),
        ("post", STREAM, {"content": "hello"}),
        ("post", f"{SEND}/{own['id']}/regenerate", {}),
        ("post", f"{SEND}/{own['id']}/regenerate/stream", {}),
        ("post", CONVERSATIONS, {}),
        ("patch", f"{CONVERSATIONS}/{own['conversation_id']}", {}),
    ]
    for method, path, body in requests:
        answer = await bob.request(method, path, json={**body, **theirs})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    async with connected(app, SOCKET, bob) as socket:
        for frame in ({"type": "send", "content": "hello"}, {"type": "regenerate", "reply_id": own["id"]}):
            await socket.send(**frame, **theirs)
            assert (await socket.frame())["status"] == 404
        reply = await send(alice, "hello", **theirs)
        results = [{"tool_call_id": "call_1", "content": "mine"}]
        for frame in (
            {"type": "answer", "tool_call_id": "call_1", "approved": True},
            {"type": "tool_results", "results": results},
        ):
            await socket.send(**frame, reply_id=reply["id"])
            assert (await socket.frame())["status"] == 404
    assert len((await messages(bob, own["conversation_id"]))["items"]) == 2
    assert await _listed(bob, **theirs) == []


async def test_an_api_key_needs_the_scope_of_agents(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    """Refuses a key that may only chat whatever lets an agent act; it reads and stops replies."""
    play(app, calls(ADD), "done")
    helper, plain = await asking(alice, "calculate"), await send(alice, "hello")
    waiting = await send(alice, "go", agent_id=helper["id"])
    made = await alice.post("/api/v1/auth/api-keys", json={"name": "Widget", "scopes": ["chat"]})
    client.headers["Authorization"] = f"Bearer {made.json()['key']}"
    with_agent = {"agent_id": helper["id"]}
    requests = [
        ("post", SEND, {"content": "hello", **with_agent}),
        ("post", STREAM, {"content": "hello", **with_agent}),
        ("post", f"{SEND}/{plain['id']}/regenerate", with_agent),
        ("post", f"{SEND}/{waiting['id']}/regenerate", {}),
        ("post", CONVERSATIONS, with_agent),
        ("patch", f"{CONVERSATIONS}/{plain['conversation_id']}", with_agent),
        ("post", f"{SEND}/{waiting['id']}/approvals", {"tool_call_id": "call_1", "approved": True}),
    ]
    for method, path, body in requests:
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope"), path
    async with connected(app, SOCKET, client) as socket:
        await socket.send(type="send", content="hello", **with_agent)
        assert (await socket.frame())["status"] == 403
    assert (await client.post(f"{SEND}/{waiting['id']}/stop")).json()["status"] == "stopped"
    assert (await client.post(SEND, json={"content": "hello"})).status_code == 201


async def test_a_message_can_ask_no_agent(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, "I am the agent.")
    first = await send(alice, "who?", agent_id=(await agent(alice))["id"])
    second = (await alice.post(f"{SEND}/{first['id']}/regenerate", json={"agent_id": None})).json()
    third = await send(alice, "who?", conversation_id=first["conversation_id"], agent_id=None)
    assert (second["agent_id"], third["agent_id"]) == (None, None)
    last = await send(alice, "who?", conversation_id=first["conversation_id"])
    assert last["content"] == "I am the agent."


async def test_a_socket_answers_approvals_and_resumes_anywhere(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="May I?"), "Done.")
    helper = await asking(alice, "calculate")
    async with connected(app, SOCKET, alice) as socket:
        await socket.send(type="send", content="2+3?", agent_id=helper["id"])
        told = [await socket.frame()]
        while told[-1]["type"] != "approval.requested":
            told.append(await socket.frame())
        asked = told[-1]
    async with connected(app, SOCKET, alice) as socket:
        await socket.send(type="resume", reply_id=asked["reply_id"], offset=asked["offset"])
        await socket.send(type="answer", reply_id=asked["reply_id"], tool_call_id=asked["tool_call_id"], approved=True)
        rest = [await socket.frame()]
        while rest[-1]["type"] != "message.completed":
            rest.append(await socket.frame())
    assert [frame["type"] for frame in rest[:2]] == ["approval.answered", "tool.returned"]
    assert "".join(frame["text"] for frame in [*told, *rest] if frame["type"] == "message.delta") == "May I?Done."


async def test_a_reply_costs_few_statements(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Guards what an agent's reply without tools costs: a plain one costs 11."""
    play(app, "done")
    helper = await agent(alice)
    await stream(alice, "hello", agent_id=helper["id"])
    with statements(app) as found:
        await stream(alice, "hello", agent_id=helper["id"])
    polls = [one for one in found if "executions.id IN" in one]  # a slow machine polls for news of others
    assert len(found) - len(polls) <= 15, found


async def test_the_first_reply_of_an_agent_leads_to_a_title(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITLE_MODEL", "demo")
    async with running(make_settings(), is_server=True) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        play(app, "done")
        helper = await agent(client)
        reply = await send(client, "hello", agent_id=helper["id"])
        await app.state.worker.drain()
        conversation = (await client.get(f"{CONVERSATIONS}/{reply['conversation_id']}")).json()
        assert conversation["title"].startswith("You said")


async def test_places_of_other_replies_are_refused(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, "done")
    of_agent = await send(alice, "hello", agent_id=(await agent(alice))["id"])
    of_model = await send(alice, "hello")
    for reply, id in ((of_agent, "3"), (of_model, "1.0.3")):
        answer = await alice.get(f"{SEND}/{reply['id']}/stream", headers={"Last-Event-ID": id})
        assert answer.status_code == 422, answer.text
    told = await events(alice, of_agent["execution_id"])
    assert told[-1].type == "execution.completed"


async def _only_messages(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    [conversation] = await _listed(client)
    return (await messages(client, conversation["id"]))["items"]


async def _listed(client: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    return (await client.get(CONVERSATIONS, params=query)).json()["items"]
