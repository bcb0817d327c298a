from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from app import __version__
from app.api.errors import ProblemMiddleware, add_error_handlers, tell_problem
from app.api.health import Check, LivenessProbe, is_probe
from app.api.health import router as health_router
from app.api.json_limit import JsonLimit
from app.api.openapi import complete_openapi
from app.api.routers import find_error_formats, find_modules, find_value_limits, include_routers
from app.api.scopes import grantable_scopes
from app.api.worker import router as worker_router
from app.core.concurrency import open_concurrency_limit
from app.core.config import Settings
from app.core.database import open_database, open_reserved
from app.core.middleware import (
    REQUEST_ID_HEADER,
    CookieLimit,
    HeadRequests,
    PlainStartupErrors,
    RequestContext,
    RootPath,
    SecurityHeaders,
)
from app.core.migrations import check_migrations, has_all_migrations, report_lacking
from app.core.periodic import Supervisor
from app.core.rate_limits import RateLimiter
from app.core.redis import open_redis, ping
from app.core.security import Passwords
from app.core.shutdown import open_shutdown
from app.core.streams.factory import open_streams
from app.core.telemetry.setup import open_telemetry
from app.jobs import jobs
from app.models.base import Base
from app.services.ai.registry import open_gateway
from app.services.email.mailer import Outbox
from app.services.email.messages import AccountEmails
from app.services.jobs.worker import JobWorker
from app.services.processes.heartbeat import BEAT_TIMEOUT, SINGLE_SERVER_ADVICE, open_heartbeat
from app.services.usage.budgets import open_budgets

_v1, _protocols = find_modules("v1"), find_modules("protocols")


def create_app(settings: Settings, *, is_server: bool = False) -> FastAPI:
    """Creates the application. A server, unlike a command, must be the only one on its database without REDIS_URL."""
    local = settings.environment == "local"
    app = FastAPI(
        title=settings.app_name,
        description=settings.app_description,
        version=__version__,
        lifespan=lifespan,
        docs_url="/docs" if local else None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the host, and behind a proxy the scheme, that the client sent
        openapi_url="/openapi.json" if local else None,
        # The framework's logs would quote errors. `open_telemetry` decides whether anything is sent, and where to.
        telemetry={"logs": False, "operation_spans": False, "auto_configure": False, "exclude": is_probe},
    )
    app.state.settings, app.state.is_server = settings, is_server
    app.state.scopes = grantable_scopes(module.router for module in [*_v1, *_protocols])
    app.state.error_formats = {**find_error_formats(_protocols), settings.api_v1_prefix: tell_problem}
    app.state.value_limits = {**find_value_limits(_v1, settings.api_v1_prefix), **find_value_limits(_protocols, "")}
    app.include_router(health_router, max_body_size=settings.max_body_bytes)
    include_routers(app, _v1, settings.api_v1_prefix, settings.max_body_bytes)
    include_routers(app, _protocols, "", settings.max_body_bytes)
    app.include_router(worker_router)
    complete_openapi(app, settings.root_path + settings.api_v1_prefix)
    add_error_handlers(app)
    _add_middleware(app, settings)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Opens what the whole application shares. A router's lifespan, inside this one, opens what its feature needs."""
    state, settings = app.state, app.state.settings
    state.supervisor = supervisor = Supervisor()
    async with (
        open_telemetry(settings) as state.telemetry,
        open_shutdown(settings.shutdown_grace_seconds, is_server=state.is_server) as state.shutdown,
        open_database(settings) as state.database,
        open_gateway(settings, state.telemetry) as state.ai,
        open_redis(settings) as state.redis,
        nullcontext(RateLimiter(state.redis, settings.redis_prefix)) as state.rate_limiter,
        nullcontext(Outbox(settings, state.rate_limiter)) as state.outbox,
        open_streams(settings) as state.streams,
    ):
        if getattr(state, "is_developed", False):
            await report_lacking(state.database, Base.metadata.tables)
        else:
            await check_migrations(state.database)
        state.passwords = Passwords(settings)
        state.emails = AccountEmails(settings, state.database, state.outbox)
        state.budgets = open_budgets(settings)
        state.checks = {
            "database": Check(partial(has_all_migrations, state.database)),
            "background": Check(supervisor.check),
        }
        if state.redis is not None:
            state.checks["redis"] = Check(partial(ping, state.redis))
        state.features, state.limits = [], {}
        # Commands never run jobs, and workers always do.
        state.runs_jobs = state.is_server and getattr(state, "is_worker", settings.worker_in_server)
        alone = getattr(state, "alone", "" if settings.redis_url else SINGLE_SERVER_ADVICE)
        async with (
            open_reserved(state.database, settings, BEAT_TIMEOUT) as reserved,
            open_heartbeat(reserved, supervisor, is_server=state.is_server, alone=alone) as state.heartbeat,
            open_concurrency_limit(
                state.redis, f"{settings.redis_prefix}:sockets", settings.sockets_per_user
            ) as state.sockets,
        ):
            state.worker = JobWorker(jobs, settings, state)
            state.checks["worker"] = Check(state.heartbeat.check_worker, required=False)
            yield


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Adds the middleware, of which the last one added sees a request first."""
    app.add_middleware(HeadRequests)
    app.add_middleware(RootPath, root_path=settings.root_path)
    app.add_middleware(JsonLimit)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.trusted_hosts, www_redirect=False)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["*"],
        allow_headers=["*"],
        allow_credentials=True,
        expose_headers=[REQUEST_ID_HEADER, "Location", "Retry-After", "X-Should-Retry"],
    )
    app.add_middleware(SecurityHeaders, strict=settings.environment != "local")
    app.add_middleware(RequestContext)
    if settings.trusted_proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)
    app.add_middleware(CookieLimit)
    app.add_middleware(LivenessProbe, root_path=settings.root_path)
    app.add_middleware(PlainStartupErrors)
