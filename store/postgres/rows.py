"""Records to rows and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from store.duels import Duel
from store.facts import Decided
from store.needs import Needs
from store.newer import known_or_newer
from store.records import (
    Decision,
    ExpertId,
    Float32Array,
    Reason,
    RequestId,
    ResponseReceived,
    Retrieved,
    SampledRequest,
)

UNDATED = date(1970, 1, 1)
"""The day of a label, verdict or shadow answer whose request nobody decided."""

_DETAILS = ("gap", "gap_confidence", "comparator_probability", "category", "group", "degraded")
_WOULD = ("would_serve", "would_reason")
"""Absent in decisions stored before there were modes."""
_RETRIEVED = tuple(field.name for field in fields(Retrieved))
_COLUMNS = (
    *("request_id", "tenant", "decided_at", "expert", "reason", "policy", "propensity"),
    *("inclusion_probability", "is_sampled", "reference", "threshold", "risk_target"),
    *("effective_labels", "state_version", "fold"),
)


def encoded(text: str | None) -> bytes | None:
    """Return text as bytes; lone surrogates pass, for JSON may carry them."""
    return None if text is None else text.encode("utf-8", "surrogatepass")


def decoded(stored: bytes | None) -> str | None:
    """Return what ``encoded`` took."""
    return None if stored is None else stored.decode("utf-8", "surrogatepass")


def hashed(text: str | None) -> bytes | None:
    """Return the SHA-256 of the text."""
    held = encoded(text)
    return None if held is None else hashlib.sha256(held).digest()


def utc(instant: datetime) -> datetime:
    """Return a stored instant in the standard library's UTC."""
    return instant.astimezone(UTC)


def prompt_row(decided: Decided, day: date) -> dict[str, object]:
    """Return the row of a prompt."""
    prompt = decided.prompt
    allowed = prompt.allowed_experts
    return {
        "day": day,
        "request_id": prompt.request_id,
        "text_utf8": encoded(prompt.text),
        "received_at": prompt.received_at,
        "tenant": prompt.tenant,
        "session_id": prompt.session_id,
        "allowed_experts": None if allowed is None else list(allowed),
        "pinned_expert": prompt.pinned_expert,
        "check_utf8": encoded(prompt.check),
    }


def decision_row(decision: Decision, day: date) -> dict[str, object]:
    """Return the row of a decision: columns for what is queried, the rest in ``details``."""
    details: dict[str, object] = {name: getattr(decision, name) for name in _DETAILS}
    details |= {name: getattr(decision, name) for name in _WOULD}
    details["due_experts"] = list(decision.due_experts)
    details["retrieved"] = [
        {name: getattr(one, name) for name in _RETRIEVED} for one in decision.retrieved
    ]
    details["timings_us"] = dict(decision.timings_us)
    details["needs"] = decision.needs.to_json()
    details["excluded"] = dict(decision.excluded)
    details["duel"] = None if decision.duel is None else decision.duel.to_json()
    row: dict[str, object] = {name: getattr(decision, name) for name in _COLUMNS}
    return row | {"day": day, "seq": decision.seq, "details": details}


def decision_of(row: RowMapping) -> Decision:
    """Return the decision of a stored row."""
    details: Mapping[str, Any] = row["details"]
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    values |= {name: details[name] for name in _DETAILS}
    values |= {name: details.get(name) for name in _WOULD}
    values |= {
        "reason": known_or_newer(Reason, row["reason"]),
        "decided_at": utc(row["decided_at"]),
    }
    if values["would_reason"] is not None:
        values["would_reason"] = known_or_newer(Reason, values["would_reason"])
    return Decision(
        seq=row["seq"],
        due_experts=tuple(details["due_experts"]),
        retrieved=tuple(
            Retrieved(**{name: one[name] for name in _RETRIEVED}) for one in details["retrieved"]
        ),
        timings_us=details["timings_us"],
        # Absent where the program before migration 0002 decided.
        needs=Needs.from_json(details.get("needs")),
        excluded=details.get("excluded", {}),
        duel=Duel.from_json(details.get("duel")),
        **values,
    )


def embedding_row(decided: Decided, day: date) -> dict[str, object]:
    """Return the row of an embedding, as little-endian fp16 bytes."""
    return {
        "day": day,
        "request_id": decided.prompt.request_id,
        "encoder_hash": decided.encoder_hash,
        "vector_fp16": decided.embedding.astype("<f2").tobytes(),
    }


def vector_of(stored: bytes) -> Float32Array:
    """Return the float32 vector of stored fp16 bytes."""
    return np.frombuffer(stored, dtype="<f2").astype(np.float32)


def sampled_of(row: RowMapping) -> SampledRequest:
    """Return a sampled request from a decision's row joined with its embedding."""
    return SampledRequest(
        request_id=RequestId(row["request_id"]),
        seq=row["seq"],
        fold=row["fold"],
        inclusion_probability=row["inclusion_probability"],
        due_experts=tuple(ExpertId(name) for name in row["details"]["due_experts"]),
        reference=ExpertId(row["reference"]),
        served_expert=ExpertId(row["expert"]),
        threshold=row["threshold"],
        state_version=row["state_version"],
        decided_at=utc(row["decided_at"]),
        tenant=row["tenant"],
        embedding=vector_of(row["vector_fp16"]),
        category=row["details"]["category"],
        needs=Needs.from_json(row["details"].get("needs")),
    )


def answer_row(response: ResponseReceived) -> dict[str, object]:
    """Return the row of an answer, without its day."""
    return {
        "request_id": response.request_id,
        "expert": response.expert,
        "received_at": response.received_at,
        "text_utf8": encoded(response.text),
        "text_sha256": hashed(response.text),
        "cost_usd": response.cost_usd,
        "input_tokens": response.input_tokens,
        "output_tokens": response.output_tokens,
        "latency_ms": response.latency_ms,
    }


def answer_of(row: RowMapping) -> ResponseReceived:
    """Return the answer of a stored row."""
    return ResponseReceived(
        request_id=RequestId(row["request_id"]),
        expert=ExpertId(row["expert"]),
        received_at=utc(row["received_at"]),
        text=decoded(row["text_utf8"]),
        cost_usd=row["cost_usd"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        latency_ms=row["latency_ms"],
    )
