"""Defines the commands for accounts, for whoever operates the project."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli._console import terminal_input, typed
from app.cli._database import opened_database
from app.cli._settings import load_settings, validate
from app.core.errors import SetupError

if TYPE_CHECKING:
    from app.core.config import Settings
    from app.models.user import User
    from app.schemas.user import UserCreate

BYTE_ORDER_MARK = "\ufeff"

app = typer.Typer(name="users", help="Create accounts.", no_args_is_help=True)


@app.command()
def create(
    email: str,
    full_name: Annotated[str | None, typer.Option(help="The name that others see.")] = None,
    superuser: Annotated[bool, typer.Option("--superuser", help="May see and change every account.")] = False,
) -> None:
    """Create an account. The password is asked for; without a terminal it is the first line of standard input."""
    from app.core.logging import configure_logging
    from app.schemas.user import UserCreate

    settings = load_settings()
    configure_logging(settings)
    data = validate(UserCreate, email=email, full_name=full_name, password=_password())
    user = asyncio.run(_create(settings, data, superuser))
    typer.echo(f"Created {'the superuser' if superuser else 'the user'} {user.email}.")


def _password() -> str:
    given = terminal_input()
    if not given.isatty():
        return typed(given.readline().removeprefix(BYTE_ORDER_MARK).rstrip("\r\n"))
    try:
        return typed(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    except UnicodeDecodeError as error:  # it is asked on the terminal itself, in the encoding of the locale
        sentence = f"What was typed is not text in {error.encoding}: set LC_ALL to the locale of the terminal."
        raise SetupError(sentence) from None


async def _create(settings: "Settings", data: "UserCreate", superuser: bool) -> "User":
    from app.core.security import Passwords
    from app.services.accounts.users import UserService

    async with opened_database(settings) as database:
        return await UserService(settings, database, Passwords(settings)).create(
            data, is_superuser=superuser, email_verified=True
        )
