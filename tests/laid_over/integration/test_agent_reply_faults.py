"""Tests agents' replies on bad days: stops in any state, races, what is gone meanwhile, long histories, lost places."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, func, insert, select, text, update
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.models.base import Base
from app.models.execution import FINAL, Approval, ApprovalStatus, Execution, ExecutionEvent, ExecutionStatus
from app.models.job import BackgroundJob
from app.models.message import Message, MessageStatus, Role
from app.models.tool import Tool
from app.models.usage import Reservation
from app.models.user import User
from app.repositories import process
from app.services.agents.toolbox import Toolbox, ToolContext
from app.services.ai import AssistantMessage, ModelFailure, Piece, Prompt, Reasoning, ToolCall, ToolResult, UserMessage
from app.services.processes import heartbeat
from tests.agents import (
    Played,
    PlayedStream,
    agent,
    asking,
    by_role,
    calls,
    play,
    read,
    returned,
    tool_ids,
)
from tests.chats import CONVERSATIONS, SEND, messages, resume, until
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.counting import Executed, executed, listening
from tests.integration.test_agent_replies import approve, reached, send
from tests.sockets import Socket, connected
from tests.sse import Event

ADD = ("calculate", {"expression": "2+3"})
ENDS = ("message.completed", "message.stopped", "message.interrupted", "message.failed")
SECONDS = 20
"""Limits how long a test waits for what should take a moment, also on a slow machine."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)


@pytest.fixture
async def app(make_settings: MakeSettings) -> AsyncGenerator[FastAPI]:
    async with running(make_settings(tokens_per_day=10_000_000), is_server=True) as app:
        yield app


@dataclass
class Spoken:
    """Answers with these pieces, and sets `begun`; ends with `then` once the test sets `go_on`."""

    pieces: Sequence[Piece]
    then: AssistantMessage | Exception = field(default_factory=AssistantMessage)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


class Speaking(Played):
    """Plays answers that stop in the middle, beside those that do not."""

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator[Any]:
        self.prompts.append(prompt)
        next_one: Any = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        yield SpokenStream(next_one) if isinstance(next_one, Spoken) else PlayedStream(next_one, prompt)


class SpokenStream:
    usage = PlayedStream.usage

    def __init__(self, spoken: Spoken) -> None:
        self.message = AssistantMessage()
        self._spoken = spoken

    async def __aiter__(self) -> AsyncGenerator[Piece]:
        for piece in self._spoken.pieces:
            yield piece
        self._spoken.begun.set()
        await self._spoken.go_on.wait()
        if isinstance(self._spoken.then, Exception):
            raise self._spoken.then
        self.message = self._spoken.then


def speak(app: FastAPI, *plays: Any) -> Speaking:
    app.state.runner.dependencies.ai = model = Speaking(*plays)
    return model


async def begin(app: FastAPI, client: httpx2.AsyncClient, agent_id: str, **more: Any) -> dict[str, Any]:
    """Sends a message through a socket, which does not wait for the reply; returns the pending reply."""
    async with connected(app, "/api/v1/chat/ws", client) as socket:
        await socket.send(type="send", content="2+3?", agent_id=agent_id, ref="begin", **more)
        created = (await socket.until("message.created", "error"))[-1]
    return await shown(client, created["conversation_id"], created["reply_id"])


async def shown(client: httpx2.AsyncClient, conversation_id: str, reply_id: str) -> dict[str, Any]:
    listed = (await messages(client, conversation_id, leaf=reply_id, limit=100))["items"]
    [found] = [message for message in listed if message["id"] == reply_id]
    return found


async def waits(client: httpx2.AsyncClient, reply: dict[str, Any]) -> dict[str, Any]:
    """Waits until a call of the reply waits for approval, and returns the reply."""

    async def is_asked() -> bool:
        found = await shown(client, reply["conversation_id"], reply["id"])
        return any(part.get("state") == "approval_requested" for part in found["parts"])

    async with asyncio.timeout(SECONDS):
        await until(is_asked)
    return await shown(client, reply["conversation_id"], reply["id"])


async def count(database: Database, kind: type[Base], *where: Any) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(kind).where(*where)) or 0


async def assert_nothing_is_left(database: Database) -> None:
    """Asserts that nothing is under way any more, once what was told to end had the time to."""
    left = {
        "executions": (Execution, Execution.status.not_in(FINAL)),
        "contexts": (Execution, Execution.context.is_not(None)),
        "approvals": (Approval, Approval.status == ApprovalStatus.pending),
        "jobs": (BackgroundJob, BackgroundJob.queue == "executions"),
        "replies": (Message, Message.status == MessageStatus.pending),
        "reservations": (Reservation,),
    }
    found = dict[str, int]()

    async def nothing() -> bool:
        found.update({name: await count(database, kind, *where) for name, (kind, *where) in left.items()})
        return not any(found.values())

    try:
        async with asyncio.timeout(SECONDS):
            await until(nothing)
    except TimeoutError:
        raise AssertionError(found) from None


async def stop(client: httpx2.AsyncClient, reply: dict[str, Any], seconds: float = 5) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        answer = await client.post(f"{SEND}/{reply['id']}/stop")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "stopped", answer.json()
    return answer.json()


async def died(database: Database, execution_id: str) -> None:
    """Simulates that the process that ran it was killed."""
    async with database.write() as session:
        dead = {"status": ExecutionStatus.running, "process_id": uuid4(), "run_id": uuid4()}
        await session.execute(update(Execution).where(Execution.id == UUID(execution_id)).values(**dead))


@asynccontextmanager
async def hanging_tool(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[asyncio.Event]:
    """Makes tools hang after the first call; yields the event that one does."""
    called, answers = asyncio.Event(), ["5"]

    async def call(_toolbox: Toolbox, _name: str, _context: ToolContext, _arguments: str) -> str:
        if not answers:
            called.set()
            await asyncio.Event().wait()
        return answers.pop()

    with monkeypatch.context() as patch:
        patch.setattr(Toolbox, "call", call)
        yield called


async def assert_goes_on(app: FastAPI, client: httpx2.AsyncClient, reply: dict[str, Any]) -> None:
    """Asserts that nothing is left of a reply that has ended, and that the conversation takes the next message."""
    await assert_nothing_is_left(app.state.database)
    model = play(app, "Next.")
    async with asyncio.timeout(SECONDS):
        following = await send(client, "And now?", conversation_id=reply["conversation_id"])
    assert (following["status"], following["content"]) == ("completed", "Next.")
    assert_whole(model.prompts[-1])


def assert_whole(prompt: Prompt) -> None:
    """Asserts that each call of a prompt is followed by its result, and no result comes without its call."""
    open_calls = list[str]()
    for message in prompt.messages:
        if isinstance(message, ToolResult):
            assert message.call_id == open_calls.pop(0)
        else:
            assert not open_calls
            open_calls = [call.id for call in getattr(message, "tool_calls", ())]
    assert not open_calls


class TestStop:
    async def test_before_a_word(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        spoken = Spoken([])
        speak(app, spoken)
        reply = await begin(app, alice, (await agent(alice))["id"])
        await spoken.begun.wait()
        assert (await stop(alice, reply))["content"] == ""
        assert (await read(alice, reply["execution_id"]))["status"] == "cancelled"
        await assert_goes_on(app, alice, reply)

    async def test_as_soon_as_it_has_begun(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        """Stops replies at many moments before the model is asked, as its budget is reserved, too."""
        helper = await agent(alice)
        for _ in range(10):
            speak(app, Spoken([]))
            reply = await begin(app, alice, helper["id"])
            await stop(alice, reply)
            await assert_goes_on(app, alice, reply)

    @pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute", "commit"])
    @pytest.mark.parametrize("of", ["usage_reservations", "execution_events", "agent_notes"])
    async def test_as_it_stores_what_it_is_about_to_do(
        self, app: FastAPI, alice: httpx2.AsyncClient, moment: str, of: str
    ) -> None:
        """Stops the second step of a run at a statement of its own, which may be stored or not."""
        stopped, inserted = asyncio.Event(), list[str]()
        note = ("save_note", {"text": "It is 5."})
        speak(app, calls(note, note, text="Let me see."), Spoken([]))
        helper = await agent(alice, "save_note")

        def at_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(f"INSERT INTO {of}"):
                inserted.append(statement)
                if moment != "commit":
                    stop_run()

        def stop_run(*_: Any) -> None:
            if len(inserted) > 1 and not stopped.is_set():
                stopped.set()
                [run] = app.state.runner.runs.values()
                run.stop()

        at = "after_cursor_execute" if moment == "commit" else moment
        listeners: dict[str, Any] = {at: at_statement, **({"commit": stop_run} if moment == "commit" else {})}
        with listening(app, **listeners):
            reply = await begin(app, alice, helper["id"])
            ended = await reached(alice, reply, "stopped")
        assert stopped.is_set()
        assert ended["content"] in ("", "Let me see.")
        await assert_goes_on(app, alice, reply)

    async def test_amid_words(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        spoken = Spoken(["It ", "is "])
        speak(app, calls(ADD, text="Let me see."), spoken)
        reply = await begin(app, alice, (await agent(alice, "calculate"))["id"])
        await spoken.begun.wait()
        assert (await stop(alice, reply))["content"] == "Let me see.\n\nIt is "
        assert (await read(alice, reply["execution_id"]))["status"] == "cancelled"
        await assert_goes_on(app, alice, reply)

    async def test_in_a_tool(self, app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        play(app, calls(ADD, ADD, text="Let me see."))
        async with hanging_tool(monkeypatch) as called:
            reply = await begin(app, alice, (await agent(alice, "calculate"))["id"])
            await called.wait()
            stopped = await stop(alice, reply)
        assert stopped["content"] == "Let me see."
        assert [part["state"] for part in stopped["parts"][1:]] == ["returned", "failed"]
        await assert_goes_on(app, alice, reply)

    async def test_while_it_waits_for_approval(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, calls(ADD, text="May I?"))
        reply = await begin(app, alice, (await asking(alice, "calculate"))["id"])
        waiting = await waits(alice, reply)
        assert (await stop(alice, reply))["content"] == "May I?"
        assert await count(app.state.database, Approval, Approval.status == ApprovalStatus.expired) == 1
        assert (await approve(alice, waiting)).status_code == 409
        await assert_goes_on(app, alice, reply)

    @pytest.mark.parametrize("state", ["speaking", "asking", "queued"])
    async def test_while_a_subagent_works(
        self, app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, state: str
    ) -> None:
        spoken = Spoken(["so ", "far"])
        chief = await asking_team(alice, ask=state == "asking")
        speak(app, calls(("ask_the_helper", {"task": "help"}), text="Wait."), calls(ADD), spoken)
        if state == "queued":
            monkeypatch.setattr(app.state.runner, "run", forever)
        reply = await begin(app, alice, chief["id"])
        if state == "speaking":
            await spoken.begun.wait()
        elif state == "asking":
            await waits(alice, reply)
        else:
            await reached_execution(app.state.database, reply["execution_id"], ExecutionStatus.waiting)
        stopped = await stop(alice, reply)
        monkeypatch.undo()
        assert stopped["content"] == "Wait."
        assert {part["state"] for part in stopped["parts"][1:]} == {"failed"}
        async with app.state.database.read() as session:
            statuses = (await session.scalars(select(Execution.status))).all()
        assert list(statuses) == [ExecutionStatus.cancelled] * 2
        if state != "queued":  # whose job a test keeps
            await assert_goes_on(app, alice, reply)

    async def test_where_nobody_takes_it(self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORKER_IN_SERVER", "false")
        async with running(make_settings(), is_server=True) as app, client_for(app) as alice:
            alice.headers.update(await sign_in(alice, "alice@example.com"))
            helper = await agent(alice)
            reply = await begin(app, alice, helper["id"])
            assert (await read(alice, reply["execution_id"]))["status"] == "queued"
            await stop(alice, reply)
            following = await begin(app, alice, helper["id"], conversation_id=reply["conversation_id"])
            assert following["status"] == "pending"
        monkeypatch.undo()
        async with running(make_settings(), is_server=True) as app, client_for(app, **dict(alice.headers)) as alice:
            speak(app, "Next.")
            await reached(alice, following, "completed")
            await assert_nothing_is_left(app.state.database)

    async def test_once_its_process_has_died(
        self, app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Has no other process take it over before: what was reserved for it is released nevertheless."""
        spoken = Spoken(["so far"])
        speak(app, calls(ADD, text="Let me see."), spoken)
        reply = await begin(app, alice, (await agent(alice, "calculate"))["id"])
        await spoken.begun.wait()
        [run] = app.state.runner.runs.values()
        monkeypatch.setattr(run._journal, "release", gone)
        monkeypatch.setattr(app.state.runner, "recover", gone)
        await died(app.state.database, reply["execution_id"])
        assert (await stop(alice, reply))["content"] == "Let me see."
        await assert_goes_on(app, alice, reply)

    async def test_twice_and_after_the_end(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        spoken = Spoken(["so far"])
        speak(app, spoken)
        reply = await begin(app, alice, (await agent(alice))["id"])
        await spoken.begun.wait()
        assert await asyncio.gather(stop(alice, reply), stop(alice, reply)) == [await stop(alice, reply)] * 2
        await assert_goes_on(app, alice, reply)


async def gone(*_: Any) -> None:
    """Does nothing, as a process that is gone."""


async def forever(*_: Any) -> None:
    await asyncio.Event().wait()


async def asking_team(client: httpx2.AsyncClient, *, ask: bool) -> dict[str, Any]:
    """Creates an agent that delegates to another one, which calculates, with approval or without."""
    helper = await (asking if ask else agent)(client, "calculate", name="The Helper!")
    return await agent(client, name="Chief", subagent_ids=[helper["id"]])


async def reached_execution(database: Database, id: str, *statuses: ExecutionStatus) -> None:
    async def has() -> bool:
        return bool(await count(database, Execution, Execution.id == UUID(id), Execution.status.in_(statuses)))

    async with asyncio.timeout(SECONDS):
        await until(has)


async def test_a_reply_is_edited_and_regenerated_while_it_is_under_way(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    first, second, third = (Spoken([], AssistantMessage(word)) for word in ("one", "two", "three"))
    speak(app, first, second, third)
    reply = await begin(app, alice, (await agent(alice))["id"])
    id = reply["conversation_id"]
    await first.begun.wait()
    question = (await messages(alice, id))["items"][0]["id"]
    again = asyncio.create_task(alice.post(f"{SEND}/{reply['id']}/regenerate", json={}))
    await second.begun.wait()
    edited = asyncio.create_task(alice.post(SEND, json={"content": "3+4?", "replaces": question}))
    await third.begun.wait()
    for spoken in (third, second, first):
        spoken.go_on.set()
    assert [(await made).json()["content"] for made in (again, edited)] == ["two", "three"]
    assert (await reached(alice, await leaf(alice, id, reply["id"]), "completed"))["content"] == "one"


async def leaf(client: httpx2.AsyncClient, conversation_id: str, reply_id: str) -> dict[str, Any]:
    """Shows the branch of a reply, and returns the reply."""
    path = f"{CONVERSATIONS}/{conversation_id}"
    assert (await client.patch(path, json={"active_message_id": reply_id})).status_code == 200
    return await shown(client, conversation_id, reply_id)


async def test_two_devices_do_everything_at_once(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, lambda prompt: "done" if returned(prompt)[-1:] == ["5"] else calls(ADD, text="May I?"))
    first = await send(alice, "2+3?", agent_id=(await asking(alice, "calculate"))["id"])
    id = first["conversation_id"]
    question = (await messages(alice, id))["items"][0]["id"]
    asked: list[Coroutine[Any, Any, httpx2.Response]] = [
        *(alice.post(SEND, json={"content": f"more {n}", "conversation_id": id}) for n in range(4)),
        *(alice.post(f"{SEND}/{first['id']}/regenerate", json={}) for _ in range(4)),
        *(alice.post(SEND, json={"content": f"edit {n}", "replaces": question}) for n in range(4)),
        *(alice.post(f"{SEND}/{first['id']}/stop") for _ in range(2)),
        *(approve(alice, first) for _ in range(2)),
    ]
    async with asyncio.timeout(3 * SECONDS):
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} <= {200, 201, 409}, [answer.text for answer in answers]
    made = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(made) >= 8
    async with app.state.database.read() as session:
        replies = (await session.scalars(select(Message.id).where(Message.role == Role.assistant))).all()
        asked_for = (await session.scalars(select(Message.content).where(Message.role == Role.user))).all()
    assert sorted(map(str, replies)) == sorted([first["id"], *(reply["id"] for reply in made)])
    assert {f"edit {n}" for n in range(4)} <= set(asked_for)
    assert len(asked_for) == len(set(asked_for))
    waiting = [reply for reply in made if reply["status"] == "pending"]
    ended = await asyncio.gather(*(approve(alice, reply) for reply in waiting))
    assert {answer.status_code for answer in ended} == {200}
    await assert_nothing_is_left(app.state.database)
    for reply in waiting:
        assert (await shown(alice, id, reply["id"]))["content"] == "May I?\n\ndone"


class TestGone:
    async def test_the_agent(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        play(app, calls(ADD, text="May I?"), "done")
        helper = await asking(alice, "calculate")
        waiting = await send(alice, "2+3?", agent_id=helper["id"])
        assert (await alice.delete(f"/api/v1/agents/{helper['id']}")).status_code == 204
        assert (await approve(alice, waiting)).status_code == 200
        assert (await reached(alice, waiting, "completed"))["content"] == "May I?\n\ndone"
        for path, body in (
            (SEND, {"content": "again", "conversation_id": waiting["conversation_id"]}),
            (f"{SEND}/{waiting['id']}/regenerate", {}),
        ):
            refused = await alice.post(path, json=body)
            assert (refused.status_code, refused.json()["detail"]) == (404, f"Agent {helper['id']} does not exist.")
        await assert_nothing_is_left(app.state.database)

    async def test_a_tool(self, app: FastAPI, alice: httpx2.AsyncClient) -> None:
        model = play(app, calls(ADD, text="May I?"), "Well then.")
        helper = await asking(alice, "calculate")
        waiting = await send(alice, "2+3?", agent_id=helper["id"])
        toolbox, left = app.state.runner.dependencies.toolbox, dict[str, Any]()
        left |= {name: tool for name, tool in toolbox.tools.items() if name != "calculate"}
        app.state.runner.dependencies.toolbox = Toolbox(left, toolbox._settings)
        async with app.state.database.write() as session:
            await session.execute(update(Tool).where(Tool.name == "calculate").values(available=False))
        assert (await approve(alice, waiting)).status_code == 200
        ended = await reached(alice, waiting, "completed")
        assert (ended["parts"][1]["state"], ended["parts"][1]["result"]) == (
            "failed",
            "There is no tool named calculate.",
        )
        await send(alice, "And now?", conversation_id=waiting["conversation_id"])
        assert_whole(model.prompts[-1])
        assert not model.prompts[-1].tools

    @pytest.mark.parametrize("how", ["agent", "conversation"])
    async def test_a_model(self, app: FastAPI, alice: httpx2.AsyncClient, how: str) -> None:
        helper = await asking(alice, "calculate")
        waiting = await send(alice, "2+3?", agent_id=helper["id"])
        async with app.state.database.write() as session:
            table = "agents SET model_name" if how == "agent" else "conversations SET model"
            await session.execute(text(f"UPDATE {table} = 'openai:of-yesterday'"))
            configuration = await session.scalar(select(Execution.configuration))
            configured = {**(configuration or {}), "model_name": "openai:of-yesterday"}
            await session.execute(update(Execution).values(configuration=configured))
        assert (await approve(alice, waiting)).status_code == 200
        failed = await reached(alice, waiting, "failed")
        assert failed["parts"][0]["state"] == "returned"
        assert "of-yesterday" in (await resume(alice, waiting["id"]))[-1].data["detail"]
        refused = await alice.post(SEND, json={"content": "?", "conversation_id": waiting["conversation_id"]})
        assert refused.status_code == 422
        assert "of-yesterday" in refused.json()["detail"]
        await assert_nothing_is_left(app.state.database)


@pytest.mark.parametrize("when", ["amid words", "after a call", "at once"])
async def test_a_provider_breaks_off(app: FastAPI, alice: httpx2.AsyncClient, when: str) -> None:
    failure = ModelFailure("provider_error", "The provider broke off.")
    broken = Spoken(["It ", "is "] if when == "amid words" else [], failure)
    speak(app, *([] if when == "at once" else [calls(ADD, text="Let me see.")]), broken)
    reply = await begin(app, alice, (await agent(alice, "calculate"))["id"])
    await broken.begun.wait()
    broken.go_on.set()
    failed = await reached(alice, reply, "failed")
    told = {"amid words": "Let me see.\n\nIt is ", "after a call": "Let me see.", "at once": ""}
    assert (failed["content"], failed["code"]) == (told[when], failure.code)
    if when != "at once":
        assert (failed["parts"][1]["state"], failed["parts"][1]["result"]) == ("returned", "5")
    assert written(await resume(alice, reply["id"])) == texts_of(failed)
    await assert_goes_on(app, alice, reply)


async def deactivate(app: FastAPI, _client: httpx2.AsyncClient, _reply: dict[str, Any]) -> None:
    async with app.state.database.write() as session:
        await session.execute(update(User).values(is_active=False))


async def delete_account(_app: FastAPI, client: httpx2.AsyncClient, _reply: dict[str, Any]) -> None:
    assert (await client.delete("/api/v1/users/me")).status_code == 204


async def delete_conversation(_app: FastAPI, client: httpx2.AsyncClient, reply: dict[str, Any]) -> None:
    assert (await client.delete(f"{CONVERSATIONS}/{reply['conversation_id']}")).status_code == 204


End = Callable[[FastAPI, httpx2.AsyncClient, dict[str, Any]], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("end", [deactivate, delete_account, delete_conversation])
@pytest.mark.parametrize("state", ["speaking", "waiting", "delegating", "dead"])
async def test_whose_it_is_goes(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, end: End, state: str
) -> None:
    spoken = Spoken(["so far"])
    if state == "delegating":
        chief = await asking_team(alice, ask=False)
        speak(app, calls(("ask_the_helper", {"task": "help"})), spoken)
    else:
        chief = await asking(alice, "calculate")
        speak(app, *([calls(ADD)] if state == "waiting" else [spoken]))
    reply = await begin(app, alice, chief["id"])
    await (waits(alice, reply) if state == "waiting" else spoken.begun.wait())
    if state == "dead":
        [run] = app.state.runner.runs.values()
        monkeypatch.setattr(run._journal, "release", gone)
        await died(app.state.database, reply["execution_id"])
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="resume", reply_id=reply["id"], ref="follow")
        await socket.until("message.created")
        await end(app, alice, reply)
        if end is delete_conversation:
            assert (await socket.until(*ENDS))[-1]["code"] == "conversation_deleted"
    await assert_nothing_is_left(app.state.database)
    async with asyncio.timeout(SECONDS):
        while app.state.runner.runs:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    if end is not deactivate:
        assert await count(app.state.database, Execution) == await count(app.state.database, ExecutionEvent) == 0
        assert await count(app.state.database, Approval) == 0


def texts_of(reply: dict[str, Any]) -> dict[int, str]:
    """Returns the text of each part that is text."""
    return {number: part["text"] for number, part in enumerate(reply["parts"]) if part["type"] == "text"}


def written(told: Sequence[Event], before: Sequence[Event] = ()) -> dict[int, str]:
    """Returns the text of each part, as a reader has it after these events."""
    return {number: text for (kind, number), text in all_written([*before, *told]).items() if kind == "message.delta"}


def all_written(told: Sequence[Event]) -> dict[tuple[str, int], str]:
    """Returns what a reader has of each part: text, and reasoning."""
    found = dict[tuple[str, int], str]()
    for event in told:
        if event.type == "message.rewound":
            found = {place: text for place, text in found.items() if place[1] < event.data["part"]}
        elif event.type in ("message.delta", "reasoning.delta"):
            place = (event.type, event.data["part"])
            found[place] = found.get(place, "") + event.data["text"]
    return found


def happened(told: Sequence[Event]) -> list[Event]:
    """Returns the events that carry no text."""
    return [event for event in told if event.type not in ("message.delta", "reasoning.delta", "message.created")]


async def heard(socket: Socket, reply: dict[str, Any], offset: str | None, *last: str) -> list[Event]:
    """Resumes a reply through a socket, and returns its events up to one of a type of `last`."""
    ref = uuid4().hex
    await socket.send(type="resume", reply_id=reply["id"], offset=offset, ref=ref)
    async with asyncio.timeout(SECONDS):
        frames = [frame for frame in await socket.until(*last) if frame.get("ref") == ref]
    return [
        Event(frame["type"], frame["offset"], {name: frame[name] for name in frame.keys() - {"ref", "offset"}})
        for frame in frames
    ]


async def rich(app: FastAPI, client: httpx2.AsyncClient) -> dict[str, Any]:
    """Begins a reply with text, reasoning, two calls in one step, approvals, and a subagent; it waits for the last."""
    helper = await asking(client, "calculate", name="The Helper!")
    add, clock = await tool_ids(client, "calculate", "current_time")
    chief = await agent(
        client, "calculate", "current_time", subagent_ids=[helper["id"]], tool_policies={add: "ask", clock: "allow"}
    )
    steps = [
        AssistantMessage(
            "Let me see.",
            [ToolCall("a", "current_time", "{}"), ToolCall("b", "calculate", json.dumps(ADD[1]))],
            reasoning="It is a sum.",
        ),
        calls(("ask_the_helper", {"task": "help"}), text="And now a ♥ helper."),
    ]

    def as_chief(prompt: Prompt) -> Any:
        done = len(returned(prompt))
        return steps[0] if not done else steps[1] if done < 3 else "It is five."

    def as_helper(prompt: Prompt) -> Any:
        return returned(prompt)[0] if returned(prompt) else calls(ADD)

    play(app, by_role(as_chief, as_helper))
    reply = await begin(app, client, chief["id"])
    assert (await approve(client, await waits(client, reply))).status_code == 200
    return await waits(client, reply)


async def test_a_reply_is_resumed_from_each_of_its_events(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    reply = await rich(app, alice)
    states = [part.get("state") for part in reply["parts"]]
    assert states.count("approval_requested") == 1
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="resume", reply_id=reply["id"], ref="first")
        told = list[Event]()
        while [event.type for event in told].count("approval.requested") < 2:
            frame = await socket.frame()
            told.append(Event(frame["type"], frame["offset"], frame))
    assert written(told) == texts_of(reply)
    for number, event in enumerate(told[:-1]):
        async with connected(app, "/api/v1/chat/ws", alice) as socket:
            rest = list[Event]()
            await socket.send(type="resume", reply_id=reply["id"], offset=event.id, ref="first")
            while not rest or rest[-1].id != told[-1].id:
                frame = await socket.frame()
                rest.append(Event(frame["type"], frame["offset"], frame))
        assert written(rest, told[: number + 1]) == texts_of(reply)
        assert happened(rest) == happened(told[number + 1 :])
    assert (await approve(alice, reply)).status_code == 200
    ended = await reached(alice, reply, "completed")
    whole = await resume(alice, reply["id"])
    assert [event.id for event in happened(whole)][: len(happened(told))] == [event.id for event in happened(told)]
    for number, event in enumerate(whole):
        rest = await resume(alice, reply["id"], event.id)
        assert written(rest, whole[: number + 1]) == texts_of(ended)
        assert happened(rest) == happened(whole[number + 1 :]) or event is whole[-1]
    for number, event in enumerate(whole):  # also from amid a text
        if event.type == "message.delta":
            said, (part, end) = event.data["text"], event.id.rsplit(".", 1)
            for left in range(1, len(said)):
                seen = Event(event.type, None, event.data | {"text": said[:-left]})
                rest = await resume(alice, reply["id"], f"{part}.{int(end) - left}")
                assert written(rest, [*whole[:number], seen]) == texts_of(ended)
    for event in told:  # what came while it was pending goes on after the end
        assert written(await resume(alice, reply["id"], event.id), _until(told, event)) == texts_of(ended)


def _until(told: Sequence[Event], last: Event) -> Sequence[Event]:
    return told[: [event is last for event in told].index(True) + 1]


@pytest.mark.parametrize(
    "bad", ["1.2", "x", "-1", "1.2.3.4", "1..2", "9999999999.0.0", "1.2.-3", "\u0661.\u0662.\u0663", "1e3", ""]
)
async def test_malformed_places_are_refused(app: FastAPI, alice: httpx2.AsyncClient, bad: str) -> None:
    play(app, "done")
    reply = await send(alice, "hello", agent_id=(await agent(alice))["id"])
    answer = await alice.get(f"{SEND}/{reply['id']}/stream", headers=[(b"Last-Event-ID", bad.encode())])
    assert answer.status_code == 422, answer.text
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="resume", reply_id=reply["id"], offset=bad, ref="bad")
        refused = (await socket.until_ref("bad"))[-1]
        assert (refused["type"], refused["status"]) == ("error", 422), refused
        await socket.send(type="ping", ref="alive")
        assert (await socket.until_ref("alive"))[-1]["type"] == "pong"


async def test_places_beyond_a_reply_lead_to_its_end(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Resumes with ids of other, longer replies: no reader hangs, and each gets the end."""
    play(app, calls(ADD, text="Let me see."), "It is 5.")
    reply = await send(alice, "2+3?", agent_id=(await agent(alice, "calculate"))["id"])
    for place in ("0.0.0", "1.1.99", "1.7.3", "9.0.0", "999999999.999999999.999999999", "0.1.1", "2.0.5"):
        async with asyncio.timeout(SECONDS):
            told = await resume(alice, reply["id"], place)
        assert told[-1].type == "message.completed", place


async def test_other_words_take_the_place_of_those_that_were_lost(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Reads reasoning and text of a run that is lost; the next one says less, and has no reasoning."""
    lost = Spoken([Reasoning("I had "), Reasoning("better think."), "It ", "is six."])
    speak(app, calls(ADD, text="Let me see."), lost, "It is five, I am sure.")
    reply = await begin(app, alice, (await agent(alice, "calculate"))["id"])
    async with connected(app, "/api/v1/chat/ws", alice) as socket:
        await socket.send(type="resume", reply_id=reply["id"], ref="read")
        told = list[Event]()
        await lost.begun.wait()
        while sum(event.type == "message.delta" for event in told) < 2 or "six" not in str(told[-1].data):
            frame = await socket.frame()
            told.append(Event(frame["type"], frame["offset"], frame))
        await died(app.state.database, reply["execution_id"])
        app.state.heartbeat._steady_since -= process.DEAD_SECONDS
        app.state.worker.wake()
        frames = await socket.until(*ENDS)
    rest = [Event(frame["type"], frame["offset"], frame) for frame in frames]
    ended = await shown(alice, reply["conversation_id"], reply["id"])
    assert "message.rewound" in [event.type for event in rest]
    assert all_written([*told, *rest]) == {("message.delta", n): text for n, text in texts_of(ended).items()}
    for number, event in enumerate(told):
        late = await resume(alice, reply["id"], event.id)
        assert written(late, told[: number + 1]) == texts_of(ended), event.id
    async with app.state.database.write() as session:
        await session.execute(delete(Execution))
    for number, event in enumerate(told):
        late = await resume(alice, reply["id"], event.id)
        assert written(late, told[: number + 1]) == texts_of(ended), event.id


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (ExecutionStatus.completed, MessageStatus.completed),
        (ExecutionStatus.failed, MessageStatus.failed),
        (ExecutionStatus.cancelled, MessageStatus.stopped),
        (None, MessageStatus.interrupted),
    ],
)
async def test_what_a_version_before_ends_is_settled(
    app: FastAPI, alice: httpx2.AsyncClient, status: ExecutionStatus | None, told: MessageStatus
) -> None:
    """Ends the execution as a version before 0.2 does, which knows no replies; None deletes it as that one may."""
    play(app, calls(ADD, text="May I?"))
    waiting = await send(alice, "2+3?", agent_id=(await asking(alice, "calculate"))["id"])
    async with app.state.database.write() as session:
        await session.execute(update(Approval).values(status=ApprovalStatus.expired))
        if status is None:
            await session.execute(delete(Execution))
        else:
            detail = {"code": "internal", "detail": "It failed."} if status is ExecutionStatus.failed else {}
            await session.execute(update(Execution).values(status=status, context=None, **detail))
    async with asyncio.timeout(SECONDS):
        await resume(alice, waiting["id"])
    ended = await shown(alice, waiting["conversation_id"], waiting["id"])
    assert ended["status"] == told
    if status is not None:
        assert (ended["content"], ended["parts"][1]["state"]) == ("May I?", "failed")
    await assert_goes_on(app, alice, ended)


STEPS, WIDTH, LONG = 50, 20_000, 500
"""Counts the calls of a reply, the characters of the result of each, and the replies of the branch."""
DETAILED = 6
"""Counts the newest replies, each with 1 MB of calls and results."""


async def make_history(database: Database, conversation_id: str, agent_id: str) -> None:
    """Appends turns to a conversation, the newest with so many calls that one of them does not fit."""
    own, rows, parent = UUID(agent_id), list[dict[str, Any]](), UUID(conversation_id)
    for position in range(1, 2 * LONG + 1):
        is_reply, id = position % 2 == 0, uuid7()
        detailed = is_reply and position > 2 * (LONG - DETAILED)
        entries = _entries() if detailed else None
        rows.append(
            {
                "id": id,
                "conversation_id": UUID(conversation_id),
                "parent_id": parent,
                "position": position,
                "role": Role.assistant if is_reply else Role.user,
                "status": MessageStatus.completed,
                "content": f"said {position}",
                "stored_parts": [{"type": "text", "text": "x" * WIDTH, "attempt": 1}] if is_reply else None,
                "agent_id": own if is_reply else None,
                "model": "demo" if is_reply else None,
                "entries": entries,
                "history_tokens": STEPS * WIDTH // 3 if detailed else None,
            }
        )
        parent = id
    async with database.write() as session:
        await session.execute(insert(Message), rows)
        await session.execute(text("ANALYZE"))


def _entries() -> list[dict[str, Any]]:
    told = list[dict[str, Any]]()
    for step in range(STEPS):
        call = {"id": f"c{step}", "name": "calculate", "arguments": "{}"}
        told.append({"text": "", "calls": [call], "raw": None, "code": None})
        told.append({"call_id": f"c{step}", "name": "calculate", "content": f"{step} " + "y" * WIDTH})
    return [*told, {"text": "That is all.", "calls": [], "raw": None, "code": None}]


async def size_of(database: Database, found: Sequence[Executed]) -> int:
    """Returns how many characters these statements return."""
    if database.url.get_backend_name() != "postgresql":
        async with database.read() as session:
            connection = await (await session.connection()).get_raw_connection()
            cursors = [await connection.driver_connection.execute(sql, values) for sql, values in found]  # pyright: ignore
            return sum([len(str(await cursor.fetchall())) for cursor in cursors])
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    rows = [await connection.fetch(sql, *values) for sql, values in found]
    await connection.close()
    return len(str([list(row.values()) for each in rows for row in each]))


@pytest.mark.parametrize("max_tokens", [8_000, 400_000])
async def test_a_long_history_is_bounded_before_it_is_read(
    app: FastAPI, alice: httpx2.AsyncClient, max_tokens: int
) -> None:
    limited = app.state.chat_settings.model_copy(update={"history_max_tokens": max_tokens})
    app.state.chat_settings = app.state.reply_dependencies.chat_settings = limited
    helper = await agent(alice, "calculate")
    id = (await alice.post(CONVERSATIONS, json={"agent_id": helper["id"]})).json()["id"]
    await make_history(app.state.database, id, helper["id"])
    model = play(app, "done")
    with executed(app, "messages") as run:
        reply = await send(alice, "And now?", conversation_id=id)
    assert reply["status"] == "completed"
    reads = [(sql, values) for sql, values in run if sql.lstrip().startswith(("SELECT", "WITH"))]
    assert await size_of(app.state.database, reads) < 4 * 5 * max_tokens + 200_000
    assert_whole(model.prompts[-1])
    heard_of = model.prompts[-1].messages
    assert sum(len(str(message)) for message in heard_of) < 6 * max_tokens
    assert heard_of[-1] == UserMessage("And now?")
    results = [message.content for message in heard_of if isinstance(message, ToolResult)]
    if max_tokens == 400_000:
        assert len(results) >= STEPS
        shortened = [result.endswith("[The rest is left out.]") for result in results]
        assert shortened == sorted(shortened, reverse=True)  # the oldest are shortened first
