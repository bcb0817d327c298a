from fastapi import APIRouter

from app.api.deps import CurrentUser
from app.repositories.user import Principal
from app.schemas.user import UserRead

router = APIRouter(prefix="/users", tags=["users"])


@router.get("/me", response_model=UserRead)
async def read_me(user: CurrentUser) -> Principal:
    return user
