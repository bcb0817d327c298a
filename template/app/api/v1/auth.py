from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.security import OAuth2PasswordRequestForm

from app.api.deps import Auth, CurrentUser, Cursor, DatabaseDep, Limit, PasswordsDep, Users
from app.models.user import User
from app.schemas.base import PageRead
from app.schemas.user import PasswordChange, RefreshBody, SessionRead, Tokens, UserCreate, UserRead
from app.services.passwords import PasswordService
from app.services.sessions import SessionService

router = APIRouter(prefix="/auth", tags=["auth"])


def password_service(database: DatabaseDep, passwords: PasswordsDep) -> PasswordService:
    return PasswordService(database, passwords)


def session_service(database: DatabaseDep, user: CurrentUser) -> SessionService:
    return SessionService(database, user)


PasswordsOf = Annotated[PasswordService, Depends(password_service)]
Sessions = Annotated[SessionService, Depends(session_service)]


@router.post("/register", status_code=201, response_model=UserRead)
async def register(data: UserCreate, users: Users) -> User:
    return await users.register(data)


@router.post("/login")
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    auth: Auth,
    user_agent: Annotated[str | None, Header()] = None,
) -> Tokens:
    return await auth.login(form.username, form.password, user_agent)


@router.post("/refresh")
async def refresh(data: RefreshBody, auth: Auth) -> Tokens:
    """A new pair of tokens. The code `refresh_superseded` says that another request was faster: go on with its answer.

    A token that was replaced longer ago is taken for stolen, and ends the session.
    """
    return await auth.refresh(data.refresh_token)


@router.post("/logout", status_code=204)
async def logout(user: CurrentUser, sessions: Sessions) -> None:
    """Ends the session that asks; its access and refresh tokens are void at once."""
    await sessions.end(user.credential_id)


@router.get("/sessions")
async def list_sessions(sessions: Sessions, limit: Limit = 50, cursor: Cursor = None) -> PageRead[SessionRead]:
    return await sessions.list(limit, cursor)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, sessions: Sessions) -> None:
    await sessions.end(session_id)


@router.post("/password/change", status_code=204)
async def change_password(data: PasswordChange, user: CurrentUser, service: PasswordsOf) -> None:
    """Ends one's other sessions."""
    await service.change(user, data)
