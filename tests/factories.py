"""Small builders: a valid fact with sensible defaults; say only what the test is about."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from store.describing import ProbeAnswer
from store.facts import Decided, FailedCall
from store.health import CallError
from store.judging import AuditedPair
from store.policy import PolicySettings
from store.records import (
    FOLDS,
    Alert,
    AlertKind,
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
    Reason,
    RequestId,
    ResponseReceived,
    Retrieved,
    RoutingStateRecord,
    SampledRequest,
    Verdict,
)

ENCODER = "encoder-1"
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
CHEAP = ExpertId("cheap")
STRONG = ExpertId("strong")
PROBE_SET = "a" * 64


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def embedding(seed: int = 0, dim: int = 8) -> Float32Array:
    drawn = np.random.default_rng(seed).normal(size=dim).astype(np.float32)
    unit: Float32Array = drawn / np.linalg.norm(drawn)
    return unit


def prompt(request_id: str = "r1", **changes: Any) -> PromptReceived:
    values: dict[str, Any] = {"text": "What is 2 + 2?", "received_at": NOON} | changes
    return PromptReceived(request_id=RequestId(request_id), **values)


def decision(request_id: str = "r1", **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "tenant": "default",
        "decided_at": NOON,
        "expert": CHEAP,
        "reason": Reason.ROUTED,
        "policy": "auto",
        "propensity": 0.98,
        "inclusion_probability": 0.05,
        "is_sampled": True,
        "due_experts": (CHEAP,),
        "reference": STRONG,
        "retrieved": (
            Retrieved(expert=CHEAP, cosine=0.7, score=0.8, utility=0.75, is_candidate=True),
            Retrieved(expert=STRONG, cosine=0.6, score=None, utility=None, is_candidate=False),
        ),
        "gap": 0.1,
        "gap_confidence": 0.8,
        "comparator_probability": None,
        "category": "math",
        "threshold": 0.5,
        "risk_target": 0.1,
        "effective_labels": 200.5,
        "state_version": 1,
        "group": "g1",
        "fold": 1,
        "timings_us": {"embed": 900, "decide": 80},
    } | changes
    return Decision(request_id=RequestId(request_id), **values)


def decided(
    request_id: str = "r1", *, text: str = "What is 2 + 2?", seed: int = 0, **changes: Any
) -> Decided:
    made = decision(request_id, **changes)
    return Decided(
        prompt=prompt(request_id, text=text, received_at=made.decided_at, tenant=made.tenant),
        decision=made,
        embedding=embedding(seed),
        encoder_hash=ENCODER,
    )


def failed_call(request_id: str = "r1", **changes: Any) -> FailedCall:
    values: dict[str, Any] = {
        "request_id": RequestId(request_id),
        "expert": CHEAP,
        "source": "gateway",
        "error": CallError.TIMEOUT,
        "failed_at": NOON,
    } | changes
    return FailedCall(**values)


def sampled(seq: int = 1, **changes: Any) -> SampledRequest:
    values: dict[str, Any] = {
        "request_id": RequestId(f"r{seq}"),
        "seq": seq,
        "fold": seq % FOLDS,
        "inclusion_probability": 0.05,
        "due_experts": (CHEAP,),
        "reference": STRONG,
        "served_expert": STRONG,
        "threshold": 0.5,
        "state_version": 1,
        "decided_at": NOON,
        "tenant": "default",
        "embedding": embedding(seq),
        "category": "unknown",
    } | changes
    return SampledRequest(**values)


def response(request_id: str = "r1", **changes: Any) -> ResponseReceived:
    values: dict[str, Any] = {
        "expert": CHEAP,
        "received_at": later(1),
        "text": "4",
        "cost_usd": 0.0012,
        "input_tokens": 9,
        "output_tokens": 1,
        "latency_ms": 310.5,
    } | changes
    return ResponseReceived(request_id=RequestId(request_id), **values)


def task(request_id: str = "r1", **changes: Any) -> JudgeTask:
    values: dict[str, Any] = {
        "experts": (CHEAP,),
        "purpose": "traffic",
        "created_at": NOON,
    } | changes
    return JudgeTask(request_id=RequestId(request_id), **values)


def verdict(request_id: str = "r1", **changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "expert_a": CHEAP,
        "expert_b": STRONG,
        "judge_version": "judge-1",
        "call": 0,
        "preference": 0.5,
        "grade_a": 0.8,
        "grade_b": None,
        "judged_at": NOON,
        "cost_usd": 0.001,
    } | changes
    return Verdict(request_id=RequestId(request_id), **values)


def label(request_id: str = "r1", **changes: Any) -> Label:
    values: dict[str, Any] = {
        "expert": CHEAP,
        "judge_version": "judge-1",
        "outcome": 1,
        "score": 0.8,
        "purpose": "traffic",
        "labelled_at": NOON,
    } | changes
    return Label(request_id=RequestId(request_id), **values)


def audited(request_id: str = "r1", **changes: Any) -> AuditedPair:
    values: dict[str, Any] = {
        "expert": CHEAP,
        "auditor": "ann",
        "reference": STRONG,
        "preference": 1.0,
        "judge_version": "judge-1",
        "judge_outcome": 1,
        "inclusion_probability": 0.05,
        "category": "math",
        "audited_at": later(60),
    } | changes
    return AuditedPair(request_id=RequestId(request_id), **values)


def expert(name: str = "cheap", **changes: Any) -> Expert:
    values: dict[str, Any] = {
        "status": ExpertStatus.REGISTERED,
        "price": Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
        "client": {"kind": "recorded"},
        "added_at": NOON,
        "status_changed_at": NOON,
    } | changes
    return Expert(name=ExpertId(name), **values)


def state(version: int = 1, **changes: Any) -> RoutingStateRecord:
    payload = changes.pop("payload", f"state {version}".encode())
    values: dict[str, Any] = {
        "parent": version - 1,
        "threshold": 0.5,
        "risk_target": 0.1,
        "effective_labels": 120.25,
        "cause": "labels",
        "note": "",
        "published_at": NOON,
    } | changes
    sha256 = hashlib.sha256(payload).hexdigest()
    return RoutingStateRecord(version=version, payload=payload, sha256=sha256, **values)


def calibration(**changes: Any) -> Calibration:
    values: dict[str, Any] = {
        "state_version": 1,
        "threshold": 0.5,
        "risk_target": 0.1,
        "effective_labels": 120.0,
        "labels": 150,
        "new_labels": 10,
        "weighted_risk": 0.07,
        "reason": "feasible",
        "loss": "worst_in_set",
        "calibrated_at": NOON,
        "took_ms": 12.5,
    } | changes
    return Calibration(**values)


def alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "kind": AlertKind.EXPERT_REGRESSION,
        "subject": "cheap",
        "message": "cheap answers worse than when it was certified",
        "guarantee": "false at most once in 10,000 labels under an unchanged expert",
        "evidence": {"wealth": 20_000.0},
        "raised_at": NOON,
    } | changes
    return Alert(**values)


def feedback(idempotency_key: str = "f1", **changes: Any) -> Feedback:
    values: dict[str, Any] = {
        "request_id": RequestId("r1"),
        "rating": 1.0,
        "source": "user",
        "received_at": NOON,
        "comment": None,
    } | changes
    return Feedback(idempotency_key=idempotency_key, **values)


def message(key: str = "r1", **changes: Any) -> OutboxMessage:
    values: dict[str, Any] = {"topic": "router.decisions", "value": b"{}"} | changes
    return OutboxMessage(key=key, **values)


def settings(**changes: Any) -> PolicySettings:
    return PolicySettings(**({"reference": STRONG} | changes))


def probe_answer(number: int = 0, **changes: Any) -> ProbeAnswer:
    values: dict[str, Any] = {
        "expert": CHEAP,
        "probe_set": PROBE_SET,
        "number": number,
        "text": f"said {number}",
        "grade": 1.0,
        "cost_usd": 0.25,
        "answered_at": later(number),
        "input_tokens": 9,
        "output_tokens": 3,
    } | changes
    return ProbeAnswer(**values)
