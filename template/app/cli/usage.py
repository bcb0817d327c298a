"""Defines the command that sums what people have used, for whoever operates the project."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli._database import opened_database, print_table
from app.core.errors import SetupError

if TYPE_CHECKING:
    from app.schemas.usage import UsageGroup, UsageOverview, UsageTotal

SHOWN = 100

app = typer.Typer()


@app.command()
def usage(
    by: Annotated[Literal["day", "feature", "model", "user"], typer.Option(help="What the sums are for.")] = "day",
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days back, today included.")] = 30,
    user: Annotated[str | None, typer.Option(metavar="EMAIL", help="Only what this account has used.")] = None,
) -> None:
    """Sum what everyone has used, by day (UTC), feature, model or user: the newest or most expensive first."""
    found = asyncio.run(_sum(by, days, user))
    head = (by, "requests", "input tokens", "output tokens", "characters", "seconds", "dollars")
    print_table(head, [*(_row(_name(item), item) for item in found.items), _row("total", found.total)])
    if found.next_cursor is not None:
        typer.echo(f"Only the first {SHOWN} are shown.")


def _name(item: "UsageTotal") -> str:
    return next(str(name) for name in (item.day, item.feature, item.model, item.email) if name is not None)


def _row(name: str, item: "UsageTotal") -> tuple[object, ...]:
    cost = None if item.cost is None else f"{item.cost:.4f}"
    return name, item.requests, item.input_tokens, item.output_tokens, item.characters, item.seconds, cost


async def _sum(by: "UsageGroup", days: int, email: str | None) -> "UsageOverview":
    from app.repositories.user import UserRepository
    from app.services.usage.totals import sum_usage

    async with opened_database() as database:
        user_id = None
        if email is not None:
            async with database.read() as session:
                user = await UserRepository(session).find_by_email(email.lower())
            if user is None:
                raise SetupError(f"There is no account {email}.")
            user_id = user.id
        return await sum_usage(database, by, days, user_id, limit=SHOWN, cursor=0)
