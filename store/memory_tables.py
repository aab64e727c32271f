"""What ``MemoryLedger`` holds, and the undo log that makes a failed transaction leave nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from store.describing import Descriptor, ProbeAnswer
from store.facts import FailedCall
from store.judging import AuditedPair, CanaryResult, KeptVerdict, Quarantine
from store.lives import Step
from store.policy import PolicySettings
from store.records import (
    Alert,
    ApiKey,
    AuditEntry,
    Calibration,
    Decision,
    Expert,
    ExpertId,
    Feedback,
    JudgeTask,
    Label,
    OutboxMessage,
    RequestId,
    ResponseReceived,
    RoutingStateRecord,
    Verdict,
)

K = TypeVar("K")
V = TypeVar("V")

AnswerKey = tuple[RequestId, ExpertId]
LabelKey = tuple[RequestId, ExpertId, str]
VerdictKey = tuple[RequestId, str, ExpertId, ExpertId, int]


@dataclass(frozen=True, slots=True)
class HeldPrompt:
    """A prompt's identity, whose it is, and its text and check, which may be erased."""

    sha256: bytes
    text: str | None
    tenant: str
    session_id: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class HeldVector:
    """An embedding and whose it is."""

    encoder: str
    vector: npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A judge task and its lease."""

    task: JudgeTask
    due_at: datetime
    worker: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """An outbox message, when it was written and whether it has left."""

    message: OutboxMessage
    written_at: datetime
    is_published: bool = False


@dataclass(frozen=True, slots=True)
class Tables:
    """Every fact, by its key; dictionaries keep the order of arrival."""

    days: dict[date, None] = field(default_factory=dict)
    """Days that have room, as a set that remembers its order."""
    prompts: dict[RequestId, HeldPrompt] = field(default_factory=dict)
    decisions: dict[RequestId, Decision] = field(default_factory=dict)
    embeddings: dict[RequestId, HeldVector] = field(default_factory=dict)
    awaited: dict[RequestId, Decision] = field(default_factory=dict)
    """Sampled requests without a finished traffic task."""
    responses: dict[RequestId, ResponseReceived] = field(default_factory=dict)
    response_hashes: dict[RequestId, bytes | None] = field(default_factory=dict)
    """Tell a redelivered answer from another one, also once its text was erased."""
    shadows: dict[AnswerKey, ResponseReceived] = field(default_factory=dict)
    parked: dict[AnswerKey, tuple[ResponseReceived, bytes, datetime]] = field(default_factory=dict)
    failed_calls: dict[tuple[RequestId, ExpertId, str], FailedCall] = field(default_factory=dict)
    tasks: dict[int, HeldTask] = field(default_factory=dict)
    task_keys: dict[tuple[RequestId, str, frozenset[ExpertId]], int] = field(default_factory=dict)
    verdicts: dict[VerdictKey, Verdict] = field(default_factory=dict)
    labels: dict[LabelKey, Label] = field(default_factory=dict)
    label_log: list[Label | None] = field(default_factory=list)
    """In order of arrival, which cursors count; None where a day was dropped."""
    labels_of: dict[RequestId, tuple[Label, ...]] = field(default_factory=dict)
    experts: dict[ExpertId, Expert] = field(default_factory=dict)
    steps: list[tuple[ExpertId, Step]] = field(default_factory=list)
    descriptors: dict[tuple[ExpertId, str, str], Descriptor] = field(default_factory=dict)
    probe_answers: dict[tuple[ExpertId, str, int], ProbeAnswer] = field(default_factory=dict)
    states: dict[int, RoutingStateRecord] = field(default_factory=dict)
    acks: dict[tuple[int, str], datetime] = field(default_factory=dict)
    calibrations: list[Calibration] = field(default_factory=list)
    snapshots: dict[tuple[str, str], bytes] = field(default_factory=dict)
    policies: list[PolicySettings] = field(default_factory=list)
    outbox: dict[int, HeldMessage] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    budgets: dict[tuple[str, str], int] = field(default_factory=dict)
    reservations: dict[tuple[str, str], int] = field(default_factory=dict)
    kept_verdicts: dict[bytes, KeptVerdict] = field(default_factory=dict)
    canaries: dict[tuple[str, datetime, str], CanaryResult] = field(default_factory=dict)
    quarantines: dict[str, Quarantine] = field(default_factory=dict)
    audited_pairs: dict[tuple[RequestId, ExpertId, str], AuditedPair] = field(default_factory=dict)
    feedback: dict[str, Feedback] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    conflicts: list[tuple[RequestId, str, datetime]] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


class Journal:
    """Changes the tables and remembers how to change them back."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.heard: set[str] = set()
        """Channels to notify when the transaction commits."""
        self._undo: list[Callable[[], object]] = []

    def put(self, table: dict[K, V], key: K, value: V) -> None:
        """Set ``table[key]``."""
        if key in table:
            self._undo.append(lambda old=table[key]: table.__setitem__(key, old))  # type: ignore[misc]  # a default argument binds now
        else:
            self._undo.append(lambda: table.pop(key))
        table[key] = value

    def drop(self, table: dict[K, V], key: K) -> V | None:
        """Remove and return ``table[key]`` if it is there."""
        if key not in table:
            return None
        value = table.pop(key)
        self._undo.append(lambda: table.__setitem__(key, value))
        return value

    def append(self, table: list[V], value: V) -> None:
        """Append to a list."""
        self._undo.append(table.pop)
        table.append(value)

    def blank(self, table: list[V | None], place: int) -> None:
        """Set an entry of a list to None."""
        self._undo.append(lambda old=table[place]: table.__setitem__(place, old))  # type: ignore[misc]  # a default argument binds now
        table[place] = None

    def remove(self, table: list[V], value: V) -> None:
        """Remove a value from a list."""
        place = table.index(value)
        self._undo.append(lambda: table.insert(place, value))
        del table[place]

    def next(self, counter: str) -> int:
        """Return the next number of a counter, from 1."""
        value = self.tables.counters.get(counter, 0) + 1
        self.put(self.tables.counters, counter, value)
        return value

    def roll_back(self) -> None:
        """Undo everything, newest first."""
        while self._undo:
            self._undo.pop()()
