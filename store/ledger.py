"""The port to everything that is remembered.

``with ledger.begin() as tx`` is one transaction: leaving the block normally commits, an exception
leaves nothing behind. No network call belongs inside one. Promises below are sentences that
``tests/contract/test_ledger.py`` checks on every implementation.

Every method may raise ``StoreUnavailable`` (nothing was stored; try again later).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from store.describing import Describing
from store.facts import Calls, Decisions, Labels, Responses, Tasks
from store.health import Health
from store.judging import Judging
from store.lives import Lives
from store.money import Money
from store.needs import Capabilities
from store.policy import PolicySettings
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
from store.upkeep import Upkeep

Publish = Callable[[Sequence[OutboxMessage]], None]
"""Sends committed messages at once; a failure is the outbox sweeper's business."""


class Experts(Protocol):
    """The pool."""

    def add(self, expert: Expert) -> None:
        """Store a new expert. Raises ``RequestConflict`` (code ``expert_exists``) on a second."""
        ...

    def find(self, name: ExpertId) -> Expert | None:
        """Return one expert."""
        ...

    def all(self) -> list[Expert]:
        """Return every expert, retired ones too, by time of adding, then name."""
        ...

    def set_status(
        self, name: ExpertId, *, before: ExpertStatus, after: ExpertStatus, now: datetime
    ) -> bool:
        """Compare and set; False when the status is no longer ``before``. Raises
        ``EventRejected`` (code ``illegal_status``) for a change ``transitions.EXPERT`` forbids.
        """
        ...

    def set_price(self, name: ExpertId, price: Price) -> None:
        """Change the price. Raises ``NotFound`` (code ``unknown_expert``)."""
        ...

    def set_client(self, name: ExpertId, client: Mapping[str, str]) -> None:
        """Change how the expert is called. Raises ``NotFound`` (code ``unknown_expert``)."""
        ...

    def set_capabilities(self, name: ExpertId, capabilities: Capabilities) -> None:
        """Change what an expert declares. Raises ``NotFound`` (code ``unknown_expert``)."""
        ...

    def set_health(self, name: ExpertId, *, before: Health, after: Health) -> bool:
        """Compare and set; False when the expert's health is no longer ``before``."""
        ...

    def recover(self, expert: Expert, *, health: Health, now: datetime) -> bool:
        """Give an expert that is paused for failing calls the status back that it had; False when
        its status has changed since ``expert`` was read.
        """
        ...

    def set_baseline(self, name: ExpertId, baseline: Baseline) -> None:
        """Reset the regression test of an expert; without a floor it rests."""
        ...


class States(Protocol):
    """Routing states: one active, older ones kept."""

    def publish(self, candidate: RoutingStateRecord) -> None:
        """Make ``candidate`` the active state and notify on commit.

        Raises ``StateSuperseded`` unless ``candidate.parent`` is the active version (0 when
        there is none) and ``candidate.version == parent + 1``.
        """
        ...

    def active(self) -> RoutingStateRecord | None:
        """Return the active state."""
        ...

    def active_version(self) -> int:
        """Return the active version, 0 when there is none; cheap."""
        ...

    def active_checksum(self) -> str:
        """Return the active state's sha256, empty when there is none; cheap. Unlike the version it
        tells two states apart that got one number before and after a restore.
        """
        ...

    def find(self, version: int) -> RoutingStateRecord | None:
        """Return one state."""
        ...

    def history(self, *, limit: int) -> list[RoutingStateRecord]:
        """Return the newest states first, payloads empty."""
        ...

    def acknowledge(self, version: int, *, replica: str, now: datetime) -> None:
        """Note that a replica serves this version; once per replica and version."""
        ...

    def acknowledged(self, version: int) -> dict[str, datetime]:
        """Return when each replica began to serve a version."""
        ...

    def record_calibration(self, calibration: Calibration) -> None:
        """Keep one recalibration."""
        ...

    def calibrations(self, *, limit: int) -> list[Calibration]:
        """Return the newest recalibrations first."""
        ...

    def calibrations_in(self, period: Period) -> list[Calibration]:
        """Return the recalibrations of a period, oldest first."""
        ...

    def save_snapshot(self, kind: str, sha256: str, payload: bytes, *, now: datetime) -> None:
        """Keep a fitted artefact (clusters) under its hash; the first of a hash stays."""
        ...

    def newest_snapshot(self, kind: str) -> tuple[str, bytes] | None:
        """Return hash and payload of the newest artefact of a kind."""
        ...


class Policies(Protocol):
    """The operator's settings, every version kept."""

    def current(self) -> tuple[int, PolicySettings] | None:
        """Return version and settings in force, None before the first."""
        ...

    def set(
        self, settings: PolicySettings, *, actor: str, now: datetime, after: int | None = None
    ) -> int:
        """Store new settings with an audit entry, notify on commit; return the version.

        Parameters
        ----------
        after
            The version that the settings were made from (0: none); None takes whatever is there.

        Raises
        ------
        RequestConflict
            Another operator was faster: the newest version is not ``after``.
        """
        ...


class Outbox(Protocol):
    """What must leave, written in the transaction that makes it true."""

    def add(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Store messages; return them with their ids, in order."""
        ...

    def unmarked(self, *, limit: int, older_than: datetime | None = None) -> list[OutboxMessage]:
        """Return unpublished messages by id; with ``older_than`` only those written before."""
        ...

    def mark(self, message_ids: Collection[int], *, now: datetime) -> None:
        """Note that these were published."""
        ...

    def unmark(self, *, since: datetime) -> int:
        """Let every message written since then be published again; return how many."""
        ...


class Operations(Protocol):
    """Alerts, feedback, keys, budgets, audit."""

    def raise_alert(self, alert: Alert) -> Alert:
        """Store an alert; return it with its id."""
        ...

    def alerts(self, *, limit: int, kind: AlertKind | None = None) -> list[Alert]:
        """Return the newest alerts first, of one kind or of all."""
        ...

    def alerts_in(self, period: Period) -> list[Alert]:
        """Return the alerts raised in a period, oldest first."""
        ...

    def reserve(self, kind: str, *, day: str, amount: int, limit: int) -> int:
        """Take up to ``amount`` from the day's budget of ``limit`` in one statement; return how
        much was granted. Concurrent callers never get more than ``limit`` together.
        """
        ...

    def record_feedback(self, feedback: Feedback) -> bool:
        """Store feedback once per idempotency key; False on a repeat. Raises ``NotFound`` (code
        ``unknown_request``) for a request without a decision.
        """
        ...

    def add_key(self, key: ApiKey) -> None:
        """Store a hashed key."""
        ...

    def find_key(self, key_hash: str) -> ApiKey | None:
        """Return the key of a hash."""
        ...

    def record_conflict(self, request_id: RequestId, detail: str, *, now: datetime) -> None:
        """Keep a clash: an id with another prompt, or a degraded decision that lost."""
        ...

    def audit(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""
        ...

    def audit_trail(self, *, limit: int) -> list[AuditEntry]:
        """Return the newest entries first."""
        ...


class Transaction(Protocol):
    """One unit of work over all facts."""

    @property
    def decisions(self) -> Decisions: ...
    @property
    def responses(self) -> Responses: ...
    @property
    def calls(self) -> Calls: ...
    @property
    def tasks(self) -> Tasks: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def judging(self) -> Judging: ...
    @property
    def experts(self) -> Experts: ...
    @property
    def describing(self) -> Describing: ...
    @property
    def lives(self) -> Lives: ...
    @property
    def states(self) -> States: ...
    @property
    def policies(self) -> Policies: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def money(self) -> Money: ...
    @property
    def upkeep(self) -> Upkeep: ...


class Ledger(Protocol):
    """Where every fact is kept once."""

    def begin(self) -> AbstractContextManager[Transaction]:
        """Open a transaction."""
        ...

    def lead(self, role: str) -> AbstractContextManager[bool]:
        """Try to become the only leader of a role while the block runs (advisory lock); the
        value is False when another process leads.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class Notifications(Protocol):
    """A hint that something changed; the tables are the truth, so poll too."""

    def wait(self, timeout_s: float) -> set[str]:
        """Rest until notified or timed out; return the channels heard (``state``, ``policy``,
        ``labels``, ``tasks``), empty on time-out.
        """
        ...

    def close(self) -> None:
        """Stop listening."""
        ...
