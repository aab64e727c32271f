"""Experts, judges and alerts over HTTP."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from ingest.expert_changes import declare, set_status
from ingest.http_body import StrictRoute
from ingest.http_context import Access, HttpContext, actor_of
from ingest.http_life import ExpertLife, life_of
from ingest.http_models import (
    AlertDocument,
    AlertList,
    ExpertBody,
    ExpertChange,
    ExpertDocument,
    ExpertList,
    JudgeDocument,
    JudgeList,
    plain,
)
from ingest.http_openapi import admin_only, errors, open_on_loopback
from ingest.keys import Scope
from judge.standing import standings
from recalibrate.joining import joining
from store.errors import NotFound
from store.records import Alert, AuditEntry, Expert, ExpertId, ExpertStatus

log = logging.getLogger(__name__)


class PoolRoutes:
    """``/v1/experts``, ``/v1/judges`` and ``/v1/alerts``."""

    def __init__(self, context: HttpContext, access: Access) -> None:
        self._context = context
        self._access = access

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(route_class=StrictRoute, tags=["pool"])
        router.add_api_route(
            "/v1/experts",
            self.show,
            methods=["GET"],
            responses=errors(401, 403, 503),
            openapi_extra=open_on_loopback(),
        )
        router.add_api_route(
            "/v1/experts",
            self.add,
            methods=["POST"],
            status_code=201,
            responses=errors(400, 401, 403, 409, 413, 415, 422, 503),
            dependencies=[Depends(self._access.admin)],
            openapi_extra=admin_only(),
        )
        router.add_api_route(
            "/v1/experts/{name:path}",
            self.life,
            methods=["GET"],
            responses=errors(401, 403, 404, 422, 503),
            openapi_extra=open_on_loopback(),
        )
        router.add_api_route(
            "/v1/experts/{name:path}",
            self.change,
            methods=["PATCH"],
            responses=errors(400, 401, 403, 404, 409, 413, 415, 422, 503),
            dependencies=[Depends(self._access.admin)],
            openapi_extra=admin_only(),
        )
        router.add_api_route(
            "/v1/judges",
            self.judges,
            methods=["GET"],
            responses=errors(401, 403, 503),
            openapi_extra=open_on_loopback(),
        )
        router.add_api_route(
            "/v1/alerts",
            self.alerts,
            methods=["GET"],
            responses=errors(401, 403, 422, 503),
            openapi_extra=open_on_loopback(),
        )
        return router

    def show(self, request: Request) -> ExpertList:
        """Return every expert, retired ones too."""
        self._access.require(request, Scope.READ)
        with self._context.ledger.begin() as tx:
            experts = tx.experts.all()
        return ExpertList(experts=[ExpertDocument.model_validate(expert) for expert in experts])

    def add(self, request: Request, body: ExpertBody) -> ExpertDocument:
        """Register an expert; it is described, shadowed and ramped before it is certified."""
        actor = actor_of(request)
        now = self._context.clock.now()
        expert = Expert(
            name=ExpertId(body.name),
            status=ExpertStatus.REGISTERED,
            price=body.price.to_price(),
            client=body.client.model_dump(exclude_none=True),
            added_at=now,
            status_changed_at=now,
            capabilities=body.capabilities.to_capabilities(),
        )
        detail = {"expert": body.name, **body.model_dump(mode="json", exclude_none=True)}
        with self._context.ledger.begin() as tx:
            tx.experts.add(expert)
            tx.operations.audit(
                AuditEntry(actor=actor, action="expert.added", detail=detail, at=now)
            )
        log.info("expert.added", extra={"expert": body.name, "actor": actor})
        return ExpertDocument.model_validate(expert)

    def life(self, request: Request, name: str) -> ExpertLife:
        """Return one expert and how far it has come: times, labels, share, who serves it."""
        self._access.require(request, Scope.READ)
        now = self._context.clock.now()
        with self._context.ledger.begin() as tx:
            expert = tx.experts.find(ExpertId(name))
            if expert is None:
                raise NotFound("unknown_expert", "there is no expert of that name", field="name")
            return life_of(joining(tx, expert, now=now))

    def change(self, request: Request, name: str, body: ExpertChange) -> ExpertDocument:
        """Change an expert's price or what it can do, or pause, shadow or retire it."""
        actor = actor_of(request)
        expert_id = ExpertId(name)
        with self._context.ledger.begin() as tx:
            before = tx.experts.find(expert_id)
            if before is None:
                raise NotFound("unknown_expert", "there is no expert of that name", field="name")
            if body.price is not None:
                tx.experts.set_price(expert_id, body.price.to_price())
            if body.capabilities is not None:
                declare(tx, before, body.capabilities.to_capabilities())
            now = self._context.clock.now()
            if body.status is not None and (before.is_failing or body.status != before.status):
                set_status(tx, before, ExpertStatus(body.status), now=now)
            detail = {"expert": name, **body.model_dump(mode="json", exclude_none=True)}
            tx.operations.audit(
                AuditEntry(actor=actor, action="expert.changed", detail=detail, at=now)
            )
            after = tx.experts.find(expert_id)
        log.info("expert.changed", extra={"expert": name, "actor": actor, "status": body.status})
        return ExpertDocument.model_validate(after)

    def judges(self, request: Request) -> JudgeList:
        """Return how every judge version stands: labels, last canaries, quarantine."""
        self._access.require(request, Scope.READ)
        with self._context.ledger.begin() as tx:
            found = standings(tx, now=self._context.clock.now())
        return JudgeList(judges=[JudgeDocument.model_validate(one) for one in found])

    def alerts(
        self, request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> AlertList:
        """Return the newest alerts first."""
        self._access.require(request, Scope.READ)
        with self._context.ledger.begin() as tx:
            found = tx.operations.alerts(limit=limit)
        documents = [_document(alert) for alert in found]
        return AlertList(alerts=documents)


def _document(alert: Alert) -> AlertDocument:
    facts = {name: getattr(alert, name) for name in AlertDocument.model_fields}
    return AlertDocument.model_validate(facts | {"evidence": plain(alert.evidence)})
