"""Tests what chats of the AI SDK show and answer of agents' tool calls: approvals, the client's tools, subagents."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.core.config import Settings
from app.models.base import now
from app.models.execution import Approval
from app.models.message import MessageStatus, Role
from app.repositories import process
from app.schemas.message import MessageDelta, MessageRead
from app.schemas.reply_event import MessageRewound
from app.services.agents.approvals import expire
from app.services.ai import AssistantMessage, Prompt, ToolCall
from app.services.ai.base import Reasoning
from app.services.ai_sdk.chunks import ChunkWriter
from tests.agents import agent, asking, by_role, calls, delegates, play, returned, team
from tests.chats import SEND, messages
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.integration.test_agent_replies import approve
from tests.integration.test_agent_reply_faults import Spoken, died, speak
from tests.integration.test_client_tools import LOOK, OUTSIDE, PICK
from tests.integration.test_errors import assert_problem
from tests.ui_chat import UiChat, followed_by, text_of, types_of

ADD, TIMES = ("calculate", {"expression": "2+3"}), ("calculate", {"expression": "2*3"})
SECONDS = 20


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


def states(chat: UiChat) -> list[str]:
    return [call["state"] for call in chat.calls]


def shapes(message: dict[str, Any]) -> list[str]:
    return [part["type"] for part in message["parts"]]


async def go_on(chat: UiChat) -> None:
    """Sends what the client sends by itself, until it has nothing more to send."""
    for _ in range(5):
        if not chat.is_complete:
            return
        async with asyncio.timeout(SECONDS):
            await chat.go_on()
    raise AssertionError("the client sends by itself for ever")


async def assert_it_is_stored(client: httpx2.AsyncClient, chat: UiChat) -> None:
    """Loads the chat anew: it has the same texts and calls."""
    loaded = UiChat(client, chat.id)
    await loaded.load()
    assert loaded.texts == chat.texts
    assert known(loaded) == known(chat)


def known(chat: UiChat) -> list[tuple[str, ...]]:
    """Returns what there is to know of the calls, in the order of their ids: those of the client are shown last."""
    return sorted((one["toolCallId"], one["state"], str(one.get("output"))) for one in chat.calls)


async def is_told(client: httpx2.AsyncClient, chat: UiChat) -> dict[str, Any]:
    """Returns the reply as the native API has it."""
    return (await messages(client, chat.last["metadata"]["conversation_id"]))["items"][-1]


async def test_calls_of_the_service_are_shown_in_steps(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, TIMES, text="Let me see."), calls(ADD), "It is 5.")
    helper = await agent(alice, "calculate")
    chat = UiChat(alice, agent_id=helper["id"])
    chunks = await chat.send("2+3?")
    assert chunks[0]["messageMetadata"]["agent_id"] == helper["id"]
    call = ["tool-input-available", "tool-output-available"]
    assert types_of(chunks) == [
        *("start", "start-step", "text-start", "text-end", *call, *call, "finish-step"),
        *("start-step", *call, "finish-step", "start-step", "text-start", "text-end", "finish-step", "finish"),
    ]
    assert [(one["toolName"], one["input"], one["output"], one["providerExecuted"]) for one in chat.calls] == [
        ("calculate", ADD[1], "5", True),
        ("calculate", TIMES[1], "6", True),
        ("calculate", ADD[1], "5", True),
    ]
    assert not chat.is_complete
    await assert_it_is_stored(alice, chat)


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_an_approval_lets_a_reply_go_on(app: FastAPI, alice: httpx2.AsyncClient, is_loaded: bool) -> None:
    play(app, calls(ADD, text="Let me see."), lambda prompt: f"It is {returned(prompt)[-1]}.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"])
    chunks = await chat.send("2+3?")
    assert types_of(chunks)[-4:] == ["tool-input-available", "tool-approval-request", "finish-step", "finish"]
    assert chunks[-1]["finishReason"] == "tool-calls"
    reply_id = chat.last["id"]
    if is_loaded:
        await chat.load()
        assert "agent_id" in chat.last["metadata"]
    assert not chat.is_complete
    chat.approve()
    await go_on(chat)
    assert (chat.last["id"], chat.texts[-1], states(chat)) == (reply_id, "Let me see.|It is 5.", ["output-available"])
    assert chat.last["metadata"]["status"] == "completed"
    await assert_it_is_stored(alice, chat)


async def test_a_denial_tells_why(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), lambda prompt: returned(prompt)[-1])
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"])
    await chat.send("2+3?")
    chat.approve(False, "Not today.")
    await go_on(chat)
    assert (chat.texts[-1], states(chat)) == ("The call was denied: Not today.", ["output-denied"])
    await assert_it_is_stored(alice, chat)


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_calls_of_a_step_are_approved_one_after_another(
    app: FastAPI, alice: httpx2.AsyncClient, is_loaded: bool
) -> None:
    play(app, calls(ADD, ("current_time", {}), TIMES), lambda prompt: "; ".join(returned(prompt)[::2]))
    helper = await agent(alice, "calculate", "current_time")
    calculate = next(tool["id"] for tool in helper["tools"] if tool["name"] == "calculate")
    await alice.patch(f"/api/v1/agents/{helper['id']}", json={"tool_policies": {calculate: "ask"}})
    chat = UiChat(alice, agent_id=helper["id"])
    await chat.send("2+3?")
    assert states(chat) == ["approval-requested"]  # those after it wait for their turn
    for told in (["output-available"] * 2 + ["approval-requested"], ["output-available"] * 3):
        if is_loaded:
            await chat.load()
        chat.approve()
        await go_on(chat)
        assert states(chat) == told
    assert chat.texts[-1] == "5; 6"
    await assert_it_is_stored(alice, chat)


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_a_client_runs_its_tools(app: FastAPI, alice: httpx2.AsyncClient, is_loaded: bool) -> None:
    made = (OUTSIDE, ADD, ("pick_file", {}))
    play(app, calls(*made, text="Let me see."), lambda prompt: "; ".join(returned(prompt)))
    chat = UiChat(alice, agent_id=(await agent(alice, "calculate"))["id"], tools=[LOOK, PICK])
    await chat.send("How is it?")
    if is_loaded:
        await chat.load()
    own = [call for call in chat.calls if not call.get("providerExecuted")]
    assert [(call["type"], call["input"], call["state"]) for call in own] == [
        ("tool-look-outside", OUTSIDE[1], "input-available"),
        ("tool-pick_file", {}, "input-available"),
    ]
    chat.give({"sky": "blue"}, "a.txt")
    assert chat.is_complete
    await go_on(chat)
    assert chat.texts[-1] == 'Let me see.|{"sky": "blue"}; 5; a.txt'
    loaded = UiChat(alice, chat.id)
    await loaded.load()
    outputs = {call["toolCallId"]: (call["type"], call["output"]) for call in chat.calls}
    assert {call["toolCallId"]: (call["type"], call["output"]) for call in loaded.calls} == outputs
    assert sorted(map(str, outputs.values())) == sorted(
        map(str, [("tool-look-outside", {"sky": "blue"}), ("dynamic-tool", "5"), ("tool-pick_file", "a.txt")])
    )


async def test_a_tool_of_the_client_fails(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE), lambda prompt: returned(prompt)[-1])
    chat = UiChat(alice, agent_id=(await agent(alice))["id"], tools=[LOOK])
    await chat.send("How is it?")
    chat.calls[0].update(state="output-error", errorText="The window is shut.")
    await go_on(chat)
    assert (chat.texts[-1], states(chat)) == ("The window is shut.", ["output-error"])


async def test_an_approval_and_then_a_tool_of_the_client(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE, ADD), lambda prompt: "; ".join(returned(prompt)))
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"], tools=[LOOK])
    await chat.send("How is it?")
    assert states(chat) == ["approval-requested"]
    chat.approve()
    await go_on(chat)
    assert states(chat) == ["output-available", "input-available"]
    chat.give("rains")
    await go_on(chat)
    assert chat.texts[-1] == "rains; 5"


async def test_all_results_are_given_together(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE, ("pick_file", {})), "Done.")
    chat = UiChat(alice, agent_id=(await agent(alice))["id"], tools=[LOOK, PICK])
    await chat.send("How is it?")
    chat.calls[0].update(state="output-available", output="rains")
    await chat.go_on()
    assert chat.answer is not None
    assert_problem(chat.answer, 422, "invalid")
    chat.give("a.txt")
    await go_on(chat)
    assert chat.texts[-1] == "Done."


async def test_a_client_invents_nothing(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, calls(ADD), "Done.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"], tools=[LOOK])
    await chat.send("2+3?")
    honest = chat.messages
    [call] = chat.calls
    id = call["toolCallId"]
    approved: dict[str, Any] = {"state": "approval-responded", "approval": {"id": id, "approved": True}}
    inventions: list[dict[str, Any]] = [
        {},
        {"state": "output-available", "output": "6"},
        {"state": "output-error", "errorText": "6"},
        {**approved, "approval": {"id": "call_1", "approved": True}},
        {**approved, "approval": {"id": id, "approved": "yes"}},
        {**approved, "approval": None},
        {**approved, "toolCallId": "x" * 100},
    ]
    for invented in inventions:
        chat.messages = [honest[0], {**honest[1], "parts": [{**call, **invented}]}]
        await chat.go_on()
        assert chat.answer is not None
        assert_problem(chat.answer, 409, "nothing_asked")
    chat.messages = [honest[0], {**honest[1], "parts": [{**call, **approved, "input": {"expression": "9*9"}}]}]
    await go_on(chat)
    assert (chat.texts[-1], returned(model.prompts[-1])) == ("Done.", ["5"])  # what was asked, not what is claimed


@pytest.mark.parametrize("note", ["a\0b", "half \ud83e", "x" * 3_000])
async def test_answers_that_are_refused(app: FastAPI, alice: httpx2.AsyncClient, note: str) -> None:
    play(app, calls(ADD), calls(OUTSIDE), "Done.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"], tools=[LOOK])
    await chat.send("2+3?")
    chat.approve(False, note)
    await chat.go_on()
    assert chat.answer is not None
    assert_problem(chat.answer, 422, "invalid")
    await chat.load()
    chat.approve(False, " ")
    await go_on(chat)
    assert states(chat) == ["output-denied", "input-available"]


async def test_results_that_are_refused(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE), lambda prompt: returned(prompt)[-1])
    chat = UiChat(alice, agent_id=(await agent(alice))["id"], tools=[LOOK])
    await chat.send("How is it?")
    for refused in ("a\0b", "half \ud83e"):
        chat.calls[0].update(state="output-available", output=refused)
        await chat.go_on()
        assert chat.answer is not None
        assert_problem(chat.answer, 422, "invalid")
    chat.calls[0].update(output=None)
    await go_on(chat)
    assert chat.texts[-1] == "null"


async def test_another_device_is_faster(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), calls(TIMES), "Done.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"])
    await chat.send("2+3?")
    other = UiChat(alice, chat.id)
    await other.load()
    other.approve()
    await go_on(other)
    assert states(other) == ["output-available", "approval-requested"]
    chat.approve(False)
    await go_on(chat)  # it hears what the other has decided, and what is asked now
    assert states(chat) == ["output-available", "approval-requested"]
    answers = [UiChat(alice, chat.id) for _ in range(3)]
    for each in answers:
        await each.load()
        each.approve()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(each.go_on() for each in answers))
    assert [each.texts[-1] for each in answers] == ["Done."] * 3


async def test_an_answer_that_is_repeated_gives_the_same(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE), "Done.")
    chat = UiChat(alice, agent_id=(await agent(alice))["id"], tools=[LOOK])
    await chat.send("How is it?")
    chat.give("rains")
    before = {**chat.last, "parts": [*chat.last["parts"]]}
    first = await chat.go_on()
    chat.messages = [chat.messages[0], before]
    assert await chat.go_on() == first


async def test_an_approval_of_an_earlier_message_is_sent_beside_a_newer_one(
    app: FastAPI, alice: httpx2.AsyncClient
) -> None:
    """Sends a message while a reply waits, which is refused and stays in the client; then the approval."""
    play(app, calls(ADD), "Done.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"])
    await chat.send("2+3?")
    await chat.send("Well?")
    assert chat.answer is not None
    assert_problem(chat.answer, 409, "conversation_busy")
    unsent = chat.messages.pop()
    chat.approve()
    reply_id = chat.last["id"]
    body = {"id": chat.id, "messages": [*chat.messages, unsent], "messageId": reply_id, "trigger": "submit-message"}
    answer = await alice.post("/api/v1/ai-sdk/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert (await is_told(alice, chat))["content"] == "Done."


async def test_a_reply_that_waits_is_resumed_up_to_where_it_waits(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(OUTSIDE, text="Let me see."), "Done.")
    chat = UiChat(alice, agent_id=(await agent(alice))["id"], tools=[LOOK])
    first = await chat.send("How is it?")
    chat.last["parts"] = chat.last["parts"][:1]  # its connection broke before the call came
    assert await chat.resume()
    assert chat.chunks == first
    chat.give("rains")
    await go_on(chat)
    assert chat.texts[-1] == "Let me see.|Done."
    assert not await chat.resume()


async def test_a_reader_from_the_beginning_hears_of_answered_calls(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    last = Spoken(["It is ", "5."])
    speak(app, calls(ADD, TIMES), calls(OUTSIDE), last)
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"], tools=[LOOK])
    await chat.send("2+3?")
    chat.approve()
    await go_on(chat)
    chat.approve(False, "No.")
    await go_on(chat)
    chat.give("rains")
    going_on = asyncio.create_task(go_on(chat))
    await last.begun.wait()
    again = UiChat(alice, chat.id)
    await again.load()
    resuming = asyncio.create_task(again.resume())
    await followed_by(app.state.execution_watch, 2)
    last.then = AssistantMessage("It is 5.")
    last.go_on.set()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(going_on, resuming)
    assert (again.texts, states(again)) == (chat.texts, states(chat))
    assert states(again) == ["output-available", "output-denied", "output-available"]
    assert [call["approval"]["approved"] for call in again.calls[:2]] == [True, False]


def helper_that_asks(*made: Any) -> Any:
    def helper(prompt: Prompt) -> Any:
        done = len(returned(prompt))
        return calls(made[done]) if done < len(made) else "; ".join(returned(prompt))

    return helper


async def asking_team(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Creates an agent that delegates to another, which asks before it calculates."""
    chief = await team(client, "calculate")
    helper_id = chief["subagents"][0]["id"]
    [tool] = (await client.get(f"/api/v1/agents/{helper_id}")).json()["tools"]
    await client.patch(f"/api/v1/agents/{helper_id}", json={"tool_policies": {tool["id"]: "ask"}})
    return chief


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_a_subagent_asks(app: FastAPI, alice: httpx2.AsyncClient, is_loaded: bool) -> None:
    play(app, by_role(delegates, helper_that_asks(ADD, TIMES)))
    chat = UiChat(alice, agent_id=(await asking_team(alice))["id"])
    await chat.send("go")
    for count in (2, 3):
        if is_loaded:
            await chat.load()
        assert [call["toolName"] for call in chat.calls] == ["ask_the_helper", *["calculate"] * (count - 1)]
        assert not chat.is_complete
        chat.approve()
        assert chat.is_complete
        await go_on(chat)
    assert (chat.texts[-1], states(chat)) == ("The helper says: 5; 6", ["output-available"] * 3)
    await assert_it_is_stored(alice, chat)


async def test_a_subagent_asks_before_another_call_has_its_turn(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    def chief(prompt: Prompt) -> Any:
        both = calls(("ask_the_helper", {"task": "help"}), ("ask_the_helper", {"task": "again"}))
        return "; ".join(returned(prompt)) or both

    play(app, by_role(chief, helper_that_asks(ADD)))
    chat = UiChat(alice, agent_id=(await asking_team(alice))["id"])
    await chat.send("go")
    assert [call["toolName"] for call in chat.calls] == ["ask_the_helper", "calculate"]
    chat.approve()
    await go_on(chat)
    assert states(chat) == ["output-available"] * 2 + ["input-available", "approval-requested"]
    chat.approve(False)
    await go_on(chat)
    assert chat.texts[-1] == "5; The call was denied."
    assert states(chat) == ["output-available"] * 3 + ["output-denied"]


async def test_a_structured_answer_is_data(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), "nonsense", '{"city": "Rome", "more": null}')
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    chat = UiChat(alice, agent_id=(await agent(alice, "calculate", output_schema=schema))["id"])
    await chat.send("Where?")
    assert shapes(chat.last) == ["step-start", "dynamic-tool", "step-start", "data-output"]
    assert chat.last["parts"][-1]["data"] == {"city": "Rome", "more": None}
    assert (await chat.load())[-1]["parts"][-1] == chat.last["parts"][-1]


async def test_words_that_are_taken_back_are_said_anew(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Reads reasoning and text of a run that is lost; the next one has other words."""
    lost = Spoken([Reasoning("I had better think."), "It ", "is six."])
    speak(app, calls(ADD, text="Let me see."), lost, "It is five, I am sure.")
    chat = UiChat(alice, agent_id=(await agent(alice, "calculate"))["id"])
    sending = asyncio.create_task(chat.send("2+3?"))
    await lost.begun.wait()
    listed = (await alice.get("/api/v1/executions")).json()["items"]
    await died(app.state.database, listed[0]["id"])
    app.state.heartbeat._steady_since -= process.DEAD_SECONDS
    app.state.worker.wake()
    async with asyncio.timeout(SECONDS):
        chunks = await sending
    assert types_of(chunks).count("reset-step") == 1
    assert chat.error is None
    assert chat.texts[-1] == "Let me see.|It is five, I am sure."
    assert "reasoning" not in shapes(chat.last)
    await assert_it_is_stored(alice, chat)


async def test_a_stop_ends_the_calls_that_are_shown(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, TIMES), "Done.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"])
    await chat.send("2+3?")
    chat.approve()
    reading = UiChat(alice, chat.id)
    reading.messages = [*chat.messages]
    await alice.post(f"{SEND}/{chat.last['id']}/stop")
    await chat.go_on()
    assert types_of(chat.chunks)[-2:] == ["abort", "finish"]
    assert (chat.chunks[-1]["finishReason"], states(chat)) == ("interrupted", ["output-error"] * 2)
    await assert_it_is_stored(alice, chat)


async def test_nobody_answers_in_time(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), calls(OUTSIDE), lambda prompt: "; ".join(returned(prompt)))
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"], tools=[LOOK])
    await chat.send("2+3?")
    for act in (chat.approve, lambda: chat.give("rains")):
        act()
        async with app.state.database.write() as session:
            await session.execute(update(Approval).values(expires_at=now() - timedelta(seconds=1)))
        going_on = asyncio.create_task(chat.go_on())
        await expire(app.state.database, app.state.notifier)
        async with asyncio.timeout(SECONDS):
            await going_on
    assert chat.texts[-1] == "Nobody approved this call in time.; The client gave no result in time."
    assert states(chat) == ["output-error"] * 2


async def test_a_process_that_stops_leaves_the_reply_to_another(make_settings: MakeSettings) -> None:
    async with running(make_settings(), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        speaking = Spoken(["It "])
        speak(app, speaking)
        chat = UiChat(alice, agent_id=(await agent(alice))["id"])
        sending = asyncio.create_task(chat.send("?"))
        await speaking.begun.wait()
        app.state.shutdown.request()
        async with asyncio.timeout(SECONDS):
            await sending
        assert chat.error == "This service stops: resume the stream, which another process continues."
        speaking.then = AssistantMessage("It ")
        speaking.go_on.set()


async def test_anothers_reply_is_not_answered(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    play(app, calls(ADD), "Done.")
    chat = UiChat(alice, agent_id=(await asking(alice, "calculate"))["id"])
    await chat.send("2+3?")
    waiting = await is_told(alice, chat)
    chat.approve()
    theirs = UiChat(bob, chat.id)
    theirs.messages = chat.messages
    elsewhere = UiChat(alice, "elsewhere")
    await elsewhere.send("hello")
    elsewhere.messages = chat.messages
    for thief in (theirs, elsewhere):
        await thief.go_on()
        assert thief.answer is not None
        assert_problem(thief.answer, 404, "not_found")
    made = await alice.post("/api/v1/auth/api-keys", json={"name": "Widget", "scopes": ["chat"]})
    client.headers["Authorization"] = f"Bearer {made.json()['key']}"
    weak = UiChat(client, chat.id)
    weak.messages = chat.messages
    await weak.go_on()
    assert weak.answer is not None
    assert_problem(weak.answer, 403, "missing_scope")
    assert await is_told(alice, chat) == waiting
    assert (await approve(alice, waiting)).status_code == 200


async def test_arguments_that_are_no_json_are_shown_as_they_are(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    broken = AssistantMessage("", [ToolCall("1", "look-outside", '{"where": '), ToolCall("2", "calculate", "5")])
    play(app, broken, "Done.")
    chat = UiChat(alice, agent_id=(await agent(alice, "calculate"))["id"], tools=[LOOK])
    await chat.send("How is it?")
    assert sorted(str(call["input"]) for call in chat.calls) == ["5", '{"where":']
    assert (states(chat), text_of(chat.last)) == (["output-error"] * 2, "Done.")
    await assert_it_is_stored(alice, chat)


def test_a_step_that_has_ended_cannot_be_taken_back() -> None:
    reply = MessageRead(
        id=uuid4(),
        conversation_id=uuid4(),
        role=Role.assistant,
        content="",
        status=MessageStatus.pending,
        created_at=now(),
    )
    writer = ChunkWriter(reply, ())
    writer.write(MessageDelta(reply_id=reply.id, part=1, text="It is 5."))
    told = writer.write(MessageRewound(reply_id=reply.id, part=0)).decode()
    assert '"type":"error"' in told
    assert writer.is_over
