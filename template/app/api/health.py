import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

CHECK_SECONDS = 2.0

log = structlog.stdlib.get_logger("app.health")


@dataclass(frozen=True, slots=True)
class Check:
    """Probes a part of the service for /health/ready; a part that is not `required` is shown but never fails it."""

    probe: Callable[[], Awaitable[object]]
    required: bool = True


class Readiness(BaseModel):
    status: Literal["ready", "unavailable"]
    checks: dict[str, Literal["ok", "down"]]


class LivenessProbe:
    """Answers /health before any other middleware: a probe every second is neither logged nor counted."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._paths = {"/health", f"{root_path}/health"}
        self._answer = JSONResponse({"status": "healthy"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in self._paths:
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Tells whether a request is a health probe, which telemetry leaves out."""
    return scope.get("path", "").startswith("/health")


router = APIRouter(prefix="/health", tags=["health"])


@router.get("/ready", responses={503: {"model": Readiness}})
async def ready(request: Request, response: Response) -> Readiness:
    """Tells whether this server should get traffic: 503 while a required part is down."""
    checks: dict[str, Check] = request.app.state.checks
    works = dict(zip(checks, await asyncio.gather(*map(_works, checks, checks.values())), strict=True))
    if all(works[name] for name, check in checks.items() if check.required):
        status = "ready"
    else:
        status, response.status_code = "unavailable", 503
    return Readiness(status=status, checks={name: "ok" if fine else "down" for name, fine in works.items()})


async def _works(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check.probe()
    except Exception as error:
        log.warning("readiness check failed", part=name, error=type(error).__name__)
        return False
    return True
