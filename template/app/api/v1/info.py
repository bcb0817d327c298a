from fastapi import APIRouter, Request

from app.api.deps import OptionalUser, SettingsDep
from app.schemas.info import InfoRead
from app.schemas.user import UserRead

router = APIRouter(prefix="/info", tags=["info"])


@router.get("")
async def info(request: Request, settings: SettingsDep, user: OptionalUser) -> InfoRead:
    """Describes the service and its limits; with a token also the caller, unless it is an API key without `read`."""
    state = request.app.state
    return InfoRead(
        name=settings.app_name,
        version=request.app.version,
        features=sorted(state.features),
        limits=state.limits | {"body_bytes": settings.max_body_bytes},
        models=list(state.ai.models),
        user=UserRead.model_validate(user) if user and user.may_read else None,
    )
