from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.security import OAuth2PasswordRequestForm

from app.api.deps import Auth, DatabaseDep, PasswordsDep
from app.models.user import User
from app.schemas.user import AccessToken, UserCreate, UserRead
from app.services.users import UserService

router = APIRouter(prefix="/auth", tags=["auth"])


def user_service(database: DatabaseDep, passwords: PasswordsDep) -> UserService:
    return UserService(database, passwords)


Users = Annotated[UserService, Depends(user_service)]


@router.post("/register", status_code=201, response_model=UserRead)
async def register(data: UserCreate, users: Users) -> User:
    return await users.create(data)


@router.post("/login")
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    auth: Auth,
    user_agent: Annotated[str | None, Header()] = None,
) -> AccessToken:
    return await auth.login(form.username, form.password, user_agent)
