"""The port to everything that is remembered.

``with ledger.begin() as tx`` is one transaction: leaving the block normally commits, an exception
leaves nothing behind. No network call belongs inside one. Promises below are sentences that
``tests/contract/test_ledger.py`` checks on every implementation.

Every method may raise ``StoreUnavailable`` (nothing was stored; try again later).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from store.policy import PolicySettings
from store.records import (
    Alert,
    ApiKey,
    AuditEntry,
    Baseline,
    Calibration,
    Decision,
    Expert,
    ExpertId,
    ExpertStatus,
    Feedback,
    Float32Array,
    JudgeTask,
    Label,
    OutboxMessage,
    Price,
    PromptReceived,
    RequestId,
    ResponseReceived,
    RoutingStateRecord,
    SampledRequest,
    Verdict,
)
from store.upkeep import Upkeep


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A prompt with its decision and, for a sampled request, its embedding."""

    prompt: PromptReceived
    decision: Decision
    embedding: Float32Array
    encoder_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the ledger holds for one request after ``record``."""

    request_id: RequestId
    decision: Decision | None
    """The stored decision with its ``seq``; None on a conflict."""
    is_new: bool
    is_conflict: bool
    """The id is taken by another prompt (another hash of the text)."""


class ResponseOutcome(StrEnum):
    """What became of a response."""

    NEW = "new"
    DUPLICATE = "duplicate"
    UNKNOWN_REQUEST = "unknown_request"
    CONFLICT = "conflict"
    """The request already has another answer (another expert, text or cost)."""


class Decisions(Protocol):
    """One decision per request id, first writer wins."""

    def record(self, batch: Sequence[Decided]) -> list[Recorded]:
        """Store each decision unless its request id has one; answer in the order given.

        The id alone decides (never the day or timestamp): a redelivery across midnight and a
        resend with another timestamp get the stored decision. The same id twice in one batch:
        the first wins. ``seq`` is unique and increases within one process's commits. The prompt's
        text is kept apart from the decision. The embedding is stored as fp16, for sampled
        requests only.
        """
        ...

    def find(self, request_id: RequestId) -> Decision | None:
        """Return the stored decision."""
        ...

    def find_many(self, request_ids: Collection[RequestId]) -> dict[RequestId, Decision]:
        """Return the stored decisions of those ids that have one."""
        ...

    def prompt_text(self, request_id: RequestId) -> str | None:
        """Return the prompt's text, None if unknown or erased."""
        ...

    def sampled(self, request_ids: Collection[RequestId]) -> list[SampledRequest]:
        """Return the sampled requests among those ids, by ``seq``, without erased ones."""
        ...

    def first_sampled(self, count: int, *, excluding_fold: int) -> list[SampledRequest]:
        """Return the ``count`` sampled requests of lowest ``seq`` outside one fold, without erased
        ones.
        """
        ...

    def recent_judged(
        self, count: int, *, excluding_fold: int, without: ExpertId
    ) -> list[SampledRequest]:
        """Return the latest ``count`` sampled requests outside a fold that have a traffic label
        but none of expert ``without``, by ``seq``; a new expert's probes are drawn from them, so
        requests without their text are left out.
        """
        ...

    def watermark(self, *, now: datetime, timeout_s: float) -> int:
        """Return the highest ``seq`` behind which nothing is outstanding.

        Every sampled request with ``seq`` at or below it has a traffic judge task that is done
        or dead, or was decided more than ``timeout_s`` before ``now``. It is the last ``seq``
        when nothing is outstanding, 0 when there is no decision.
        """
        ...

    def last_seq(self) -> int:
        """Return the highest ``seq`` given so far, 0 before the first."""
        ...

    def newest_version(self) -> int:
        """Return the state version of the decision with the highest ``seq``, 0 before the first."""
        ...


class Responses(Protocol):
    """Served answers, one per request; shadow answers, one per request and expert."""

    def record(self, batch: Sequence[ResponseReceived]) -> list[ResponseOutcome]:
        """Store each served answer unless its request has one; answer in the order given.

        A response for a request that has no decision is not stored (UNKNOWN_REQUEST). The same
        answer again (expert, text hash, cost) is DUPLICATE; another answer is CONFLICT and is
        not stored.
        """
        ...

    def find(self, request_id: RequestId) -> ResponseReceived | None:
        """Return the served answer."""
        ...

    def record_shadow(self, answer: ResponseReceived) -> bool:
        """Store a shadow answer unless that request and expert have one; True when new."""
        ...

    def find_shadow(self, request_id: RequestId, expert: ExpertId) -> ResponseReceived | None:
        """Return the shadow answer."""
        ...

    def mean_output_tokens(self) -> dict[ExpertId, float]:
        """Return each expert's mean output tokens over its latest answers that state them (served
        and shadow, at most 1,000 each); experts without any are absent.
        """
        ...

    def park(self, response: ResponseReceived, original: bytes, *, now: datetime) -> None:
        """Keep a response whose decision is not visible yet; the same id and expert once."""
        ...

    def take_parked(self, *, limit: int) -> list[tuple[ResponseReceived, bytes]]:
        """Remove and return parked responses whose decision is visible now."""
        ...

    def take_expired(self, *, before: datetime, limit: int) -> list[tuple[ResponseReceived, bytes]]:
        """Remove and return responses parked before that instant."""
        ...


class Tasks(Protocol):
    """Judge tasks, leased with ``FOR UPDATE SKIP LOCKED``."""

    def add(self, tasks: Sequence[JudgeTask]) -> int:
        """Store tasks; a request has one per purpose and set of experts. Return how many new."""
        ...

    def lease(self, *, worker: str, now: datetime, lease_s: float, limit: int) -> list[JudgeTask]:
        """Lease up to ``limit`` tasks that are pending and due, or leased and expired, oldest
        first; ``attempts`` goes up by one. No task is leased to two workers at once.
        """
        ...

    def finish(self, task_id: int, *, worker: str) -> None:
        """Mark done. Raises ``LeaseLost`` when the lease is no longer this worker's."""
        ...

    def give_back(
        self, task_id: int, *, worker: str, due_at: datetime, error: str, counts: bool
    ) -> None:
        """Return the task to pending, not before ``due_at``; ``counts=False`` (an outage) takes
        the attempt back. Raises ``LeaseLost``.
        """
        ...

    def bury(self, task_id: int, *, worker: str, error: str) -> None:
        """Mark dead; it stays, counted and inspectable. Raises ``LeaseLost``."""
        ...

    def counts(self) -> dict[str, int]:
        """Return the number of tasks by status; every status is present."""
        ...


@dataclass(frozen=True, slots=True)
class SettledLabels:
    """Labels read by one call of ``settled_since``."""

    labels: tuple[Label, ...]
    cursor: int


class Labels(Protocol):
    """Verdicts and labels, append-only."""

    def add(self, verdicts: Sequence[Verdict], labels: Sequence[Label]) -> int:
        """Store what is new by key (request, expert, judge version; verdicts also by pair and
        call); the first label of a key wins. Return the number of new labels.
        """
        ...

    def settled_since(self, cursor: int, *, limit: int = 50_000) -> SettledLabels:
        """Return labels committed since ``cursor`` (0 at first) and the next cursor.

        Over successive calls every label comes exactly once, however late its transaction
        commits: rows at or above the oldest running transaction wait.
        """
        ...

    def count(self) -> int:
        """Return the number of labels."""
        ...

    def verdicts_of(self, request_id: RequestId) -> list[Verdict]:
        """Return the verdicts of a request by expert pair and call."""
        ...


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


class Operations(Protocol):
    """Alerts, feedback, keys, budgets, audit."""

    def raise_alert(self, alert: Alert) -> Alert:
        """Store an alert; return it with its id."""
        ...

    def alerts(self, *, limit: int) -> list[Alert]:
        """Return the newest alerts first."""
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
    def tasks(self) -> Tasks: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def experts(self) -> Experts: ...
    @property
    def states(self) -> States: ...
    @property
    def policies(self) -> Policies: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def operations(self) -> Operations: ...
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
