"""Every fact that crosses a folder. Frozen values; standard library and numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import NewType

import numpy as np
import numpy.typing as npt

from store.duels import Duel
from store.health import HEALTHY, CallError, Health
from store.needs import NO_NEEDS, UNDECLARED, Capabilities, Needs

RequestId = NewType("RequestId", str)
ExpertId = NewType("ExpertId", str)
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
JsonObject = dict[str, object]

DEFAULT_TENANT = "default"
SAFE = 2.0
"""The largest threshold: above every score, so the reference serves and the loss is 0."""
TRAFFIC = "traffic"
"""Purpose of a judge task on a sampled request."""
PROBE = "probe"
"""Purpose of a judge task that describes a new expert on requests already judged."""
VERIFIER = "verifier-"
"""How the judge versions begin that grade by a check: what they say outranks every judge."""
FOLDS = 5
"""Near-duplicate folds. Fold 0 trains nothing, ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReceived:
    """A prompt that asks for a decision."""

    request_id: RequestId
    text: str
    received_at: datetime
    tenant: str = DEFAULT_TENANT
    session_id: str | None = None
    allowed_experts: tuple[ExpertId, ...] | None = None
    """None allows every expert; the reference must be allowed."""
    pinned_expert: ExpertId | None = None
    """An explicit expert name outranks learning and is still logged."""
    needs: Needs = NO_NEEDS
    """As the sender stated them; ``online/obstacles.py`` adds what the prompt itself takes."""
    check: str | None = None
    """What a right answer must satisfy, as JSON (``judge/checks.py``); may hold the answer."""


class Reason(StrEnum):
    """Why the expert of a decision was chosen."""

    ROUTED = "routed"
    COMPARATOR = "comparator"
    EXPLORED = "explored"
    RAMP = "ramp"
    PINNED = "pinned"
    SAFE_STARVED = "safe_starved"
    SAFE_INFEASIBLE = "safe_infeasible"
    SAFE_COLD = "safe_cold"
    NO_CANDIDATE = "no_candidate"
    OBSERVED = "observed"
    OFF = "off"
    ERROR = "error"


OUTSIDE_PROMISE = frozenset({Reason.PINNED, Reason.OBSERVED, Reason.OFF})
"""Not routed: such a request says nothing about what routing risks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """One expert that the index returned for a prompt."""

    expert: ExpertId
    cosine: float
    score: float | None
    """Predicted judged quality in [0, 1]; None without evidence."""
    utility: float | None
    is_candidate: bool
    """Member of C_lambda: certified, allowed, scored above the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which expert answers a request, and everything needed to learn from or audit it."""

    request_id: RequestId
    tenant: str
    decided_at: datetime
    expert: ExpertId
    reason: Reason
    policy: str
    propensity: float
    inclusion_probability: float
    is_sampled: bool
    due_experts: tuple[ExpertId, ...]
    """Experts to be judged against the reference if the request is sampled."""
    reference: ExpertId
    retrieved: tuple[Retrieved, ...]
    gap: float | None
    gap_confidence: float | None
    comparator_probability: float | None
    """P(first beats second); None when the comparator was not asked."""
    category: str
    threshold: float
    risk_target: float
    effective_labels: float
    state_version: int
    group: str
    fold: int
    would_serve: ExpertId | None = None
    """What mode ``apply`` would have served; None unless the mode is ``observe``."""
    would_reason: Reason | None = None
    degraded: bool = False
    timings_us: Mapping[str, int] = field(default_factory=dict)
    needs: Needs = NO_NEEDS
    excluded: Mapping[ExpertId, str] = field(default_factory=dict)
    """Experts that could not serve the request, each with its reason."""
    duel: Duel | None = None
    seq: int | None = None
    """The ledger's sequence number, given when the decision is stored; the order of learning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseReceived:
    """An expert's answer to a request, served or shadow."""

    request_id: RequestId
    expert: ExpertId
    received_at: datetime
    text: str | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None
    error: CallError | None = None
    """Set when there is no answer: the call failed."""


class ExpertStatus(StrEnum):
    """The life of an expert; ``transitions.py`` holds the legal changes."""

    REGISTERED = "registered"
    DESCRIBED = "described"
    SHADOW = "shadow"
    RAMPING = "ramping"
    CERTIFIED = "certified"
    PAUSED = "paused"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an expert costs in USD; at least one part positive, none negative."""

    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    request_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What an expert's regression test compares with."""

    floor: float | None = None
    """Lower limit of P(acceptable) when it was taken; None until there are the labels for it."""
    seq: int = 0
    """Labels after this ledger sequence enter the test or, without a floor, the next baseline."""
    reference: ExpertId | None = None
    """Whom the outcomes behind the floor were judged against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One LLM of the pool."""

    name: ExpertId
    status: ExpertStatus
    price: Price
    client: Mapping[str, str]
    """How to call it: ``{"kind": "recorded"}`` or ``{"kind": "openai", "base_url": ..., ...}``.
    Secrets are named by environment variable, never stored."""
    added_at: datetime
    status_changed_at: datetime
    baseline: Baseline = Baseline()
    capabilities: Capabilities = UNDECLARED
    health: Health = HEALTHY

    @property
    def is_failing(self) -> bool:
        """Return whether it is paused for failing calls, and not by an operator."""
        is_paused = self.status is ExpertStatus.PAUSED
        return is_paused and self.health.since == self.status_changed_at


class TaskStatus(StrEnum):
    """A judge task's life."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"


OPEN = (TaskStatus.PENDING, TaskStatus.LEASED)
"""What is still to be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTask:
    """Judge these experts against the reference on one sampled request."""

    request_id: RequestId
    experts: tuple[ExpertId, ...]
    purpose: str
    """``"traffic"`` for a sampled request, ``"probe"`` of a new expert, ``"duel"`` of a pair."""
    created_at: datetime
    task_id: int | None = None
    status: TaskStatus = TaskStatus.PENDING
    attempts: int = 0
    last_error: str | None = None
    tenant: str = DEFAULT_TENANT
    """Whose request it is; tenants take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One judge's reply to one ordered pair of answers."""

    request_id: RequestId
    expert_a: ExpertId
    expert_b: ExpertId
    """``expert_a`` was shown first."""
    judge_version: str
    call: int
    """0 and 1 are the two orders, 2 the tie-breaking third call."""
    preference: float
    """1 first better, 0.5 tie, 0 second better."""
    grade_a: float | None
    grade_b: float | None
    """Absolute grades in [0, 1] where the judge gives them."""
    judged_at: datetime
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What learning uses: one expert judged on one request. Append-only."""

    request_id: RequestId
    expert: ExpertId
    judge_version: str
    outcome: int
    """1 acceptable against the reference, 0 not; unreadable and inconsistent count 0."""
    score: float | None
    """Judged quality in [0, 1]; None (unreadable) never trains anything."""
    purpose: str
    labelled_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRequest:
    """What a label needs to know of the decision it belongs to."""

    request_id: RequestId
    seq: int
    fold: int
    inclusion_probability: float
    due_experts: tuple[ExpertId, ...]
    reference: ExpertId
    served_expert: ExpertId
    threshold: float
    state_version: int
    decided_at: datetime
    tenant: str
    embedding: npt.NDArray[np.floating]
    """float[d], unit length; stored as fp16, so it may be held as that."""
    category: str
    """As told when it was decided; ``all`` where nobody told them yet."""
    needs: Needs = NO_NEEDS


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingStateRecord:
    """A routing state as stored: absolute, versioned, checksummed, never pickled."""

    version: int
    parent: int
    """The version it was computed from; publishing compares and sets on it."""
    payload: bytes
    sha256: str
    threshold: float
    risk_target: float
    effective_labels: float
    cause: str
    """Why it was published: ``labels``, ``policy``, ``expert``, ``rollback``, ``cold start``."""
    note: str
    published_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One recalibration, published or refused."""

    state_version: int | None
    threshold: float
    risk_target: float
    effective_labels: float
    labels: int
    new_labels: int
    weighted_risk: float | None
    reason: str
    """``feasible``, ``infeasible``, ``starved``, ``cold``."""
    loss: str
    calibrated_at: datetime
    took_ms: float


class AlertKind(StrEnum):
    """What an alert is about."""

    EXPERT_REGRESSION = "expert_regression"
    LABEL_STARVATION = "label_starvation"
    STATE_REFUSED = "state_refused"
    PARTITION_MISSING = "partition_missing"
    EXPERT_FAILING = "expert_failing"
    EXPERT_RECOVERED = "expert_recovered"
    JUDGE_QUARANTINED = "judge_quarantined"
    JUDGE_BUDGET_SPENT = "judge_budget_spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something an on-call engineer should know; also sent to ``router.alerts``."""

    kind: AlertKind
    subject: str
    """The expert, tenant or component it names."""
    message: str
    guarantee: str
    """Under which null and at which rate this alert may be false."""
    evidence: Mapping[str, float]
    raised_at: datetime
    alert_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """Something that must leave, written in the transaction that makes it true."""

    topic: str
    key: str
    value: bytes
    message_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A user's or service's word on an answer; never moves the threshold."""

    idempotency_key: str
    request_id: RequestId
    rating: float
    """0 bad to 1 good."""
    source: str
    received_at: datetime
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A hashed key and what it may do."""

    key_hash: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who changed what."""

    actor: str
    action: str
    detail: Mapping[str, object]
    at: datetime


def day_of(instant: datetime) -> date:
    """Return the UTC day whose partition holds a fact of that instant."""
    return instant.date()
