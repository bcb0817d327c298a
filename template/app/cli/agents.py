"""Defines the commands for agents: lists them, and runs one, as a scheduler such as cron does."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli._console import terminal_input, typed
from app.cli._settings import load_settings, validate
from app.cli.chat import LOCAL_ACCOUNT, account
from app.core.display import displayable
from app.core.errors import SetupError

if TYPE_CHECKING:
    from uuid import UUID

    from app.services.agents.stream import ExecutionStream

SHOWN = 100

app = typer.Typer(name="agents", help="See agents, and run one.", no_args_is_help=True)
User = Annotated[str, typer.Option(metavar="EMAIL", help="The account that owns the agents.")]


@app.command("list")
def list_agents(user: User = LOCAL_ACCOUNT) -> None:
    """List the agents of an account, newest first: id, name, model and tools."""
    lines = asyncio.run(_with_app(user, _list))
    typer.echo(displayable("\n".join(lines) or "There are no agents."))


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="The agent, by name or id.")],
    input: Annotated[str, typer.Argument(help="What the agent is to do; `-` reads it from standard input.")],
    user: User = LOCAL_ACCOUNT,
) -> None:
    """Run an agent, and print its output. The exit status is 1 if it fails, or waits for an approval."""
    task = typed(terminal_input().read() if input == "-" else input)

    async def execute(state: Any, user_id: "UUID") -> str:
        return await _run(state, user_id, typed(name), task)

    sys.stdout.write(f"{displayable(asyncio.run(_with_app(user, execute)))}\n")


async def _with_app(email: str, work: Any) -> Any:
    from app.core.logging import configure_logging
    from app.main import create_app

    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}))
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        return await work(app.state, await account(app.state, email.lower()))


async def _list(state: Any, user_id: "UUID") -> list[str]:
    from app.services.agents.service import AgentService

    page = await AgentService(state.database, state.ai, state.output_checker, user_id).list(SHOWN, None)
    lines: list[str] = []
    for agent in page.items:
        tools = ", ".join([*(tool.name for tool in agent.tools), *(one.name for one in agent.subagents)])
        lines.append(f"{agent.id}  {agent.name}  {agent.model_name}  {tools}".rstrip())
    return lines


async def _run(state: Any, user_id: "UUID", name: str, task: str) -> str:
    """Returns the output. Raises SetupError when there is none."""
    from app.api.v1.executions import execution_stream_of, executions_of
    from app.schemas.execution import ExecutionCreate

    agents, stream = state.agent_replies(user_id), execution_stream_of(state, user_id)
    agent_id = await agents.find(name)
    async with agents.run_here():
        executions = executions_of(state, user_id)
        execution = await executions.execute(agent_id, validate(ExecutionCreate, input=task))
        try:
            return await _follow(stream, execution.id)
        except asyncio.CancelledError:
            await executions.cancel(execution.id)
            raise


async def _follow(stream: "ExecutionStream", id: "UUID") -> str:
    """Returns the output of an execution. Raises SetupError when there is none."""
    async for step in stream.follow(await stream.find(id)):
        match step.type, step.data:
            case "approval.requested", {"name": tool, "of": of}:
                place = f"POST …/executions/{of}/approvals"
                raise SetupError(f"The execution {id} waits until somebody approves its call of {tool}, by {place}.")
            case "execution.completed", {"output": output}:
                return output
            case "execution.failed", {"detail": detail}:
                raise SetupError(detail)
            case _:
                pass
    raise SetupError(f"The execution {id} was cancelled.")
