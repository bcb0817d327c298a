"""Tests replies that fail, are interrupted or are stopped."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text, update

from app.models.user import User
from app.services.ai import Prompt
from app.services.chat import replies
from tests.chats import CONVERSATIONS, Endless, Scripted, all_messages, messages, stream, until
from tests.conftest import MakeSettings, client_for, end_other_connections, running, sign_in


async def test_an_error_inside_the_service_ends_the_reply_and_keeps_its_text(
    alice: httpx2.AsyncClient, app: FastAPI, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Scripted):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
            yield "so far"
            raise RuntimeError("key sk-hunter2")

    app.state.replies._ai = Broken()
    *_, failed = await stream(alice, "hello")
    assert (failed.type, failed.data["code"]) == ("message.failed", "internal")
    stored = (await messages(alice, failed.data["message"]["conversation_id"]))["items"]
    assert [(m["content"], m["status"]) for m in stored] == [("hello", "completed"), ("so far", "failed")]
    assert "hunter2" not in capfd.readouterr().err


async def test_no_connection_is_held_while_the_model_speaks(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    pool, seen = app.state.database.engine.pool, list[int]()

    class Watching(Scripted):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
            for piece in ("a", "b"):
                seen.append(pool.checkedout())
                yield piece

    app.state.replies._ai = Watching()
    await stream(alice, "hello")
    assert seen == [0, 0]


async def test_without_redis_what_was_said_is_stored_in_a_moment(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores text within 0.25 seconds: what readers have seen and no row holds is lost with a killed process."""
    assert replies.ONLY_FLUSH_SECONDS <= 0.25
    monkeypatch.setattr(replies, "FLUSH_SECONDS", 3600)
    async with running(make_settings()) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        app.state.replies._ai = model = Endless()
        reading = asyncio.create_task(stream(alice, "hello"))
        await model.thinks.wait()

        async def is_stored() -> bool:
            return (await all_messages(alice))[1]["content"] == "so far"

        await until(is_stored)
        model.go_on.set()
        await reading


async def test_a_shutdown_interrupts_a_reply_and_keeps_its_text(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = model = Endless()
    reply = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    await app.state.replies.finish(0)
    end = (await reply)[-1]
    assert (end.type, end.data["message"]["content"]) == ("message.interrupted", "so far")


async def test_a_shutdown_waits_for_a_reply_that_is_being_stored(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = model = Endless()
    reply = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    async with app.state.database.write() as session:
        await session.execute(text("UPDATE messages SET content = content"))  # PostgreSQL locks rows, SQLite the file
        model.go_on.set()
        finished = asyncio.create_task(app.state.replies.finish(0.05))
        done, _ = await asyncio.wait([finished], timeout=0.2)
        assert not done
    await finished
    assert (await reply)[-1].type == "message.completed"


async def test_a_reply_is_stored_although_its_connections_broke(
    alice: httpx2.AsyncClient, app: FastAPI, database_url: str
) -> None:
    app.state.replies._ai = model = Endless()
    reply = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    if database_url.startswith("postgresql"):
        await end_other_connections(database_url)
    model.go_on.set()
    end = (await reply)[-1]
    assert (end.type, end.data["message"]["content"]) == ("message.completed", "so far")


async def test_deleting_a_conversation_while_it_is_answered(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    class Deleting(Scripted):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
            yield "too late"
            [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
            await alice.delete(f"{CONVERSATIONS}/{conversation['id']}")

    app.state.replies._ai = Deleting()
    *_, end = await stream(alice, "hello")
    assert (end.type, end.data["code"]) == ("message.failed", "conversation_deleted")


async def test_replies_to_somebody_whose_account_is_deactivated_stop(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    """Stops replies that still wait for their turn as well."""
    app.state.replies._ai = model = Endless()
    first = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
    second = asyncio.create_task(stream(alice, "and again", conversation_id=conversation["id"]))
    while len(app.state.replies._active) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    async with app.state.database.write() as session:
        await session.execute(update(User).values(is_active=False))
    await app.state.replies.flush()
    async with asyncio.timeout(20):
        ends = [told[-1] for told in await asyncio.gather(first, second)]
    assert [(end.type, end.data["message"]["content"]) for end in ends] == [
        ("message.stopped", "so far"),
        ("message.stopped", ""),
    ]
