"""Wire format v1: the only place that knows the JSON of events.

Every event is an object with ``schema`` and ``version``. Readers accept fields they do not know
and refuse schemas and versions they do not know; ``schemas/`` describes each event for others.
Decoders raise ``EventRejected`` and nothing else, whatever the bytes; the codes are listed in
``fields.py``. Encoders raise ``ValueError`` for a NaN, which is a mistake of the caller.

A fact is dated by our clock (``now``). The sender's ``created_at`` is checked, not used: days,
partitions and timeouts must not depend on somebody else's clock. (``ingest.stream`` dates failed
calls by when their message was sent.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from importlib import resources

from ingest.chat import render
from ingest.fields import Fields, read_object
from judge.checks import read_check
from store.duels import Duel
from store.health import CallError
from store.needs import NO_NEEDS, REGIONS, Needs
from store.records import (
    DEFAULT_TENANT,
    FOLDS,
    Alert,
    AlertKind,
    Decision,
    ExpertId,
    Feedback,
    JsonObject,
    Label,
    PromptReceived,
    Reason,
    RequestId,
    ResponseReceived,
    Retrieved,
)

VERSION = 1
PROMPT_BYTES = 64 * 1024
RESPONSE_BYTES = 1024 * 1024
COMMENT_BYTES = 16 * 1024
EXPERTS = 1_000
LARGEST = 2**63 - 1
KINDS = ("prompt", "response", "feedback", "decision", "label", "alert")


def decode_prompt(raw: bytes, *, now: datetime, limit: int = PROMPT_BYTES) -> PromptReceived:
    """Return the prompt in ``raw``; its text has at most ``limit`` bytes of UTF-8."""
    event = _open(raw, "prompt")
    _check_created_at(event, now=now)
    allowed = event.optional(partial(event.identifiers, limit=EXPERTS), "allowed_experts")
    if allowed == ():
        raise event.refusal("empty_field", "allowed_experts", "must name an expert, or be null")
    pinned = event.optional(event.identifier, "expert")
    return PromptReceived(
        request_id=RequestId(event.identifier("request_id")),
        text=_prompt_text(event, limit=limit),
        received_at=now,
        tenant=event.optional(event.identifier, "tenant") or DEFAULT_TENANT,
        session_id=event.optional(event.identifier, "session_id"),
        allowed_experts=None if allowed is None else tuple(map(ExpertId, allowed)),
        pinned_expert=None if pinned is None else ExpertId(pinned),
        needs=_stated(event.child("needs")) if event.has("needs") else NO_NEEDS,
        check=_checked(event.raw("check")) if event.has("check") else None,
    )


def _checked(body: object) -> str:
    """Return a check as JSON, once it is known to be one; what it says is read again when used."""
    read_check(body)
    return json.dumps(body, separators=(",", ":"))


def _stated(needs: Fields) -> Needs:
    """Return what a sender says that a request needs."""
    regions = needs.optional(partial(needs.identifiers, limit=REGIONS), "regions")
    if regions == ():
        raise needs.refusal("empty_field", "regions", "must name a region, or be null")
    return Needs(
        tools=bool(needs.optional(needs.flag, "tools")),
        json_mode=bool(needs.optional(needs.flag, "json_mode")),
        regions=regions,
        output_tokens=needs.optional(needs.count, "output_tokens"),
    )


def _prompt_text(event: Fields, *, limit: int) -> str:
    if event.has("messages"):
        if event.has("prompt"):
            raise event.refusal("conflicting_fields", "messages", "and prompt exclude each other")
        text = render(event, limit=limit)
        if (size := len(text.encode())) > limit:
            problem = f"have {size} bytes of UTF-8, the limit is {limit}"
            raise event.refusal("prompt_too_long", "messages", problem)
        return text
    text = event.text("prompt", limit=limit, code="prompt_too_long")
    if not text.strip():
        raise event.refusal("empty_field", "prompt", "must not be empty")
    return text


def decode_response(raw: bytes, *, now: datetime) -> ResponseReceived:
    """Return the response in ``raw``."""
    event = _open(raw, "response")
    _check_created_at(event, now=now)
    amount = partial(event.number, low=0.0)
    return ResponseReceived(
        request_id=RequestId(event.identifier("request_id")),
        expert=ExpertId(event.identifier("expert")),
        received_at=now,
        text=event.optional(partial(event.text, limit=RESPONSE_BYTES), "text"),
        cost_usd=event.optional(amount, "cost_usd"),
        input_tokens=event.optional(event.count, "input_tokens"),
        output_tokens=event.optional(event.count, "output_tokens"),
        latency_ms=event.optional(amount, "latency_ms"),
        error=event.optional(partial(event.choice, kind=CallError), "error"),
    )


def decode_feedback(raw: bytes, *, now: datetime) -> Feedback:
    """Return the feedback in ``raw``."""
    event = _open(raw, "feedback")
    _check_created_at(event, now=now)
    return Feedback(
        idempotency_key=event.identifier("idempotency_key"),
        request_id=RequestId(event.identifier("request_id")),
        rating=event.number("rating", low=0.0, high=1.0),
        source=event.identifier("source"),
        received_at=now,
        comment=event.optional(partial(event.text, limit=COMMENT_BYTES), "comment"),
    )


def encode_prompt(prompt: PromptReceived) -> bytes:
    """Return a prompt as an event; its instant becomes ``created_at``."""
    body = _fields_of(prompt, "request_id tenant session_id allowed_experts")
    body |= {"prompt": prompt.text, "expert": prompt.pinned_expert}
    if prompt.needs != NO_NEEDS:
        body["needs"] = _fields_of(prompt.needs, "tools json_mode regions output_tokens")
    if prompt.check is not None:
        body["check"] = json.loads(prompt.check)
    return _seal("prompt", body | {"created_at": prompt.received_at})


def encode_response(response: ResponseReceived) -> bytes:
    """Return a response as an event; its instant becomes ``created_at``."""
    names = "request_id expert text cost_usd input_tokens output_tokens latency_ms"
    body = _fields_of(response, names) | {"created_at": response.received_at}
    return _seal("response", body | ({} if response.error is None else {"error": response.error}))


def encode_feedback(feedback: Feedback) -> bytes:
    """Return feedback as an event; its instant becomes ``created_at``."""
    body = _fields_of(feedback, "request_id idempotency_key rating source comment")
    return _seal("feedback", body | {"created_at": feedback.received_at})


_DECISION = (
    "request_id tenant decided_at expert reason policy propensity inclusion_probability "
    "is_sampled due_experts reference gap gap_confidence comparator_probability category "
    "threshold risk_target effective_labels state_version group fold would_serve would_reason "
    "degraded timings_us seq excluded"
)
_RETRIEVED = "expert cosine score utility is_candidate"
_LABEL = "request_id expert judge_version outcome score purpose labelled_at"
_ALERT = "kind subject message guarantee evidence raised_at alert_id"


def decision_body(decision: Decision) -> JsonObject:
    """Return every field of a decision, ``candidates`` spelt out, as HTTP shows it too."""
    body = _fields_of(decision, _DECISION)
    body["retrieved"] = [_fields_of(one, _RETRIEVED) for one in decision.retrieved]
    body["needs"] = decision.needs.to_json()
    body["duel"] = None if decision.duel is None else decision.duel.to_json()
    body["candidates"] = [one.expert for one in decision.retrieved if one.is_candidate]
    return body


def encode_decision(decision: Decision) -> bytes:
    """Return a decision as an event."""
    return _seal("decision", decision_body(decision))


def encode_label(label: Label) -> bytes:
    """Return a label as an event."""
    return _seal("label", _fields_of(label, _LABEL))


def encode_alert(alert: Alert) -> bytes:
    """Return an alert as an event."""
    return _seal("alert", _fields_of(alert, _ALERT))


def decode_decision(raw: bytes) -> Decision:
    """Return the decision in ``raw``."""
    event = _open(raw, "decision")
    chance = partial(event.number, low=0.0, high=1.0)
    whole = partial(event.count, high=LARGEST)
    would_serve = event.optional(event.identifier, "would_serve")
    return Decision(
        request_id=RequestId(event.identifier("request_id")),
        tenant=event.identifier("tenant"),
        decided_at=event.instant("decided_at"),
        expert=ExpertId(event.identifier("expert")),
        reason=event.choice("reason", Reason),
        policy=event.identifier("policy"),
        propensity=chance("propensity"),
        inclusion_probability=chance("inclusion_probability"),
        is_sampled=event.flag("is_sampled"),
        due_experts=tuple(map(ExpertId, event.identifiers("due_experts", limit=EXPERTS))),
        reference=ExpertId(event.identifier("reference")),
        retrieved=tuple(_retrieved(one) for one in event.objects("retrieved", limit=EXPERTS)),
        gap=event.optional(event.number, "gap"),
        gap_confidence=event.optional(chance, "gap_confidence"),
        comparator_probability=event.optional(chance, "comparator_probability"),
        category=event.text("category", limit=COMMENT_BYTES),
        threshold=event.number("threshold"),
        risk_target=event.number("risk_target"),
        effective_labels=event.number("effective_labels", low=0.0),
        state_version=whole("state_version"),
        group=event.text("group", limit=COMMENT_BYTES),
        fold=event.count("fold", high=FOLDS - 1),
        would_serve=None if would_serve is None else ExpertId(would_serve),
        would_reason=event.optional(lambda name: event.choice(name, Reason), "would_reason"),
        degraded=event.flag("degraded"),
        timings_us=event.child("timings_us").counts(),
        seq=event.optional(whole, "seq"),
        needs=_needed(event.child("needs")) if event.has("needs") else NO_NEEDS,
        excluded=_excluded(event.child("excluded")) if event.has("excluded") else {},
        duel=_duel(event.child("duel")) if event.has("duel") else None,
    )


def _needed(needs: Fields) -> Needs:
    allowed = needs.optional(partial(needs.identifiers, limit=EXPERTS), "allowed")
    return replace(_stated(needs), allowed=allowed, input_tokens=needs.count("input_tokens"))


def _excluded(reasons: Fields) -> dict[ExpertId, str]:
    return {ExpertId(name): reasons.identifier(name) for name in reasons.names()}


def _duel(pair: Fields) -> Duel:
    return Duel(
        first=pair.identifier("first"),
        second=pair.identifier("second"),
        probability=pair.number("probability", low=0.0, high=1.0),
    )


def _retrieved(one: Fields) -> Retrieved:
    return Retrieved(
        expert=ExpertId(one.identifier("expert")),
        cosine=one.number("cosine"),
        score=one.optional(one.number, "score"),
        utility=one.optional(one.number, "utility"),
        is_candidate=one.flag("is_candidate"),
    )


def decode_label(raw: bytes) -> Label:
    """Return the label in ``raw``."""
    event = _open(raw, "label")
    return Label(
        request_id=RequestId(event.identifier("request_id")),
        expert=ExpertId(event.identifier("expert")),
        judge_version=event.identifier("judge_version"),
        outcome=event.count("outcome", high=1),
        score=event.optional(partial(event.number, low=0.0, high=1.0), "score"),
        purpose=event.identifier("purpose"),
        labelled_at=event.instant("labelled_at"),
    )


def decode_alert(raw: bytes) -> Alert:
    """Return the alert in ``raw``."""
    event = _open(raw, "alert")
    return Alert(
        kind=event.choice("kind", AlertKind),
        subject=event.text("subject", limit=COMMENT_BYTES),
        message=event.text("message", limit=COMMENT_BYTES),
        guarantee=event.text("guarantee", limit=COMMENT_BYTES),
        evidence=event.child("evidence").numbers(),
        raised_at=event.instant("raised_at"),
        alert_id=event.optional(partial(event.count, high=LARGEST), "alert_id"),
    )


@cache
def schema_of(kind: str) -> JsonObject:
    """Return the JSON Schema (draft 2020-12) of a kind of event, one of ``KINDS``."""
    text = resources.files("ingest").joinpath("schemas", f"{kind}.v{VERSION}.json").read_text()
    schema: JsonObject = json.loads(text)
    return schema


def _open(raw: bytes, kind: str) -> Fields:
    """Check the envelope; an event of another topic or a newer version is not guessed at."""
    body = read_object(raw)
    event = Fields(body)
    if event.raw("schema") != f"steersman.{kind}":
        raise event.refusal("unknown_schema", "schema", f"must be steersman.{kind}")
    version = event.raw("version")
    if isinstance(version, bool) or version != VERSION:  # True == 1
        raise event.refusal("unknown_version", "version", f"must be {VERSION}")
    return event


def _check_created_at(event: Fields, *, now: datetime) -> None:
    event.optional(partial(event.past, now=now), "created_at")


def _fields_of(record: object, names: str) -> JsonObject:
    return {name: getattr(record, name) for name in names.split()}


def _seal(kind: str, body: JsonObject) -> bytes:
    """Serialise; ASCII escapes, so that no text whatever can fail to encode."""
    envelope: JsonObject = {"schema": f"steersman.{kind}", "version": VERSION}
    return json.dumps(envelope | body, allow_nan=False, default=_plain).encode()


def _plain(value: object) -> object:
    """Return what JSON can hold of instants, mappings and numpy scalars."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong in an event")
