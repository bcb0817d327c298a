from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from app.api.deps import Cursor, DatabaseDep, Limit, SessionUser
from app.models.user import ApiKey
from app.repositories.base import Page
from app.schemas.api_key import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from app.schemas.base import PageRead
from app.services.accounts.api_keys import ApiKeyService

router = APIRouter(prefix="/auth/api-keys", tags=["auth"])


async def api_key_service(request: Request, database: DatabaseDep, user: SessionUser) -> ApiKeyService:
    return ApiKeyService(database, request.app.state.scopes, user)


ApiKeys = Annotated[ApiKeyService, Depends(api_key_service)]


@router.post("", status_code=201)
async def create_api_key(data: ApiKeyCreate, keys: ApiKeys) -> ApiKeyCreated:
    """Creates a bearer token for programs. The key itself is in this answer only."""
    return await keys.create(data)


@router.get("", response_model=PageRead[ApiKeyRead])
async def list_api_keys(keys: ApiKeys, limit: Limit = 50, cursor: Cursor = None) -> Page[ApiKey]:
    return await keys.list(limit, cursor)


@router.delete("/{api_key_id}", status_code=204)
async def delete_api_key(api_key_id: UUID, keys: ApiKeys) -> None:
    await keys.delete(api_key_id)
