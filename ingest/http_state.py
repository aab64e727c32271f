"""Policy and routing state over HTTP."""

from __future__ import annotations

import json
import logging
from typing import Annotated, cast

from fastapi import APIRouter, Body, Depends, Query, Request

from ingest.http_body import StrictRoute
from ingest.http_context import Access, HttpContext, actor_of
from ingest.http_models import (
    CalibrationDocument,
    JudgeBound,
    PolicyChange,
    PolicyDocument,
    PolicyValue,
    RollbackBody,
    RollbackDone,
    StateDocument,
    StateSummary,
    WaitingDocument,
    plain,
)
from ingest.http_openapi import admin_only, errors, open_on_loopback
from ingest.keys import Scope
from judge.audit_report import bound_in_force
from judge.error import Bound
from recalibrate import words
from recalibrate.supply import waiting
from store.errors import NotFound, SettingsInvalid
from store.ledger import Transaction
from store.policy import PolicySettings
from store.records import ExpertStatus

log = logging.getLogger(__name__)


class StateRoutes:
    """``/v1/policy`` and ``/v1/state``."""

    def __init__(self, context: HttpContext, access: Access) -> None:
        self._context = context
        self._access = access

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(route_class=StrictRoute, tags=["state"])
        changes = errors(400, 401, 403, 404, 409, 413, 415, 422, 503)
        router.add_api_route(
            "/v1/policy",
            self.policy,
            methods=["GET"],
            responses=errors(401, 403, 404, 503),
            openapi_extra=open_on_loopback(),
        )
        router.add_api_route(
            "/v1/policy",
            self.change_policy,
            methods=["PATCH"],
            responses=changes,
            dependencies=[Depends(self._access.admin)],
            openapi_extra=admin_only(),
        )
        router.add_api_route(
            "/v1/state",
            self.state,
            methods=["GET"],
            responses=errors(401, 403, 422, 503),
            openapi_extra=open_on_loopback(),
        )
        router.add_api_route(
            "/v1/state/rollback",
            self.roll_back,
            methods=["POST"],
            responses=changes,
            dependencies=[Depends(self._access.admin)],
            openapi_extra=admin_only(),
        )
        return router

    def policy(self, request: Request) -> PolicyDocument:
        """Return the operator's settings in force."""
        self._access.require(request, Scope.READ)
        with self._context.ledger.begin() as tx:
            version, settings = _current(tx)
        return _policy_document(version, settings)

    def change_policy(
        self, request: Request, body: Annotated[PolicyChange, Body()]
    ) -> PolicyDocument:
        """Change some settings; the others stay, all are checked together."""
        actor = actor_of(request)
        changes = {name: _text(value) for name, value in body.items()}
        with self._context.ledger.begin() as tx:
            before, settings = _current(tx)
            settings = settings.changed(changes)
            _check_reference(tx, settings)
            version = tx.policies.set(
                settings, actor=actor, now=self._context.clock.now(), after=before
            )
        log.info("policy.changed", extra={"version": version, "actor": actor, "names": [*changes]})
        return _policy_document(version, settings)

    def state(
        self, request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 20
    ) -> StateDocument:
        """Return the active routing state, its threshold and labels, and who serves it."""
        self._access.require(request, Scope.READ)
        with self._context.ledger.begin() as tx:
            history = tx.states.history(limit=limit)
            active = tx.states.active()
            acknowledged = tx.states.acknowledged(active.version) if active else {}
            calibrations = tx.states.calibrations(limit=1)
            current = tx.policies.current()
            found = bound_in_force(tx)
            missing = waiting(tx, now=self._context.clock.now())
        serving = cast("dict[str, object]", plain(self._context.live.describe()))
        newest = CalibrationDocument.model_validate(calibrations[0]) if calibrations else None
        return StateDocument(
            active=StateSummary.model_validate(active) if active else None,
            mode=current[1].mode if current else None,
            waiting=WaitingDocument.model_validate(missing) if missing else None,
            judge=_judge(found, current[1].alpha if current else None),
            acknowledged=acknowledged,
            replica=self._context.replica,
            serving_version=self._context.live.version(),
            serving=serving,
            last_calibration=newest,
            history=[StateSummary.model_validate(state) for state in history],
        )

    def roll_back(self, request: Request, body: RollbackBody) -> RollbackDone:
        """Publish a copy of an earlier state as the next version."""
        actor = actor_of(request)
        version = self._context.rollback(body.version, actor)
        log.warning("state.rolled_back", extra={"to": body.version, "actor": actor})
        return RollbackDone(version=version, copied_from=body.version)


def _judge(found: Bound | None, risk_target: float | None) -> JudgeBound | None:
    if found is None:
        return None
    return JudgeBound(
        judge_version=found.judge_version,
        truly_bad_audited=found.bad,
        truly_bad_needed=found.needed,
        e1=found.e1,
        e1_at_most=found.e1_at_most,
        true_risk_at_most=None if risk_target is None else found.true_risk(risk_target),
        text=words.true_risk(found, risk_target),
    )


def _current(tx: Transaction) -> tuple[int, PolicySettings]:
    current = tx.policies.current()
    if current is None:
        raise NotFound("no_policy", "no policy was set yet; run 'steersman policy set reference=…'")
    return current


def _check_reference(tx: Transaction, settings: PolicySettings) -> None:
    reference = tx.experts.find(settings.reference)
    if reference is None or reference.status in {ExpertStatus.PAUSED, ExpertStatus.RETIRED}:
        raise SettingsInvalid("reference must name an expert that is neither paused nor retired")


def _policy_document(version: int, settings: PolicySettings) -> PolicyDocument:
    values = cast("dict[str, PolicyValue]", settings.to_json())
    return PolicyDocument(version=version, settings=values)


def _text(value: PolicyValue) -> str:
    """Return a JSON value as the text an operator would have typed."""
    if isinstance(value, str):
        if not value.isprintable():
            raise SettingsInvalid("a setting must not contain control characters")
        return value
    return json.dumps(value)
