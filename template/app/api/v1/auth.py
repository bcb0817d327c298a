from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.security import OAuth2PasswordRequestForm

from app.api.deps import (
    Auth,
    Cursor,
    DatabaseDep,
    EmailsDep,
    Limit,
    PasswordsDep,
    RateLimitsDep,
    SessionUser,
    SettingsDep,
    Users,
)
from app.models.user import User
from app.schemas.base import PageRead
from app.schemas.user import (
    EmailChange,
    EmailConfirmation,
    PasswordChange,
    PasswordForgotten,
    PasswordReset,
    RefreshBody,
    SessionRead,
    Tokens,
    UserCreate,
    UserRead,
)
from app.services.accounts.email_verification import EmailService
from app.services.accounts.passwords import PasswordService
from app.services.accounts.sessions import SessionService

FORM_BYTES = 65_536
"""Leaves ample room for two fields, and no more: a form is parsed in Python, a malicious one byte by byte."""

router = APIRouter(prefix="/auth", tags=["auth"])

KNOWN_DEVICE = "An access token of an earlier log-in, even expired: wrong guesses of others do not block this client"


async def password_service(
    settings: SettingsDep, database: DatabaseDep, passwords: PasswordsDep, emails: EmailsDep, rate_limits: RateLimitsDep
) -> PasswordService:
    return PasswordService(settings, database, passwords, emails, rate_limits)


async def email_service(
    settings: SettingsDep, database: DatabaseDep, passwords: PasswordsDep, emails: EmailsDep, rate_limits: RateLimitsDep
) -> EmailService:
    return EmailService(settings, database, passwords, emails, rate_limits)


async def session_service(database: DatabaseDep, user: SessionUser) -> SessionService:
    return SessionService(database, user)


PasswordsOf = Annotated[PasswordService, Depends(password_service)]
Emails = Annotated[EmailService, Depends(email_service)]
Sessions = Annotated[SessionService, Depends(session_service)]


@router.post("/register", status_code=201, response_model=UserRead)
async def register(data: UserCreate, users: Users, rate_limits: RateLimitsDep) -> User:
    await rate_limits.register()
    return await users.register(data)


@router.post("/login", max_body_size=FORM_BYTES)
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    auth: Auth,
    user_agent: Annotated[str | None, Header()] = None,
    previous_token: Annotated[str | None, Header(alias="X-Previous-Token", description=KNOWN_DEVICE)] = None,
) -> Tokens:
    return await auth.login(form.username, form.password, user_agent, previous_token)


@router.post("/refresh")
async def refresh(data: RefreshBody, auth: Auth) -> Tokens:
    """Replaces both tokens. The code `refresh_superseded` says that another request was faster: use its answer.

    A refresh token that was replaced more than 10 seconds ago is taken for stolen, and ends the session.
    """
    return await auth.refresh(data.refresh_token)


@router.post("/logout", status_code=204)
async def logout(user: SessionUser, sessions: Sessions) -> None:
    """Ends the session of this token; its access and refresh tokens are invalid at once."""
    await sessions.end(user.credential_id)


@router.get("/sessions")
async def list_sessions(sessions: Sessions, limit: Limit = 50, cursor: Cursor = None) -> PageRead[SessionRead]:
    return await sessions.list(limit, cursor)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, sessions: Sessions) -> None:
    await sessions.end(session_id)


@router.post("/password/change", status_code=204)
async def change_password(data: PasswordChange, user: SessionUser, service: PasswordsOf) -> None:
    """Changes the password and ends the person's other sessions."""
    await service.change(user, data)


@router.post("/password/forgot", status_code=202)
async def forgot_password(data: PasswordForgotten, service: PasswordsOf) -> None:
    """Mails a token for a new password to the account with this address, and does not tell whether there is one."""
    await service.forgot(data.email)


@router.post("/password/reset", status_code=204)
async def reset_password(data: PasswordReset, service: PasswordsOf) -> None:
    """Sets a new password with a mailed token, and ends every session and API key of the account."""
    await service.reset(data)


@router.post("/email/verify", status_code=204)
async def verify_email(data: EmailConfirmation, emails: Emails) -> None:
    """Confirms an address, the first one or a new one, with the token from the e-mail."""
    await emails.confirm(data.token)


@router.post("/email/resend", status_code=202)
async def resend_email(user: SessionUser, emails: Emails) -> None:
    """Sends the e-mail that confirms the address again, unless it is confirmed already."""
    await emails.resend(user)


@router.post("/email/change", status_code=202)
async def change_email(data: EmailChange, user: SessionUser, emails: Emails) -> None:
    """Mails a token to the new address, which replaces the old one once it is confirmed."""
    await emails.change(user, data)
