from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.api.deps import Cursor, KnownUser, Limit, Superuser, Users
from app.models.user import User
from app.repositories.base import Page
from app.repositories.user import Principal
from app.schemas.base import PageRead, Text
from app.schemas.user import UserAdminUpdate, UserRead

router = APIRouter(prefix="/users", tags=["users"])

Search = Annotated[Text | None, Query(max_length=100, description="Part of an address or a name")]


@router.get("/me", response_model=UserRead)
async def read_me(user: KnownUser) -> Principal:
    return user


@router.get("", response_model=PageRead[UserRead])
async def list_users(
    _: Superuser, users: Users, search: Search = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[User]:
    """For superusers."""
    return await users.list(search, limit, cursor)


@router.get("/{user_id}", response_model=UserRead)
async def read_user(user_id: UUID, _: Superuser, users: Users) -> User:
    """For superusers."""
    return await users.get(user_id)


@router.patch("/{user_id}", response_model=UserRead)
async def update_user(user_id: UUID, data: UserAdminUpdate, user: Superuser, users: Users) -> User:
    """For superusers: activate, deactivate, and who else is a superuser. It takes effect at once."""
    return await users.update(user_id, data, user)
