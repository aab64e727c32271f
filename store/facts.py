"""The ports to the facts of requests: decisions, answers, judge tasks and labels.

Parts of ``store.ledger.Transaction``; what is said there holds here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from store.health import CallError
from store.records import (
    Decision,
    ExpertId,
    Float32Array,
    JudgeTask,
    Label,
    PromptReceived,
    RequestId,
    ResponseReceived,
    SampledRequest,
    TaskStatus,
    Verdict,
)
from store.served import Period, ServedGroup


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

    def prompt_check(self, request_id: RequestId) -> str | None:
        """Return the check that came with a prompt, None if there is none or it was erased."""
        ...

    def prompt_texts(self, request_ids: Collection[RequestId]) -> dict[RequestId, str]:
        """Return the texts of those prompts, without unknown and erased ones."""
        ...

    def sampled(self, request_ids: Collection[RequestId], *, encoder: str) -> list[SampledRequest]:
        """Return the sampled requests among those ids that were embedded by that encoder, by
        ``seq``, without erased ones. Vectors of two encoders cannot be compared, not even where
        they are equally long.
        """
        ...

    def first_sampled(
        self, count: int, *, excluding_fold: int, encoder: str
    ) -> list[SampledRequest]:
        """Return the ``count`` sampled requests of lowest ``seq`` outside one fold that were
        embedded by that encoder, without erased ones.
        """
        ...

    def recent_judged(
        self, count: int, *, excluding_fold: int, without: ExpertId, encoder: str
    ) -> list[SampledRequest]:
        """Return the latest ``count`` sampled requests outside a fold that have a traffic label
        but none of expert ``without``, by ``seq``; labels left out by a quarantine are none. A new
        expert's probes are drawn from them, so requests without their text are left out, and
        those embedded by another encoder.
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

    def newest_at(self) -> datetime | None:
        """Return when the decision with the highest ``seq`` was made, None before the first."""
        ...

    def newest_version(self) -> int:
        """Return the state version of the decision with the highest ``seq``, 0 before the first."""
        ...

    def served(self, period: Period) -> list[ServedGroup]:
        """Return the requests decided in a period, counted by what they have in common, in no
        particular order. Of the labels of a served answer a verifier's counts, else the lowest
        judge version's; probes and labels left out by a quarantine are none.
        """
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

    def costs(self, request_ids: Collection[RequestId]) -> dict[tuple[RequestId, ExpertId], float]:
        """Return what the answers to those requests cost in USD, served and shadow ones, by request
        and expert; answers that do not state it are absent.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """A call of an expert that brought no answer."""

    request_id: RequestId
    expert: ExpertId
    source: str
    """Who called, and which attempt: one failure is counted once, however often it is told."""
    error: CallError
    failed_at: datetime


class Calls(Protocol):
    """Calls of experts, as far as their health goes; a refusal is kept and never counted."""

    def record(self, failed: Sequence[FailedCall]) -> list[bool]:
        """Store what is new by key (request, expert, source), the first of several; answer in the
        order given whether it was.
        """
        ...

    def failed(self, request_ids: Collection[RequestId]) -> set[RequestId]:
        """Return those of the requests that have a failed call, refusals too."""
        ...

    def suspects(self, *, after: datetime, at_least: int) -> set[ExpertId]:
        """Return the experts with counted failures on at least so many requests since."""
        ...

    def failures(self, expert: ExpertId, *, after: datetime, limit: int) -> list[FailedCall]:
        """Return an expert's counted failures since, newest first; one for each request, the
        newest, however many asked or asked again: it may be the request that fails.
        """
        ...

    def answered(self, expert: ExpertId, *, after: datetime, limit: int) -> int:
        """Return how many answers of an expert came in since, served and shadow; up to a limit."""
        ...

    def forget(self, *, before: datetime) -> int:
        """Drop older failures; return how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOff:
    """A leased task that is to be tried again, its attempt not counted."""

    task_id: int
    due_at: datetime
    error: str


class Tasks(Protocol):
    """Judge tasks, leased with ``FOR UPDATE SKIP LOCKED``."""

    def add(self, tasks: Sequence[JudgeTask]) -> int:
        """Store tasks; a request has one per purpose and set of experts. Return how many new."""
        ...

    def lease(
        self, *, worker: str, now: datetime, lease_s: float, limit: int, after: str = ""
    ) -> list[JudgeTask]:
        """Lease up to ``limit`` tasks that are pending and due, or leased and expired;
        ``attempts`` goes up by one. No task is leased to two workers at once.

        Tenants take turns in the order of their names, from the one behind ``after``, so that
        10,000 tasks of one keep no other waiting; a tenant's own go oldest first.
        """
        ...

    def renew(self, task_id: int, *, worker: str, now: datetime, lease_s: float) -> None:
        """Let the lease end ``lease_s`` after ``now``. Raises ``LeaseLost``."""
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

    def put_off(self, tasks: Sequence[PutOff], *, worker: str) -> set[int]:
        """Return all these tasks to pending as ``give_back`` does one in an outage; leave out those
        whose lease is no longer this worker's. Return the ids of the others.
        """
        ...

    def bury(self, task_id: int, *, worker: str, error: str) -> None:
        """Mark dead; it stays, counted and inspectable. Raises ``LeaseLost``."""
        ...

    def counts(self) -> dict[str, int]:
        """Return the number of tasks by status; every status is present."""
        ...

    def listed(
        self, *, status: TaskStatus | None, limit: int, purpose: str | None = None
    ) -> list[JudgeTask]:
        """Return the tasks added last, newest first; of one status and purpose or of all."""
        ...

    def retry(self, task_ids: Collection[int], *, actor: str, now: datetime) -> list[int]:
        """Make those of the tasks that are dead pending again, due now, with no attempt counted
        and their error kept, with an audit entry if there are any; return their ids in order.

        Labels that they brought stay, and so does the watermark.
        """
        ...

    def oldest(self) -> datetime | None:
        """Return when the oldest task that is pending or leased was made, None without any."""
        ...


@dataclass(frozen=True, slots=True)
class SettledLabels:
    """Labels read by one call of ``settled_since``."""

    labels: tuple[Label, ...]
    cursor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Labels on sampled traffic that came since an instant."""

    requests: int
    """Distinct requests with at least one such label."""
    first_at: datetime | None
    """When the first came; None without any."""
    by_expert: dict[ExpertId, int]
    """Experts without any are absent."""


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
        commits: rows at or above the oldest running transaction wait. Labels of a judge version
        in quarantine are left out.
        """
        ...

    def count(self) -> int:
        """Return the number of labels."""
        ...

    def arrived(self, *, since: datetime, encoder: str) -> Arrived:
        """Count the traffic labels given at or after ``since``, probes left out, on requests that
        were embedded by that encoder, without erased ones: others are not learnt from. Those of
        requests decided on a day more than one before ``since`` may be missing.
        """
        ...

    def verdicts_of(self, request_id: RequestId) -> list[Verdict]:
        """Return the verdicts of a request by expert pair and call."""
        ...
