"""Experts, routing states, policies, the outbox and operations in memory."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from store.clock import Clock
from store.errors import NotFound, RequestConflict, StateSuperseded
from store.health import Health
from store.lives import Step
from store.memory_tables import HeldMessage, Journal
from store.needs import Capabilities
from store.policy import PolicySettings, check_not_changed
from store.records import (
    Alert,
    AlertKind,
    ApiKey,
    AuditEntry,
    Baseline,
    Calibration,
    Expert,
    ExpertId,
    ExpertStatus,
    Feedback,
    OutboxMessage,
    Price,
    RequestId,
    RoutingStateRecord,
)
from store.served import Period
from store.transitions import check_expert


class MemoryExperts:
    """``store.ledger.Experts``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held = journal.tables.experts

    def _put(self, expert: Expert) -> None:
        self._journal.put(self._held, expert.name, expert)
        self._journal.heard.add("policy")

    def _stepped(self, expert: Expert) -> None:
        """Put an expert whose status is new."""
        self._put(expert)
        step = Step(expert.status, expert.status_changed_at)
        self._journal.append(self._journal.tables.steps, (expert.name, step))

    def add(self, expert: Expert) -> None:
        if expert.name in self._held:
            raise RequestConflict("expert_exists", f"expert {expert.name} exists already")
        self._stepped(expert)

    def find(self, name: ExpertId) -> Expert | None:
        return self._held.get(name)

    def all(self) -> list[Expert]:
        return sorted(self._held.values(), key=lambda expert: (expert.added_at, expert.name))

    def set_status(
        self, name: ExpertId, *, before: ExpertStatus, after: ExpertStatus, now: datetime
    ) -> bool:
        check_expert(before, after)
        expert = self._held.get(name)
        if expert is None or expert.status is not before:
            return False
        self._stepped(replace(expert, status=after, status_changed_at=now))
        return True

    def set_price(self, name: ExpertId, price: Price) -> None:
        self._put(replace(self._known(name), price=price))

    def set_client(self, name: ExpertId, client: Mapping[str, str]) -> None:
        self._put(replace(self._known(name), client=dict(client)))

    def set_capabilities(self, name: ExpertId, capabilities: Capabilities) -> None:
        self._put(replace(self._known(name), capabilities=capabilities))

    def set_health(self, name: ExpertId, *, before: Health, after: Health) -> bool:
        expert = self._held.get(name)
        if expert is None or expert.health != before:
            return False
        self._put(replace(expert, health=after))
        return True

    def recover(self, expert: Expert, *, health: Health, now: datetime) -> bool:
        held = self._held.get(expert.name)
        if held is None or not held.is_failing or held.health != expert.health:
            return False
        status = ExpertStatus(expert.health.was)
        self._stepped(replace(held, status=status, status_changed_at=now, health=health))
        return True

    def set_baseline(self, name: ExpertId, baseline: Baseline) -> None:
        self._put(replace(self._known(name), baseline=baseline))

    def _known(self, name: ExpertId) -> Expert:
        if (expert := self._held.get(name)) is None:
            raise NotFound("unknown_expert", f"there is no expert {name}")
        return expert


class MemoryStates:
    """``store.ledger.States``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def publish(self, candidate: RoutingStateRecord) -> None:
        active = self.active_version()
        if candidate.parent != active or candidate.version != active + 1:
            raise StateSuperseded(expected=candidate.parent, active=active)
        self._journal.put(self._tables.states, candidate.version, candidate)
        self._journal.heard.add("state")

    def active(self) -> RoutingStateRecord | None:
        return self._tables.states.get(self.active_version())

    def active_version(self) -> int:
        return max(self._tables.states, default=0)

    def active_checksum(self) -> str:
        active = self.active()
        return active.sha256 if active is not None else ""

    def find(self, version: int) -> RoutingStateRecord | None:
        return self._tables.states.get(version)

    def history(self, *, limit: int) -> list[RoutingStateRecord]:
        newest = sorted(self._tables.states.values(), key=lambda s: s.version)[::-1][:limit]
        return [replace(state, payload=b"") for state in newest]

    def acknowledge(self, version: int, *, replica: str, now: datetime) -> None:
        if (version, replica) not in self._tables.acks:
            self._journal.put(self._tables.acks, (version, replica), now)

    def acknowledged(self, version: int) -> dict[str, datetime]:
        return {key[1]: at for key, at in self._tables.acks.items() if key[0] == version}

    def record_calibration(self, calibration: Calibration) -> None:
        self._journal.append(self._tables.calibrations, calibration)

    def calibrations(self, *, limit: int) -> list[Calibration]:
        return self._tables.calibrations[::-1][:limit]

    def calibrations_in(self, period: Period) -> list[Calibration]:
        return [one for one in self._tables.calibrations if one.calibrated_at in period]

    def save_snapshot(self, kind: str, sha256: str, payload: bytes, *, now: datetime) -> None:
        if (kind, sha256) not in self._tables.snapshots:
            self._journal.put(self._tables.snapshots, (kind, sha256), payload)

    def newest_snapshot(self, kind: str) -> tuple[str, bytes] | None:
        of_kind = [(key[1], held) for key, held in self._tables.snapshots.items() if key[0] == kind]
        return of_kind[-1] if of_kind else None


class MemoryPolicies:
    """``store.ledger.Policies``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held = journal.tables.policies

    def current(self) -> tuple[int, PolicySettings] | None:
        return (len(self._held), self._held[-1]) if self._held else None

    def set(
        self, settings: PolicySettings, *, actor: str, now: datetime, after: int | None = None
    ) -> int:
        check_not_changed(len(self._held), after)
        self._journal.append(self._held, settings)
        detail = {"version": len(self._held), "settings": settings.to_json()}
        entry = AuditEntry(actor=actor, action="policy.set", detail=detail, at=now)
        self._journal.append(self._journal.tables.audit, entry)
        self._journal.heard.add("policy")
        return len(self._held)


class MemoryOutbox:
    """``store.ledger.Outbox``."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._held = journal.tables.outbox
        self._clock = clock

    def add(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        stored = [replace(m, message_id=self._journal.next("message")) for m in messages]
        for message in stored:
            held = HeldMessage(message, self._clock.now())
            self._journal.put(self._held, message.message_id or 0, held)
        return stored

    def unmarked(self, *, limit: int, older_than: datetime | None = None) -> list[OutboxMessage]:
        waiting = [
            held.message
            for _, held in sorted(self._held.items())
            if not held.is_published and (older_than is None or held.written_at < older_than)
        ]
        return waiting[:limit]

    def mark(self, message_ids: Collection[int], *, now: datetime) -> None:
        for message_id in message_ids:
            if (held := self._held.get(message_id)) is not None:
                self._journal.put(self._held, message_id, replace(held, is_published=True))

    def unmark(self, *, since: datetime) -> int:
        sent = [
            number
            for number, held in self._held.items()
            if held.is_published and held.written_at >= since
        ]
        for number in sent:
            self._journal.put(self._held, number, replace(self._held[number], is_published=False))
        return len(sent)


class MemoryOperations:
    """``store.ledger.Operations``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def raise_alert(self, alert: Alert) -> Alert:
        stored = replace(alert, alert_id=self._journal.next("alert"))
        self._journal.append(self._tables.alerts, stored)
        return stored

    def alerts(self, *, limit: int, kind: AlertKind | None = None) -> list[Alert]:
        wanted = (a for a in reversed(self._tables.alerts) if kind is None or a.kind is kind)
        return list(itertools.islice(wanted, limit))

    def alerts_in(self, period: Period) -> list[Alert]:
        return [one for one in self._tables.alerts if one.raised_at in period]

    def reserve(self, kind: str, *, day: str, amount: int, limit: int) -> int:
        used = self._tables.budgets.get((kind, day), 0)
        granted = max(0, min(amount, limit - used))
        self._journal.put(self._tables.budgets, (kind, day), used + granted)
        return granted

    def record_feedback(self, feedback: Feedback) -> bool:
        if feedback.request_id not in self._tables.decisions:
            raise NotFound("unknown_request", f"there is no decision {feedback.request_id}")
        if feedback.idempotency_key in self._tables.feedback:
            return False
        self._journal.put(self._tables.feedback, feedback.idempotency_key, feedback)
        return True

    def add_key(self, key: ApiKey) -> None:
        if key.key_hash not in self._tables.keys:
            self._journal.put(self._tables.keys, key.key_hash, key)

    def find_key(self, key_hash: str) -> ApiKey | None:
        return self._tables.keys.get(key_hash)

    def record_conflict(self, request_id: RequestId, detail: str, *, now: datetime) -> None:
        self._journal.append(self._tables.conflicts, (request_id, detail, now))

    def audit(self, entry: AuditEntry) -> None:
        self._journal.append(self._tables.audit, entry)

    def audit_trail(self, *, limit: int) -> list[AuditEntry]:
        return self._tables.audit[::-1][:limit]
