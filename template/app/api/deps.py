"""Who is calling, and what the application holds for everyone."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query
from fastapi.requests import HTTPConnection
from fastapi.security import OAuth2PasswordBearer

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import EmailNotVerified, Forbidden, MissingScope, SessionRequired, Unauthenticated
from app.core.security import Passwords
from app.core.throttle import Gate
from app.repositories.user import Principal
from app.services.auth import AuthService
from app.services.letters import Letters
from app.services.users import UserService

bearer = OAuth2PasswordBearer("auth/login", refreshUrl="auth/refresh", scheme_name="bearer", auto_error=False)


def settings(connection: HTTPConnection) -> Settings:
    return connection.app.state.settings


def database(connection: HTTPConnection) -> Database:
    return connection.app.state.database


def passwords(connection: HTTPConnection) -> Passwords:
    return connection.app.state.passwords


def letters(connection: HTTPConnection) -> Letters:
    return connection.app.state.letters


def gate(connection: HTTPConnection) -> Gate:
    state = connection.app.state
    return Gate(state.throttle, state.settings, connection.client.host if connection.client else "")


SettingsDep = Annotated[Settings, Depends(settings)]
DatabaseDep = Annotated[Database, Depends(database)]
PasswordsDep = Annotated[Passwords, Depends(passwords)]
GateDep = Annotated[Gate, Depends(gate)]
LettersDep = Annotated[Letters, Depends(letters)]


def auth_service(settings: SettingsDep, database: DatabaseDep, passwords: PasswordsDep, gate: GateDep) -> AuthService:
    return AuthService(settings, database, passwords, gate)


def user_service(settings: SettingsDep, database: DatabaseDep, passwords: PasswordsDep) -> UserService:
    return UserService(settings, database, passwords)


Auth = Annotated[AuthService, Depends(auth_service)]
Users = Annotated[UserService, Depends(user_service)]
Token = Annotated[str | None, Depends(bearer)]


async def optional_user(token: Token, auth: Auth, gate: GateDep) -> Principal | None:
    """None without a token; a token that is there must be good."""
    if not token:
        return None
    user = await auth.identify(token)
    await gate.request(user.id)
    return user


OptionalUser = Annotated[Principal | None, Depends(optional_user)]


def signed_in(user: OptionalUser) -> Principal:
    if user is None:
        raise Unauthenticated("A bearer token is required.")
    return user


SignedIn = Annotated[Principal, Depends(signed_in)]


def session_user(user: SignedIn) -> Principal:
    """A person who has logged in: for what no API key may do."""
    if user.scopes is not None:
        raise SessionRequired("An API key cannot do this; log in.")
    return user


SessionUser = Annotated[Principal, Depends(session_user)]


def known_user(connection: HTTPConnection, user: SignedIn) -> Principal:
    """Who is calling, verified or not. An API key must have the path's tag among its scopes, or `read` for a GET."""
    if user.scopes is not None:
        tags: list[str] = getattr(connection.scope.get("route"), "tags", [])
        wanted = {*tags, "read"} if connection.scope.get("method") == "GET" else set(tags)
        if wanted.isdisjoint(user.scopes):
            raise MissingScope(f"This API key has none of the scopes {', '.join(sorted(wanted))}.")
    return user


KnownUser = Annotated[Principal, Depends(known_user)]


def current_user(user: KnownUser, settings: SettingsDep) -> Principal:
    if settings.verified_email_required and not user.email_verified:
        raise EmailNotVerified("Confirm your e-mail address first; POST /auth/email/resend sends the letter again.")
    return user


CurrentUser = Annotated[Principal, Depends(current_user)]


def superuser(user: SessionUser, _: CurrentUser) -> Principal:
    if not user.is_superuser:
        raise Forbidden("This is for superusers.")
    return user


Superuser = Annotated[Principal, Depends(superuser)]

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[UUID | None, Query(description="`next_cursor` of the page before")]
