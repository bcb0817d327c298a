"""Provides the dependencies of routes: who is calling, and what the application shares among requests.

All of them are `async`, although few of them wait: FastAPI runs other functions in threads, which costs more than
they do.
"""

from contextlib import nullcontext
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from fastapi.requests import HTTPConnection
from fastapi.security import OAuth2PasswordBearer

from app.api.disconnects import while_connected
from app.api.scopes import scopes_of, spending_scopes_of, within_scopes
from app.core.config import Settings
from app.core.database import Database
from app.core.errors import EmailNotVerified, Forbidden, SessionRequired, Unauthenticated
from app.core.fair_queue import Client
from app.core.rate_limits import RateLimits, network
from app.core.security import Passwords
from app.core.telemetry.spans import note_user
from app.models.idempotency_key import KEY_CHARACTERS
from app.repositories.principal import Principal
from app.services.accounts.auth import AuthService
from app.services.accounts.users import UserService
from app.services.email.messages import AccountEmails

bearer = OAuth2PasswordBearer("auth/login", refreshUrl="auth/refresh", scheme_name="bearer", auto_error=False)


async def settings(connection: HTTPConnection) -> Settings:
    return connection.app.state.settings


async def database(connection: HTTPConnection) -> Database:
    return connection.app.state.database


async def passwords(connection: HTTPConnection) -> Passwords:
    waiting = partial(while_connected, connection) if isinstance(connection, Request) else nullcontext
    return connection.app.state.passwords.of(Client(network(_address(connection)), waiting))


async def emails(connection: HTTPConnection) -> AccountEmails:
    return connection.app.state.emails


async def rate_limits(connection: HTTPConnection) -> RateLimits:
    state = connection.app.state
    return RateLimits(state.rate_limiter, state.settings, _address(connection))


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


SettingsDep = Annotated[Settings, Depends(settings)]
DatabaseDep = Annotated[Database, Depends(database)]
PasswordsDep = Annotated[Passwords, Depends(passwords)]
RateLimitsDep = Annotated[RateLimits, Depends(rate_limits)]
EmailsDep = Annotated[AccountEmails, Depends(emails)]
# Their names in 0.1, which work until 0.3.
gate, GateDep, letters, LettersDep = rate_limits, RateLimitsDep, emails, EmailsDep


async def auth_service(connection: HTTPConnection) -> AuthService:
    """Builds the service in one dependency instead of four, since every request with a token needs it."""
    state = connection.app.state
    return AuthService(state.settings, state.database, await passwords(connection), await rate_limits(connection))


async def user_service(
    settings: SettingsDep, database: DatabaseDep, passwords: PasswordsDep, emails: EmailsDep
) -> UserService:
    return UserService(settings, database, passwords, emails)


Auth = Annotated[AuthService, Depends(auth_service)]
Users = Annotated[UserService, Depends(user_service)]
Token = Annotated[str | None, Depends(bearer)]


async def optional_user(token: Token, auth: Auth) -> Principal | None:
    """Returns None without a token. Raises Unauthenticated when the token is not valid, and TooManyRequests."""
    if not token:
        return None
    user = await auth.identify(token)
    note_user(user.id)
    await auth.rate_limits.request(user.id)
    return user


OptionalUser = Annotated[Principal | None, Depends(optional_user)]


async def session_user(user: OptionalUser) -> Principal:
    """Requires a person who has logged in, for what no API key may do. Raises Unauthenticated, SessionRequired."""
    user = signed_in(user)
    if user.scopes is not None:
        raise SessionRequired("An API key cannot do this; log in.")
    return user


async def known_user(connection: HTTPConnection, user: OptionalUser) -> Principal:
    """Requires a caller, verified or not; an API key needs the path's tag among its scopes, or `read` for a GET."""
    return within_scopes(signed_in(user), scopes_of(connection))


async def current_user(connection: HTTPConnection, user: OptionalUser) -> Principal:
    return verified(await known_user(connection, user), connection.app.state.settings)


KnownUser = Annotated[Principal, Depends(known_user)]
CurrentUser = Annotated[Principal, Depends(current_user)]


async def spending_user(connection: HTTPConnection, user: CurrentUser) -> Principal:
    """Requires the path's tag among an API key's scopes even for a GET, since `read` does not allow what is charged."""
    return within_scopes(user, spending_scopes_of(connection))


SessionUser = Annotated[Principal, Depends(session_user)]
SpendingUser = Annotated[Principal, Depends(spending_user)]


async def superuser(user: SessionUser, settings: SettingsDep) -> Principal:
    if not verified(user, settings).is_superuser:
        raise Forbidden("Only superusers may do this.")
    return user


Superuser = Annotated[Principal, Depends(superuser)]


def signed_in(user: Principal | None) -> Principal:
    if user is None:
        raise Unauthenticated("A bearer token is required.")
    return user


def verified(user: Principal, settings: Settings) -> Principal:
    if settings.verified_email_required and not user.email_verified:
        raise EmailNotVerified("Confirm your e-mail address first; POST /auth/email/resend sends the e-mail again.")
    return user


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="A request that is repeated with the same key takes effect once, and gets the same answer",
    ),
]
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[UUID | None, Query(description="`next_cursor` of the previous page")]
