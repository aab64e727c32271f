"""The HTTP interface: ``build_app(context)`` and the routes about the process itself.

http_routing.py  decisions and feedback      http_body.py     strict reading of bodies
http_pool.py     experts, judges, alerts     http_errors.py   one shape for every error
http_state.py    policy and routing state    http_models.py   bodies and documents
http_serve.py    uvicorn                     http_openapi.py  the rest of the document
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from ingest.batcher import MicroBatcher
from ingest.http_body import StrictRoute
from ingest.http_context import Access, HttpContext, Live
from ingest.http_errors import ErrorHandlers, LastResort, error_response
from ingest.http_models import Health, Ready
from ingest.http_openapi import TITLE, describe_keys, errors
from ingest.http_pool import PoolRoutes
from ingest.http_routing import RoutingRoutes
from ingest.http_state import StateRoutes
from ingest.keys import refuse_unprotected
from ingest.metrics import CONTENT_TYPE
from store.errors import StoreUnavailable

__all__ = ["HttpContext", "Live", "build_app"]

ENVELOPE_BYTES = 64 * 1024
LONGEST_ESCAPE = 6
"""JSON may spell one byte of text as ``\\u0041``."""


def build_app(context: HttpContext) -> FastAPI:
    """Return the application; its lifespan runs the micro-batcher.

    Raises
    ------
    SettingsInvalid
        The address is reachable by others and there is no API key yet.
    """
    refuse_unprotected(context.ledger, context.settings)
    batcher = MicroBatcher(context.handler)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = context.settings.threads
        with batcher:
            yield

    app = FastAPI(
        title=TITLE,
        version=_version(),
        lifespan=lifespan,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.max_body_bytes = LONGEST_ESCAPE * context.settings.max_prompt_bytes + ENVELOPE_BYTES
    access = Access(context)
    routers = (
        RoutingRoutes(context, access, batcher).router(),
        PoolRoutes(context, access).router(),
        StateRoutes(context, access).router(),
        _ProcessRoutes(context).router(),
    )
    for router in routers:
        app.include_router(router)
    routes = [one for router in routers for one in router.routes if isinstance(one, APIRoute)]
    ErrorHandlers(context.metrics, routes).install(app)
    app.add_middleware(LastResort)
    describe_keys(app)
    return app


class _ProcessRoutes:
    """``/health``, ``/ready`` and ``/metrics``: without a key, because probes have none."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context

    def router(self) -> APIRouter:
        router = APIRouter(route_class=StrictRoute, tags=["process"])
        router.add_api_route("/health", self.health, methods=["GET"], responses=errors())
        router.add_api_route(
            "/ready",
            self.ready,
            methods=["GET"],
            response_model=Ready,
            responses=errors(503),
        )
        text: dict[str, object] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
        router.add_api_route(
            "/metrics",
            self.metrics,
            methods=["GET"],
            response_class=Response,
            responses={**errors(), 200: text},
        )
        return router

    def health(self) -> Health:
        """Say that the process is alive."""
        return Health(replica=self._context.replica)

    def ready(self) -> Response:
        """Say whether decisions can be made: 503 until a routing state is loaded."""
        loaded = self._context.live.version()
        if loaded == 0:
            return error_response(503, "no_state", "no routing state is loaded yet")
        return JSONResponse(Ready(state_version=loaded).model_dump())

    def metrics(self) -> Response:
        """Return Prometheus metrics; the ledger's figures stay as they were while it is away."""
        metrics = self._context.metrics
        metrics.set("state_version", self._context.live.version())
        try:
            with self._context.ledger.begin() as tx:
                metrics.observe_ledger(tx, now=self._context.clock.now())
        except StoreUnavailable:
            metrics.count("scrapes_without_ledger")
        return Response(metrics.render(), media_type=CONTENT_TYPE)


def _version() -> str:
    try:
        return version("steersman")
    except PackageNotFoundError:  # run from a checkout
        return "0"
