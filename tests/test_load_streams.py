"""Measures how many streams a server holds, and what one costs it, as a multiple of the least that it can cost."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from conftest import Render
from hammer import cpu
from services import REDIS, database, databases
from streams import DEMO_WORDS, LIMITS, Heard, listen_to_all, serving
from test_load import CONNECTIONS, most_connections, served, sign_in

pytestmark = [pytest.mark.deep, pytest.mark.load, pytest.mark.slow]
MODEL = {"AI_MODEL": "openai-chat:fast", "OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1", "AI_SYSTEM_PROMPT": ""}
MOST = {"memory": 16, "redis": 20, "provider": 32}
"""Limits how many times the least a chat may cost: somewhat more than was measured on a busy machine."""


@dataclass(frozen=True)
class Form:
    chats: int
    """Counts the chats at once whose cost is measured."""
    streams: int
    seconds: float
    arrival: float
    """Spreads the starts of the streams over these seconds."""


@pytest.fixture
def form(request: pytest.FixtureRequest) -> Form:
    """Takes what the project must bear with `nox -s load -- --full`; without it, what a test machine has time for."""
    return Form(500, 2_000, 40, 20) if request.config.option.full else Form(150, 300, 4, 2)


@pytest.fixture
def database_url() -> Iterator[str]:
    with database(databases()[-1]) as url:
        yield url


def cost(port: int, process_id: int, token: str, chats: int) -> tuple[float, int]:
    """Returns the server's CPU milliseconds for each of `chats` concurrent chats, once it is warm, and their words."""
    asyncio.run(listen_to_all(port, token, 20, 0))
    before = cpu(process_id)
    heard = asyncio.run(listen_to_all(port, token, chats, 0))
    assert all(each.whole for each in heard)
    return 1000 * (cpu(process_id) - before) / chats, heard[0].words


def least(chats: int, words: int) -> float:
    """Returns the cost of a chat on the server of limit.py, which does nothing else."""
    with database("postgresql") as url, serving("chats", DATABASE_URL=url, WORDS=str(words)) as (port, process_id):
        return cost(port, process_id, "", chats)[0]


@pytest.mark.parametrize("kind", MOST)
def test_what_a_chat_costs(
    render: Render, database_url: str, kind: str, form: Form, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measures a chat that is signed in and stored, with an idempotency key and within a budget."""
    redis = {"REDIS_URL": REDIS, "REDIS_PREFIX": f"load-{uuid4().hex}"}
    with serving("model") as (model_port, _):
        model = {**MODEL, "OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1"}
        more = {"memory": {}, "redis": redis, "provider": model}[kind]
        with served(render, database_url, **LIMITS, **more) as (port, process_id):
            here, words = cost(port, process_id, asyncio.run(sign_in(port)), form.chats)
    limit = least(form.chats, words)
    with capsys.disabled():
        print(f"\n{kind}: {here:.1f} ms of CPU a chat of {words} words, {here / limit:.1f} times {limit:.2f} ms")
    assert here / limit <= MOST[kind]


def test_many_long_streams_need_few_connections(
    render: Render, database_url: str, form: Form, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hold(port: int) -> tuple[list[Heard], int]:
        token, done = await sign_in(port), asyncio.Event()
        watching = asyncio.create_task(most_connections(database_url, done))
        heard = await listen_to_all(port, token, form.streams, form.arrival)
        done.set()
        return heard, await watching

    with served(render, database_url, **LIMITS, DEMO_MODEL_DELAY=str(form.seconds / DEMO_WORDS)) as (port, process_id):
        heard, connections = asyncio.run(hold(port))
        worked = cpu(process_id)
    firsts = sorted(each.first for each in heard)
    late = firsts[int(len(firsts) * 0.99)]
    with capsys.disabled():
        print(
            f"\n{form.streams} streams of {form.seconds} s: {connections} connections, {worked:.1f} s of CPU in all, "
            f"first word after {firsts[len(firsts) // 2]:.2f} s, of the slowest hundredth {late:.2f} s"
        )
    assert all(each.whole for each in heard)
    assert connections <= CONNECTIONS
