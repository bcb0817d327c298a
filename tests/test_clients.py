"""Lets official clients, unmodified, talk to a served project: OpenAI's, and those of the AI SDK."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import node
import pytest
from servers import Project, signed_in

pytestmark = [pytest.mark.clients, pytest.mark.slow]
Run = Callable[..., Awaitable[Any]]

DEMO = "You said: “{}”. I am the demo model"
ASKED = "You asked: “2 + 3”. calculate returned: “5”. I am the demo model"


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    node.install(node.CLIENTS)


@asynccontextmanager
async def clients(project: Project, **settings: str) -> AsyncIterator[tuple[Run, httpx2.AsyncClient]]:
    """Serves a project; yields what runs a scenario, and a client of the API."""
    settings = {"DEMO_MODEL_DELAY": "0.01", **settings}
    async with project.serve(**settings) as server, signed_in(server.url) as client:
        client.base_url = f"{server.url}/api/v1/"
        told = await agents(client, server.url)

        async def run(program: str, *arguments: str) -> Any:
            return await node.run(f"{program}.mjs", *arguments, settings=told)

        yield run, client


async def agents(client: httpx2.AsyncClient, url: str) -> Mapping[str, str]:
    """Creates an agent that calculates and one that asks before it notes; returns what the programs need to know."""
    tools = {tool["name"]: tool["id"] for tool in (await client.get(f"{url}/api/v1/tools")).json()["items"]}
    note = tools["save_note"]
    made = [
        {"name": "Clerk", "model_name": "demo", "tool_ids": [tools["calculate"]]},
        {"name": "Careful", "model_name": "demo", "tool_ids": [note], "tool_policies": {note: "ask"}},
    ]
    ids = [(await client.post(f"{url}/api/v1/agents", json=agent)).json()["id"] for agent in made]
    token = client.headers["Authorization"].removeprefix("Bearer ")
    return {"BASE": url, "TOKEN": token, "AGENT": ids[0], "ASKING_AGENT": ids[1]}


def texts(message: Mapping[str, Any]) -> str:
    return "|".join(part["text"] for part in message["parts"] if part["type"] == "text")


def content(chunks: Sequence[Mapping[str, Any]], name: str = "content") -> str:
    return "".join(chunk["choices"][0]["delta"].get(name, "") for chunk in chunks if chunk["choices"])


def test_openai_client(single: Project) -> None:
    async def check() -> None:
        async with clients(single) as (run, _client):
            listed = await run("openai", "models")
            assert [model["name"] for model in listed["listed"]] == ["demo", "Careful", "Clerk"]
            assert listed["one"]["name"] == "Clerk"
            for model, start in (("demo", DEMO.format("2 + 3")), ("agent", ASKED)):
                await answers(run, model, start)
            functions = {
                "demo": "You asked: “2 + 3”. weather returned",
                "agent": "calculate returned: “5”. weather returned",
            }
            for model, words in functions.items():
                ran = await run("openai", "functions", model)
                assert ran["called"] == [{"city": "2 + 3"}]
                assert f'{words}: “{{"sky":"blue"}}”' in ran["answer"]
                assert (await run("openai", "schema", model))["message"]["parsed"] == {"city": "2 + 3"}
            assert "I got a picture (image/png)" in await run("openai", "picture")

    asyncio.run(check())


async def answers(run: Run, model: str, start: str) -> None:
    said = await run("openai", "text", model)
    [choice] = said["whole"]["choices"]
    assert choice["message"]["content"].startswith(start)
    assert choice["finish_reason"] == "stop"
    *chunks, last, usage = said["chunks"]
    assert content(chunks) == choice["message"]["content"]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]) == ([], said["whole"]["usage"])
    assert len(chunks) > 20, "it did not come as it was written"
    thought = await run("openai", "reasoning", model)
    reasoning = thought["whole"]["choices"][0]["message"]["reasoning_content"]
    assert reasoning.startswith("The question is “2 + 3”")
    assert content(thought["chunks"], "reasoning_content") == reasoning


@pytest.mark.deep
def test_openai_client_learns_what_is_wrong(single: Project) -> None:
    limits = {
        "DOLLARS_PER_DAY": "0",
        "TOKENS_PER_DAY": "9000",
        "MESSAGES_PER_MINUTE": "8",
        "AI_MAX_OUTPUT_TOKENS": "8000",
    }

    async def check() -> None:
        async with clients(single, **limits) as (run, _client):
            found = [
                await run("openai", "error", *asked)
                for asked in (
                    ("{}", "nonsense"),
                    ('{"model": "nope"}',),
                    ('{"n": 2}',),
                    ('{"temperature": 3}',),
                    ('{"model": "asking"}',),
                )
            ]
            assert [(error["class"], error["status"], error["code"], error["param"]) for error in found] == [
                ("AuthenticationError", 401, "unauthenticated", None),
                ("NotFoundError", 404, "model_not_found", "model"),
                ("BadRequestError", 400, "unsupported_parameter", "n"),
                ("BadRequestError", 400, "validation_error", "temperature"),
                ("BadRequestError", 400, "approval_required", None),
            ]
            assert (await run("openai", "streamedError", "asking"))["code"] == "approval_required"
            long = '{"messages": [{"role": "user", "content": "%s"}]}' % ("word " * 1_000)
            spent = await run("openai", "error", long)
            assert (spent["class"], spent["status"], spent["type"]) == ("APIError", 402, "insufficient_quota")
            many = [await run("openai", "error", '{"max_tokens": 1}') for _ in range(8)]
            assert (many[-1]["class"], many[-1]["status"]) == ("RateLimitError", 429)

    asyncio.run(check())


def test_openai_client_stops_by_leaving(single: Project) -> None:
    async def check() -> None:
        async with clients(single, DEMO_MODEL_DELAY="0.5") as (run, client):
            assert await run("openai", "stop") == 5
            async with asyncio.timeout(5):
                while not (days := (await client.get("usage")).json()["days"]):
                    await asyncio.sleep(0.05)
            assert days[0]["output_tokens"] < 12

    asyncio.run(check())


def test_models_of_the_ai_sdk(single: Project) -> None:
    async def check() -> None:
        async with clients(single) as (run, _client):
            for model, start in (("demo", DEMO.format("2 + 3")), ("agent", ASKED)):
                said = await run("compatible", "text", model)
                assert said["text"].startswith(start)
                assert said["streamed"] == said["text"]
                assert said["usage"] == said["streamedUsage"]
                ran = await run("compatible", "functions", model)
                assert (ran["called"], ran["steps"]) == ([{"city": "2 + 3"}], 2)
                assert 'weather returned: “{"sky":"blue"}”' in ran["text"]
            assert (await run("compatible", "reasoning"))["reasoning"].startswith("The question is “2 + 3”")
            assert await run("compatible", "schema") == {"city": "2 + 3"}
            assert (await run("compatible", "error"))["statusCode"] == 404

    asyncio.run(check())


def test_chats_of_the_ai_sdk(single: Project) -> None:
    async def check() -> None:
        async with clients(single) as (run, _client):
            said = await run("ai_sdk", "text")
            assert [message["role"] for message in said["messages"]] == ["user", "assistant"] * 2
            assert texts(said["messages"][3]).startswith(DEMO.format("and again"))
            assert list(map(texts, said["loaded"])) == list(map(texts, said["messages"]))
            reasoning, text = (await run("ai_sdk", "reasoning"))["messages"][-1]["parts"][1:]
            assert (reasoning["type"], text["type"]) == ("reasoning", "text")
            data = (await run("ai_sdk", "data"))["messages"][-1]["parts"][-1]
            assert (data["type"], data["data"]) == ("data-output", {"city": "Rome"})
            again = await run("ai_sdk", "regenerate")
            assert again["siblings"] == [again["first"], again["second"], again["third"]]
            edited = await run("ai_sdk", "edit")
            assert list(map(texts, edited["second"]["messages"]))[::2] == ["one", "deux"]
            assert texts(edited["loaded"][0]) == "un"
            assert len(edited["loaded"]) == 2
            for body, status in (('{"model": "nope"}', 422), ('{"other": 1}', 422)):
                failed = await run("ai_sdk", "error", body)
                assert failed["status"] == "error"
                assert f'"status":{status}' in failed["error"]

    asyncio.run(check())


def test_tools_in_chats_of_the_ai_sdk(single: Project) -> None:
    async def check() -> None:
        async with clients(single) as (run, _client):
            ran = await run("ai_sdk", "serverTool")
            call = ran["messages"][-1]["parts"][1]
            assert (call["type"], call["toolName"], call["state"], call["output"]) == (
                *("dynamic-tool", "calculate"),
                *("output-available", "5"),
            )
            assert len(ran["messages"]) == 2, "it was sent again by itself"
            assert texts(ran["loaded"][-1]) == texts(ran["messages"][-1])
            own = await run("ai_sdk", "clientTool")
            assert [call["toolName"] for call in own["called"]] == ["weather"], "the service's tool is not the client's"
            assert 'weather returned: “{"sky": "blue"}”' in texts(own["messages"][-1])
            answers = (("true", "output-available", "The note is saved."), ("false", "output-denied", "not today"))
            for approved, state, word in answers:
                asked = await run("ai_sdk", "approval", approved)
                assert asked["waiting"]["messages"][-1]["parts"][-1]["state"] == "approval-requested"
                assert asked["messages"][-1]["parts"][1]["state"] == state
                assert word in texts(asked["messages"][-1])
            invented = await run("ai_sdk", "inventedApproval")
            assert '"status":409' in invented["error"]
            assert texts(invented["after"]) == texts(invented["before"])

    asyncio.run(check())


def test_a_chat_of_the_ai_sdk_stops_and_resumes(single: Project) -> None:
    async def check() -> None:
        async with clients(single, DEMO_MODEL_DELAY="0.05") as (run, _client):
            stopped = await run("ai_sdk", "stop")
            assert (stopped["status"], stopped["messages"][-1]["metadata"]["status"]) == ("ready", "stopped")
            resumed = await run("ai_sdk", "resume")
            assert resumed["loaded"] == 1
            assert texts(resumed["messages"][-1]).startswith(resumed["heard"])
            assert texts(resumed["messages"][-1]).endswith("then start again.")

    asyncio.run(check())


@pytest.mark.deep
@pytest.mark.parametrize("program", ["openai", "ai_sdk"])
def test_an_answer_survives_its_server(alone: Project, program: str) -> None:
    """Kills the server in the middle of an agent's answer, and starts another one on the same port."""

    async def check() -> None:
        arguments = ("survive", "agent") if program == "openai" else ("survive",)
        said = await killed(alone, program, *arguments)
        if program == "openai":
            assert said["error"] is not None
            whole = said["again"]["choices"][0]["message"]["content"]
            assert whole.startswith(ASKED)
            assert said["again"] == said["repeated"]
        else:
            assert texts(said["messages"][-1]).startswith(ASKED)
            assert texts(said["messages"][-1]) == texts(said["loaded"][-1])
            assert len(said["messages"]) == len(said["loaded"]) == 2

    asyncio.run(check())


async def killed(project: Project, program: str, *arguments: str) -> Any:
    """Runs a scenario, during whose stream the server is killed; another one then listens on its port."""
    async with project.serve(DEMO_MODEL_DELAY="0.1") as server:
        port = int(server.url.rpartition(":")[2])
        async with signed_in(server.url) as client:
            told = await agents(client, server.url)
        async with node.running(f"{program}.mjs", *arguments, **told) as process:
            assert process.stderr is not None
            await asyncio.wait_for(process.stderr.readuntil(b"streaming"), 60)
            await server.end(signal.SIGKILL)
            async with project.serve_at(port, DEMO_MODEL_DELAY="0.01"):
                return await node.told(process)
