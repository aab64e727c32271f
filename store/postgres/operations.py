"""Policies, alerts, budgets, feedback, keys and audit on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.dialects.postgresql import insert

from store.errors import NotFound
from store.newer import known_or_newer
from store.policy import PolicySettings, check_not_changed
from store.postgres import locks
from store.postgres.notify import announce
from store.postgres.rows import utc
from store.postgres.tables import (
    alerts,
    api_keys,
    audit,
    budgets,
    decision_conflicts,
    policies,
    request_keys,
)
from store.postgres.tables import (
    feedback as held_feedback,
)
from store.records import Alert, AlertKind, ApiKey, AuditEntry, Feedback, RequestId
from store.served import Period


class PostgresPolicies:
    """``store.ledger.Policies``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def current(self) -> tuple[int, PolicySettings] | None:
        newest = select(policies).order_by(policies.c.version.desc()).limit(1)
        row = self._connection.execute(newest).mappings().one_or_none()
        if row is None:
            return None
        return row["version"], PolicySettings.from_json(row["settings"])

    def set(
        self, settings: PolicySettings, *, actor: str, now: datetime, after: int | None = None
    ) -> int:
        # Two operators at once get two versions.
        self._connection.execute(select(func.pg_advisory_xact_lock(locks.POLICY)))
        newest = select(func.coalesce(func.max(policies.c.version), 0))
        before = self._connection.scalar(newest) or 0
        check_not_changed(before, after)
        version = before + 1
        stored = settings.to_json()
        row = {"version": version, "settings": stored, "actor": actor, "set_at": now}
        self._connection.execute(insert(policies).values(row))
        detail: dict[str, object] = {"version": version, "settings": stored}
        entry = AuditEntry(actor=actor, action="policy.set", detail=detail, at=now)
        PostgresOperations(self._connection).audit(entry)
        announce(self._connection, "policy")
        return version


_FIRST_KINDS = frozenset(
    {
        AlertKind.EXPERT_REGRESSION,
        AlertKind.LABEL_STARVATION,
        AlertKind.STATE_REFUSED,
        AlertKind.PARTITION_MISSING,
    }
)
"""Those that every version can read. The program before migration 0002 stops at another one, so a
newer kind stands in a column of its own, and under the nearest that it knows in the old one."""


class PostgresOperations:
    """``store.ledger.Operations``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def raise_alert(self, alert: Alert) -> Alert:
        added = insert(alerts).values(
            kind=alert.kind if alert.kind in _FIRST_KINDS else AlertKind.EXPERT_REGRESSION,
            newer_kind=None if alert.kind in _FIRST_KINDS else alert.kind,
            subject=alert.subject,
            message=alert.message,
            guarantee=alert.guarantee,
            evidence=dict(alert.evidence),
            raised_at=alert.raised_at,
        )
        return replace(alert, alert_id=self._connection.scalar(added.returning(alerts.c.alert_id)))

    def alerts(self, *, limit: int, kind: AlertKind | None = None) -> list[Alert]:
        newest = select(alerts).order_by(alerts.c.alert_id.desc()).limit(limit)
        if kind is not None:
            newest = newest.where(func.coalesce(alerts.c.newer_kind, alerts.c.kind) == kind)
        return self._alerts(newest)

    def alerts_in(self, period: Period) -> list[Alert]:
        at = alerts.c.raised_at
        inside = select(alerts).where(at >= period.since, at < period.until)
        return self._alerts(inside.order_by(alerts.c.alert_id))

    def _alerts(self, chosen: Select[Any]) -> list[Alert]:
        return [
            Alert(
                kind=known_or_newer(AlertKind, row["newer_kind"] or row["kind"]),
                subject=row["subject"],
                message=row["message"],
                guarantee=row["guarantee"],
                evidence=row["evidence"],
                raised_at=utc(row["raised_at"]),
                alert_id=row["alert_id"],
            )
            for row in self._connection.execute(chosen).mappings()
        ]

    def reserve(self, kind: str, *, day: str, amount: int, limit: int) -> int:
        held = budgets.c
        granted = func.greatest(0, func.least(amount, limit - held.used))
        first = max(0, min(amount, limit))
        taken = (
            insert(budgets)
            .values(kind=kind, day=day, used=first, granted=first)
            .on_conflict_do_update(
                index_elements=[held.kind, held.day],
                set_={"used": held.used + granted, "granted": granted},
            )
            .returning(held.granted)
        )
        return self._connection.scalar(taken) or 0

    def record_feedback(self, feedback: Feedback) -> bool:
        known = select(1).where(request_keys.c.request_id == feedback.request_id)
        if self._connection.scalar(known) is None:
            raise NotFound("unknown_request", f"there is no decision {feedback.request_id}")
        added = (
            insert(held_feedback)
            .values(
                idempotency_key=feedback.idempotency_key,
                request_id=feedback.request_id,
                rating=feedback.rating,
                source=feedback.source,
                received_at=feedback.received_at,
                comment=feedback.comment,
            )
            .on_conflict_do_nothing()
            .returning(held_feedback.c.idempotency_key)
        )
        return self._connection.scalar(added) is not None

    def add_key(self, key: ApiKey) -> None:
        row = {
            "key_hash": key.key_hash,
            "name": key.name,
            "scopes": list(key.scopes),
            "created_at": key.created_at,
        }
        self._connection.execute(insert(api_keys).values(row).on_conflict_do_nothing())

    def find_key(self, key_hash: str) -> ApiKey | None:
        found = select(api_keys).where(api_keys.c.key_hash == key_hash)
        row = self._connection.execute(found).mappings().one_or_none()
        if row is None:
            return None
        return ApiKey(
            key_hash=row["key_hash"],
            name=row["name"],
            scopes=tuple(row["scopes"]),
            created_at=utc(row["created_at"]),
        )

    def record_conflict(self, request_id: RequestId, detail: str, *, now: datetime) -> None:
        row = {"request_id": request_id, "detail": detail, "noted_at": now}
        self._connection.execute(insert(decision_conflicts).values(row))

    def audit(self, entry: AuditEntry) -> None:
        row = {"actor": entry.actor, "action": entry.action, "detail": dict(entry.detail)}
        self._connection.execute(insert(audit).values(row | {"at": entry.at}))

    def audit_trail(self, *, limit: int) -> list[AuditEntry]:
        newest = select(audit).order_by(audit.c.entry_id.desc()).limit(limit)
        return [
            AuditEntry(
                actor=row["actor"], action=row["action"], detail=row["detail"], at=utc(row["at"])
            )
            for row in self._connection.execute(newest).mappings()
        ]
