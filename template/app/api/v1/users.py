from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from app.api.deps import Cursor, DatabaseDep, KnownUser, Limit, SessionUser, Superuser, Users
from app.models.user import User
from app.repositories.base import Page
from app.repositories.principal import Principal
from app.schemas.base import PageRead, Text
from app.schemas.user import UserAdminUpdate, UserRead, UserUpdate
from app.services.accounts.account import AccountService

router = APIRouter(prefix="/users", tags=["users"])

EXPORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object", "additionalProperties": {"type": "array"}}}}}
}
Search = Annotated[Text | None, Query(max_length=100, description="Part of an address or a name")]


async def account_service(database: DatabaseDep, user: SessionUser) -> AccountService:
    return AccountService(database, user)


Account = Annotated[AccountService, Depends(account_service)]


@router.get("/me", response_model=UserRead)
async def read_me(user: KnownUser) -> Principal:
    return user


@router.patch("/me", response_model=UserRead)
async def update_me(data: UserUpdate, account: Account) -> User:
    """Changes the fields that are sent."""
    return await account.update(data)


@router.delete("/me", status_code=204)
async def delete_me(account: Account) -> None:
    """Deletes the account and everything that belongs to it, permanently."""
    await account.delete()


@router.get("/me/export", response_class=StreamingResponse, responses=EXPORT)
async def export_me(account: Account) -> StreamingResponse:
    """Exports everything that is stored about the caller, table by table, without hashes of passwords and tokens."""
    headers = {"Content-Disposition": 'attachment; filename="export.json"'}
    return StreamingResponse(account.export(), media_type="application/json", headers=headers)


@router.get("", response_model=PageRead[UserRead])
async def list_users(
    _: Superuser, users: Users, search: Search = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[User]:
    """Lists accounts, for superusers."""
    return await users.list(search, limit, cursor)


@router.get("/{user_id}", response_model=UserRead)
async def read_user(user_id: UUID, _: Superuser, users: Users) -> User:
    """Returns an account, for superusers."""
    return await users.get(user_id)


@router.patch("/{user_id}", response_model=UserRead)
async def update_user(user_id: UUID, data: UserAdminUpdate, user: Superuser, users: Users) -> User:
    """Activates or deactivates an account, or changes who is a superuser, at once. For superusers."""
    return await users.update(user_id, data, user)
