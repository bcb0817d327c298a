"""Tests agents on the command line: conversations with approvals at the prompt, and runs for schedulers."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from app.cli.chat import LOCAL_ACCOUNT, account
from app.core.config import Settings
from app.main import create_app
from app.models.tool import Policy
from app.schemas.agent import AgentCreate
from app.services.agents.service import AgentService
from app.services.agents.tool_catalog import ToolService
from tests.integration.conftest import InProcess, Project


async def _make(settings: Settings, policy: Policy, names: tuple[str, ...]) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        state = app.state
        user_id = await account(state, LOCAL_ACCOUNT)
        tools = {tool.name: tool.id for tool in (await ToolService(state.database).list(100, None)).items}
        agents = AgentService(state.database, state.ai, state.output_checker, user_id)
        for name in names:
            ids, policies = [tools["calculate"]], {tools["calculate"]: policy}
            await agents.create(AgentCreate(name=name, model_name="demo", tool_ids=ids, tool_policies=policies))


def make_agents(project: Project, *names: str, policy: Policy = Policy.allow) -> None:
    project.succeed("db", "upgrade")
    url = f"sqlite+aiosqlite:///{project.folder / 'app.db'}"
    settings = Settings(environment="local", secret_key="x" * 43, database_url=url)  # pyright: ignore[reportCallIssue,reportArgumentType]
    asyncio.run(_make(settings, policy, names))


def statuses(project: Project, table: str) -> list[str]:
    with closing(sqlite3.connect(project.folder / "app.db")) as database:
        return [status for (status,) in database.execute(f"SELECT status FROM {table} ORDER BY created_at")]  # noqa: S608


@pytest.mark.parametrize(("typed", "result"), [("y", "calculate: 5"), ("n", "calculate failed: The call was denied.")])
def test_a_call_is_approved_at_the_prompt(prepared: Project, typed: str, result: str) -> None:
    make_agents(prepared, "Clerk", policy=Policy.ask)
    with prepared.at_terminal("chat", "--agent", "Clerk") as terminal:
        for _ in range(2):
            terminal.wait_for("> ")
            terminal.type("2 + 3?\n")
            terminal.wait_for("[y/N] ")
            terminal.type(f"{typed}\n")
            terminal.wait_for(result)
            terminal.wait_for("provider.")
        terminal.wait_for("> ")
        terminal.interrupt()
        assert terminal.ended() == 0
    assert statuses(prepared, "messages") == ["completed"] * 4
    assert statuses(prepared, "executions") == ["completed"] * 2


def test_ctrl_c_at_the_prompt_stops_the_reply(prepared: Project) -> None:
    make_agents(prepared, "Clerk", policy=Policy.ask)
    with prepared.at_terminal("chat", "--agent", "Clerk", "2 + 3?") as terminal:
        terminal.wait_for("[y/N] ")
        terminal.interrupt()
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.screen
    assert statuses(prepared, "messages") == ["completed", "stopped"]


def test_ctrl_c_amid_a_reply_keeps_its_text(prepared: Project) -> None:
    make_agents(prepared, "Clerk")
    with prepared.at_terminal("chat", "--agent", "Clerk", "2 + 3?", DEMO_MODEL_DELAY="0.3") as terminal:
        terminal.wait_for("asked")
        terminal.interrupt()
        assert terminal.ended() == 130
    assert "Traceback" not in terminal.screen
    assert statuses(prepared, "messages") == ["completed", "stopped"]
    assert statuses(prepared, "executions") == ["cancelled"]


def test_agents_are_listed_and_run(in_process: InProcess) -> None:
    make_agents(in_process, "Clerk", "Twin", "Twin")
    listed = in_process.succeed("agents", "list").splitlines()
    assert [line.split("  ")[1:] for line in reversed(listed)] == [
        [name, "demo", "calculate"] for name in ("Clerk", "Twin", "Twin")
    ]
    said = in_process.succeed("agents", "run", "Clerk", "2 + 3?")
    assert said.startswith("You asked: “2 + 3?”. calculate returned: “5”.")
    assert in_process.succeed("agents", "run", "Clerk", "-", typed="2 + 3?") == said
    assert in_process.succeed("agents", "run", listed[0].split()[0], "2 + 3?") == said
    assert in_process.fail("agents", "run", "Twin", "go").startswith("Several agents have the name Twin:")
    assert in_process.fail("agents", "run", "Nobody", "go").startswith("There is no agent with the name Nobody:")
    assert in_process.fail("chat", "--agent", "Nobody", "go").startswith("There is no agent with the name Nobody:")


def test_a_run_that_waits_fails_with_a_sentence(in_process: InProcess) -> None:
    make_agents(in_process, "Clerk", policy=Policy.ask)
    assert "waits until somebody approves its call of calculate" in in_process.fail("agents", "run", "Clerk", "go")
    assert statuses(in_process, "executions") == ["waiting"]
