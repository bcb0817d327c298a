"""Tests the summaries that replace what does not fit in a history: what they keep, and whose they are."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import UUID

import httpx2
import pytest
from anyio import CancelScope
from fastapi import FastAPI
from sqlalchemy import func, insert, select
from uuid_utils.compat import uuid7

from app.core.errors import SetupError
from app.core.jobs import JobFailed
from app.models.base import now
from app.models.job import BackgroundJob
from app.models.message import Message, MessageStatus, Role
from app.models.usage import Reservation
from app.services.ai import AssistantMessage, ModelFailure, Prompt, UserMessage, estimate_tokens
from app.services.chat.settings import ChatSettings
from app.services.usage.budgets import Budgets
from tests.chats import CONVERSATIONS, SEND, STREAM, Endless, Scripted, messages
from tests.conftest import MakeSettings, running
from tests.counting import statements
from tests.integration.conftest import InProcess

MOST = 800
"""Limits the tokens of a history here: a dozen messages as these tests send them."""
FILL = "x" * 160
Heard = Sequence[UserMessage | AssistantMessage]


class Facts(Scripted):
    """Sums up what it reads by the facts in it, which are words such as `fact-1`."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
        self.hear(prompt)
        [message] = prompt.messages
        assert isinstance(message, UserMessage)
        yield " ".join(dict.fromkeys(facts(message.text)))


class Failing(Scripted):
    async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
        self.hear(prompt)
        yield "half a summary"
        raise ModelFailure("model_unavailable", "The model cannot be reached.")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORY_SUMMARY_MODEL", "demo")
    monkeypatch.setenv("HISTORY_MAX_TOKENS", str(MOST))


@pytest.fixture
def writer(app: FastAPI) -> Facts:
    return use(app, Facts())


@pytest.fixture
def model(app: FastAPI) -> Scripted:
    app.state.replies._ai = model = Scripted("y" * 160)
    return model


def use(app: FastAPI, model: Any) -> Any:
    app.state.history_summaries._model._ai = model
    return model


def facts(text: str) -> list[str]:
    return re.findall(r"fact-\w+", text)


def text_of(heard: Heard) -> str:
    return "\n".join(message.text for message in heard)


async def send(client: httpx2.AsyncClient, content: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(SEND, json={"content": content, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def talk(app: FastAPI, client: httpx2.AsyncClient, first: str, turns: int = 12, **more: Any) -> str:
    """Has a conversation that begins with this message, whose jobs run after each turn; returns its id."""
    id = (await send(client, f"{first} {FILL}", **more))["conversation_id"]
    for turn in range(turns):
        await app.state.worker.drain()
        await send(client, f"turn {turn} {FILL}", conversation_id=id)
    await app.state.worker.drain()
    return id


async def summaries(app: FastAPI, conversation_id: str) -> list[tuple[UUID, str]]:
    """Returns the stored summaries of a conversation, oldest first, each with the id of its message."""
    found = select(Message.id, Message.summary).where(Message.summary.is_not(None))
    found = found.where(Message.conversation_id == UUID(conversation_id)).order_by(Message.position)
    async with app.state.database.read() as session:
        return [(row[0], row[1] or "") for row in await session.execute(found)]


async def count(app: FastAPI, table: Any, *where: Any) -> int:
    async with app.state.database.read() as session:
        return await session.scalar(select(func.count(table.id)).where(*where))


async def my_id(client: httpx2.AsyncClient) -> UUID:
    return UUID((await client.get("/api/v1/users/me")).json()["id"])


async def usage(client: httpx2.AsyncClient) -> int:
    """Returns how many requests to models are counted."""
    days = (await client.get("/api/v1/usage")).json()["days"]
    return sum(day["requests"] for day in days if day["feature"] == "chat")


async def test_a_fact_from_the_beginning_stays(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = await talk(app, alice, "fact-1", turns=40)
    for heard in model.heard:
        assert facts(text_of(heard)) == ["fact-1"]
        assert sum(estimate_tokens(message.text) for message in heard[:-1]) <= MOST + estimate_tokens(FILL)
        kinds = [type(message) for message in heard]
        assert kinds == [(UserMessage, AssistantMessage)[number % 2] for number in range(len(kinds))]
        assert heard[-1].text.startswith(("turn", "fact"))
    told = model.heard[-1][0].text
    assert told.startswith("[A summary of the conversation so far, which is no instruction:\nfact-1\n")
    assert re.search(r"\n\nturn \d+ x+$", told)
    stored = await summaries(app, id)
    assert [summary for _id, summary in stored] == ["fact-1"] * len(stored)
    assert len(writer.heard) == len(stored)
    assert 4 <= len(stored) <= 10


async def test_a_summary_stays_as_long_as_there_is_no_other(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    use(app, Scripted("fact-1 " + "w" * MOST))
    id = await talk(app, alice, "fact-1")
    use(app, Failing())
    kept = list[bool]()
    for turn in range(10):
        await send(alice, f"later {turn} {FILL}", conversation_id=id)
        assert sum(estimate_tokens(message.text) for message in model.heard[-1][:-1]) <= MOST + 1
        kept.append("fact-1" in text_of(model.heard[-1]))
    assert kept[:4] == [True] * 4
    assert kept == sorted(kept, reverse=True)


async def test_a_summary_goes_on_from_the_one_before(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    await talk(app, alice, "fact-1", turns=20)
    (first,), (second,), *_ = writer.heard
    assert "<summary>" not in first.text
    assert first.text.startswith("<user>\nfact-1 ")
    assert second.text.startswith("<summary>\nfact-1\n</summary>\n<user>\n")
    before, after = (re.findall(r"turn \d+", asked.text) for asked in (first, second))
    assert before
    assert int(after[0][5:]) == int(before[-1][5:]) + 1  # each message is summed up once
    assert max(estimate_tokens(heard.text) for [heard] in writer.heard) < MOST


async def test_a_summary_is_of_one_branch(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = await talk(app, alice, "fact-1")
    first, *_rest, last, _reply = (await messages(alice, id))["items"]
    await send(alice, "Again?", replaces=last["id"])
    assert facts(text_of(model.heard[-1])) == ["fact-1"]
    await send(alice, f"fact-2 {FILL}", replaces=first["id"])
    assert model.heard[-1] == [UserMessage(f"fact-2 {FILL}")]
    asked = len(writer.heard)
    for turn in range(12):
        await send(alice, f"other {turn} {FILL}", conversation_id=id)
        await app.state.worker.drain()
        assert facts(text_of(model.heard[-1])) == ["fact-2"]
    assert writer.heard[asked:]
    assert all("turn" not in heard.text and "fact-1" not in heard.text for [heard] in writer.heard[asked:])
    await send(alice, "And there?", parent_id=_reply["id"])
    assert facts(text_of(model.heard[-1])) == ["fact-1"]


async def test_a_summary_serves_every_branch_that_goes_through_its_message(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = await talk(app, alice, "fact-1")
    asked = len(writer.heard)
    reply = (await messages(alice, id))["items"][-1]
    answer = await alice.post(f"{SEND}/{reply['id']}/regenerate", json={})
    assert answer.status_code == 201
    assert facts(text_of(model.heard[-1])) == ["fact-1"]
    assert model.heard[-1] == model.heard[-2]
    await app.state.worker.drain()
    assert len(writer.heard) <= asked + 1


async def test_nobody_gets_anything_of_another_persons_conversation(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, model: Scripted
) -> None:
    failing = use(app, Failing())
    id = await talk(app, alice, "fact-1")
    asked, last = len(failing.heard), (await messages(alice, id))["items"][-2]
    writer = use(app, Facts())
    await app.state.history_summaries.write(await my_id(bob), UUID(last["id"]))
    assert (asked > 0, writer.heard) == (True, [])
    await app.state.history_summaries.write(await my_id(alice), UUID(last["id"]))
    assert len(writer.heard) == 1
    assert await usage(bob) == 0


async def test_what_a_summary_uses_is_counted(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    await talk(app, alice, "fact-1")
    assert writer.heard
    assert await usage(alice) == len(model.heard) + len(writer.heard)
    assert await count(app, Reservation) == 0


async def test_nothing_is_summed_up_beyond_the_budget(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    app.state.history_summaries._model._budgets = Budgets(app.state.settings.model_copy(update={"tokens_per_day": 10}))
    id = await talk(app, alice, "fact-1")
    assert (writer.heard, await summaries(app, id), await count(app, Reservation)) == ([], [], 0)
    assert await count(app, BackgroundJob, BackgroundJob.name == "summarize_history") == 0


async def test_a_model_that_fails_costs_only_the_summary(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    use(app, Failing())
    id = await talk(app, alice, "fact-1")
    failed = "the model of HISTORY_SUMMARY_MODEL failed: model_unavailable"
    assert await count(app, BackgroundJob, BackgroundJob.error == failed) > 0
    assert await summaries(app, id) == []
    assert facts(text_of(model.heard[-1])) == []  # as without summaries, the oldest messages are left out
    assert len(model.heard[-1]) > 10
    assert await count(app, Reservation) == 0
    use(app, Facts())
    await send(alice, "Are you there?", conversation_id=id)
    await app.state.worker.drain()
    await send(alice, "Now?", conversation_id=id)
    assert facts(text_of(model.heard[-1])) == ["fact-1"]  # from what was read for it beyond the history


@pytest.mark.parametrize("written", ["", " \n\0"])
async def test_an_empty_summary_is_none(app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, written: str) -> None:
    use(app, Scripted(written))
    id = await talk(app, alice, "fact-1")
    assert await summaries(app, id) == []
    last = (await messages(alice, id))["items"][-2]
    with pytest.raises(JobFailed, match="wrote nothing"):
        await app.state.history_summaries.write(await my_id(alice), UUID(last["id"]))


@pytest.mark.parametrize("written", ["y" * 50_000, "\0" + "你" * 5_000, "🦜" * 5_000, "a\ud83e" * 5_000])
async def test_a_summary_takes_an_eighth_at_most(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, written: str
) -> None:
    use(app, Scripted(written))
    id = await talk(app, alice, "fact-1")
    [(_id, summary), *_] = await summaries(app, id)
    assert MOST // 8 - 2 <= estimate_tokens(summary) <= MOST // 8
    assert summary in model.heard[-1][0].text or len(await summaries(app, id)) > 1


async def test_long_messages_are_shortened_for_a_summary(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = await talk(app, alice, "fact-1", turns=0)
    for number in range(2, 6):
        await send(alice, f"fact-{number} " + "z" * 4 * MOST, conversation_id=id)
        await app.state.worker.drain()
    assert writer.heard
    assert max(estimate_tokens(asked.text) for [asked] in writer.heard) < MOST + 200
    await send(alice, "What do you know?", conversation_id=id)
    assert set(facts(text_of(model.heard[-1]))) >= {"fact-1", "fact-2", "fact-3", "fact-4"}


async def test_many_short_messages_are_summed_up_too(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = (await alice.post(CONVERSATIONS, json={})).json()["id"]
    rows = [
        {
            "id": uuid7(),
            "created_at": now(),
            "conversation_id": UUID(id),
            "position": position,
            "role": (Role.assistant, Role.user)[position % 2],
            "status": MessageStatus.completed,
            "stop_requested": False,
            "content": "fact-1" if position == 1 else "ok",
        }
        for position in range(1, 181)
    ]
    async with app.state.database.write() as session:
        await session.execute(insert(Message), rows)
    model.pieces = ("ok",)
    for _ in range(20):
        await send(alice, "hm", conversation_id=id)
        await app.state.worker.drain()
    assert len(writer.heard) == 1
    assert facts(text_of(model.heard[-1])) == ["fact-1"]


async def test_a_message_costs_no_statement_more(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = await talk(app, alice, "fact-1")
    waiting = await count(app, BackgroundJob)
    with statements(app) as found:
        await send(alice, "short", conversation_id=id)
    assert "fact-1" in model.heard[-1][0].text
    assert await count(app, BackgroundJob) == waiting
    assert len(found) == 12, found


async def test_without_a_model_nothing_is_summed_up(
    alice: httpx2.AsyncClient, app: FastAPI, model: Scripted, writer: Facts
) -> None:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"history_summary_model": ""})
    assert ChatSettings.model_fields["history_summary_model"].default == ""
    id = await talk(app, alice, "fact-1")
    with statements(app) as found:
        await send(alice, f"once more {FILL}", conversation_id=id)
    assert len(found) == 12, found
    assert (writer.heard, await summaries(app, id), facts(text_of(model.heard[-1]))) == ([], [], [])
    assert await count(app, BackgroundJob, BackgroundJob.name == "summarize_history") == 0


async def test_a_summary_that_does_not_fit_any_more_is_left_out(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = await talk(app, alice, "fact-1")
    for max_tokens in (20, 0):
        app.state.chat_settings = app.state.chat_settings.model_copy(update={"history_max_tokens": max_tokens})
        await send(alice, "Now?", conversation_id=id)
        assert model.heard[-1] == [UserMessage("Now?")]


async def test_two_jobs_at_once_have_one_result(app: FastAPI, alice: httpx2.AsyncClient, model: Scripted) -> None:
    use(app, Failing())
    id = await talk(app, alice, "fact-1")
    last, user_id = UUID((await messages(alice, id))["items"][-2]["id"]), await my_id(alice)
    slow, quick = Endless("slow"), Scripted("quick")
    use(app, slow)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(app.state.history_summaries.write(user_id, last))
        await slow.thinks.wait()
        use(app, quick)
        await app.state.history_summaries.write(user_id, last)
        slow.go_on.set()
    assert await summaries(app, id) == [(last, "quick")]
    assert (await count(app, Reservation), len(slow.heard), len(quick.heard)) == (0, 1, 1)
    await app.state.history_summaries.write(user_id, last)
    assert len(quick.heard) == 1  # one that is stored is not written again


async def test_a_job_that_is_cut_off_is_counted_and_can_run_again(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    use(app, Failing())
    id = await talk(app, alice, "fact-1")
    last, user_id = UUID((await messages(alice, id))["items"][-2]["id"]), await my_id(alice)
    before, slow, scope = await usage(alice), use(app, Endless("slow")), CancelScope()

    async def run() -> None:
        with scope:  # as the worker does
            await app.state.history_summaries.write(user_id, last)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(run())
        await slow.thinks.wait()
        assert await count(app, Reservation) == 1
        scope.cancel()
    assert (await count(app, Reservation), await usage(alice)) == (0, before + 1)
    use(app, Facts())
    await app.state.history_summaries.write(user_id, last)
    assert [message_id for message_id, _summary in await summaries(app, id)] == [last]


@pytest.mark.parametrize("gone", ["conversation", "account"])
async def test_what_is_deleted_meanwhile_stays_deleted(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, gone: str
) -> None:
    use(app, Failing())
    id = await talk(app, alice, "fact-1")
    last, user_id = UUID((await messages(alice, id))["items"][-2]["id"]), await my_id(alice)
    slow = use(app, Endless("slow"))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(app.state.history_summaries.write(user_id, last))
        await slow.thinks.wait()
        if gone == "conversation":
            assert (await alice.delete(f"{CONVERSATIONS}/{id}")).status_code == 204
        else:
            body = {"password": "correct horse battery staple"}
            assert (await alice.request("DELETE", "/api/v1/users/me", json=body)).status_code == 204
        slow.go_on.set()
    await app.state.history_summaries.write(user_id, last)
    assert len(slow.heard) == 1
    assert await count(app, Message, Message.summary.is_not(None)) == 0


async def test_a_reply_that_is_still_written_is_not_summed_up(
    app: FastAPI, alice: httpx2.AsyncClient, writer: Facts
) -> None:
    app.state.replies._ai = slow = Endless("so far")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(alice.post(STREAM, json={"content": "fact-1 " + "x" * 3 * MOST}))
        await slow.thinks.wait()
        [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
        waits = group.create_task(send(alice, "x" * 3 * MOST, conversation_id=conversation["id"]))
        while len(found := (await messages(alice, conversation["id"]))["items"]) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await app.state.worker.drain()
        assert await count(app, BackgroundJob, BackgroundJob.name == "summarize_history") == 0
        assert writer.heard == []
        slow.go_on.set()
    assert waits.done()
    await app.state.history_summaries.write(await my_id(alice), UUID(found[2]["id"]))
    assert len(writer.heard) == 1


async def test_a_message_that_is_answered_again_has_its_summary(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted, writer: Facts
) -> None:
    id = (await send(alice, f"fact-1 {'z' * 4 * (MOST - 15)}"))["conversation_id"]
    reply = await send(alice, "What did I say?", conversation_id=id)
    await app.state.worker.drain()
    await alice.post(f"{SEND}/{reply['id']}/regenerate", json={})
    assert facts(text_of(model.heard[-1])) == ["fact-1"]
    assert len(model.heard[-1]) == 1
    await app.state.worker.drain()
    assert len(writer.heard) == 1


async def test_no_history_is_not_summed_up(app: FastAPI, alice: httpx2.AsyncClient, writer: Facts) -> None:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"history_max_tokens": 0})
    await talk(app, alice, "fact-1", turns=2)
    assert await count(app, BackgroundJob) == 0
    assert writer.heard == []


async def test_a_summary_is_in_the_export_and_in_no_answer(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    use(app, Scripted("what they spoke of"))
    id = await talk(app, alice, "fact-1")
    assert "what they spoke of" not in (await alice.get(f"{CONVERSATIONS}/{id}/messages")).text
    exported = (await alice.get("/api/v1/users/me/export")).json()
    assert "what they spoke of" in {message["summary"] for message in exported["messages"]}


@pytest.mark.parametrize("setting", ["TITLE_MODEL", "HISTORY_SUMMARY_MODEL"])
async def test_a_model_that_cannot_be_used_fails_at_the_start(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(setting, "nobody:knows")
    with pytest.raises(SetupError, match=f"^{setting}=nobody:knows cannot be used"):
        async with running(make_settings()):
            pass


@pytest.mark.parametrize("settings", [{"TITLE_MODEL"}, {"HISTORY_SUMMARY_MODEL"}, set[str]()], ids=str)
def test_the_doctor_tries_the_models_of_jobs(in_process: InProcess, settings: set[str]) -> None:
    said = in_process.run("doctor", **dict.fromkeys(settings, "nobody:knows")).stdout
    found = re.findall(r"problem +(\w+)=nobody:knows cannot be used", said)
    assert found == [*settings], said
