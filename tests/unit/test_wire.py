"""The wire format refuses by code, survives any bytes and agrees with its schemas."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import wire
from ingest.fields import RFC_3339
from store.duels import Duel
from store.errors import EventRejected
from store.health import CallError
from store.needs import Needs
from store.records import (
    Alert,
    AlertKind,
    Decision,
    ExpertId,
    Feedback,
    Label,
    PromptReceived,
    Reason,
    RequestId,
    ResponseReceived,
    Retrieved,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROMPT = {"schema": "steersman.prompt", "version": 1, "request_id": "r1", "prompt": "why?"}
RESPONSE = {"schema": "steersman.response", "version": 1, "request_id": "r1", "expert": "small"}
FEEDBACK = {
    "schema": "steersman.feedback",
    "version": 1,
    "request_id": "r1",
    "idempotency_key": "k1",
    "rating": 0.5,
    "source": "thumbs",
}


def prompt(**changes: object) -> PromptReceived:
    return wire.decode_prompt(json.dumps(PROMPT | changes).encode(), now=NOW)


def chat(*messages: object) -> str:
    body = {name: value for name, value in PROMPT.items() if name != "prompt"}
    raw = json.dumps(body | {"messages": list(messages)}).encode()
    return wire.decode_prompt(raw, now=NOW).text


def response(**changes: object) -> ResponseReceived:
    return wire.decode_response(json.dumps(RESPONSE | changes).encode(), now=NOW)


def feedback(**changes: object) -> Feedback:
    return wire.decode_feedback(json.dumps(FEEDBACK | changes).encode(), now=NOW)


def refusal(call: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(EventRejected) as caught:
        call()
    return caught.value.code, caught.value.field


def test_a_prompt_is_read_with_its_defaults() -> None:
    expected = PromptReceived(request_id=RequestId("r1"), text="why?", received_at=NOW)
    assert prompt(unknown={"field": [1]}) == expected


def test_every_optional_field_of_a_prompt_is_read() -> None:
    event = prompt(tenant="t", session_id="s", allowed_experts=["a", "b", "a"], expert="b")
    assert (event.tenant, event.session_id, event.pinned_expert) == ("t", "s", "b")
    assert event.allowed_experts == ("a", "b")


def test_a_fact_is_dated_by_our_clock_not_the_senders() -> None:
    event = prompt(created_at="1999-12-31T23:59:59Z")
    assert event.received_at == NOW


def test_a_lone_user_message_is_the_same_prompt_as_its_text() -> None:
    assert chat({"role": "user", "content": "why?"}) == "why?"
    assert chat({"role": "user", "content": [{"type": "text", "text": "why?"}]}) == "why?"


def test_a_chat_is_rendered_to_one_text() -> None:
    text = chat(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": "c"},
    )
    assert text == "system: Be brief.\n\nuser: a\nb\n\nuser: c"


PROMPT_REFUSALS: list[tuple[dict[str, object], str, str]] = [
    ({"schema": "steersman.response"}, "unknown_schema", "schema"),
    ({"schema": None}, "missing_field", "schema"),
    ({"version": 2}, "unknown_version", "version"),
    ({"version": "1"}, "unknown_version", "version"),
    ({"version": True}, "unknown_version", "version"),
    ({"request_id": None}, "missing_field", "request_id"),
    ({"request_id": ""}, "empty_field", "request_id"),
    ({"request_id": " "}, "empty_field", "request_id"),
    ({"request_id": 7}, "wrong_type", "request_id"),
    ({"request_id": "x" * 201}, "id_too_long", "request_id"),
    ({"request_id": "x" * 10_000}, "id_too_long", "request_id"),
    ({"request_id": "a\x00"}, "control_character", "request_id"),
    ({"request_id": "a\n"}, "control_character", "request_id"),
    ({"request_id": "a\x85"}, "control_character", "request_id"),
    ({"request_id": "a\ud800"}, "lone_surrogate", "request_id"),
    ({"prompt": None}, "missing_field", "prompt"),
    ({"prompt": ""}, "empty_field", "prompt"),
    ({"prompt": "\n"}, "empty_field", "prompt"),
    ({"prompt": ["a"]}, "wrong_type", "prompt"),
    ({"prompt": "a\x00b"}, "control_character", "prompt"),
    ({"prompt": "\udfff"}, "lone_surrogate", "prompt"),
    ({"prompt": "é" * 32_769}, "prompt_too_long", "prompt"),
    ({"messages": []}, "conflicting_fields", "messages"),
    ({"prompt": None, "messages": []}, "empty_field", "messages"),
    ({"prompt": None, "messages": "hi"}, "wrong_type", "messages"),
    ({"prompt": None, "messages": ["hi"]}, "wrong_type", "messages[0]"),
    ({"prompt": None, "messages": [{"content": "hi"}]}, "missing_field", "messages[0].role"),
    ({"prompt": None, "messages": [{"role": "user", "content": 3}]}, "wrong_type",
     "messages[0].content"),
    ({"prompt": None, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
     "unsupported_content", "messages[0].content[0].type"),
    ({"prompt": None, "messages": [{"role": "user", "content": "x" * 40_000}] * 2},
     "prompt_too_long", "messages"),
    ({"prompt": None, "messages": [{"role": "user"}] * 2_001}, "too_many_items", "messages"),
    ({"allowed_experts": []}, "empty_field", "allowed_experts"),
    ({"allowed_experts": ["a", 3]}, "wrong_type", "allowed_experts[1]"),
    ({"allowed_experts": "a"}, "wrong_type", "allowed_experts"),
    ({"created_at": "yesterday"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01T12:00:00"}, "invalid_time", "created_at"),
    ({"created_at": "0001-01-01T00:00:00+14:00"}, "invalid_time", "created_at"),
    ({"created_at": "20260301T110000Z"}, "invalid_time", "created_at"),
    ({"created_at": "2026-W09-7T11:00:00Z"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01 11:00:00Z"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01T11:00Z"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01T11:00:00,5Z"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01T11:00:00+01"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01T11:00:00+01:00:30"}, "invalid_time", "created_at"),
    ({"created_at": "2026-02-30T11:00:00Z"}, "invalid_time", "created_at"),
    ({"created_at": "2026-03-01T11:00:0\u0660Z"}, "invalid_time", "created_at"),
    ({"created_at": 3}, "wrong_type", "created_at"),
    ({"created_at": "2026-03-01T13:00:01Z"}, "far_future", "created_at"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "field"), PROMPT_REFUSALS)
def test_a_prompt_is_refused_with_code_and_field(
    changes: dict[str, object], code: str, field: str
) -> None:
    assert refusal(lambda: prompt(**changes)) == (code, field)


@pytest.mark.parametrize(
    ("needs", "code", "field"),
    [
        ("tools", "wrong_type", "needs"),
        ({"tools": "yes"}, "wrong_type", "needs.tools"),
        ({"json_mode": 1}, "wrong_type", "needs.json_mode"),
        ({"regions": []}, "empty_field", "needs.regions"),
        ({"regions": ["eu", ""]}, "empty_field", "needs.regions[1]"),
        ({"regions": ["r"] * 33}, "too_many_items", "needs.regions"),
        ({"output_tokens": -1}, "negative_number", "needs.output_tokens"),
    ],
)
def test_needs_are_refused_with_code_and_field(needs: object, code: str, field: str) -> None:
    assert refusal(lambda: prompt(needs=needs)) == (code, field)


@pytest.mark.parametrize(
    ("stated", "code", "field"),
    [
        ("exact", "wrong_type", "check"),
        ({}, "missing_field", "check.kind"),
        ({"kind": "magic"}, "unknown_value", "check.kind"),
        ({"kind": ["exact"]}, "unknown_value", "check.kind"),
        ({"kind": "exact"}, "missing_field", "check.answer"),
        ({"kind": "exact", "answer": 3}, "wrong_type", "check.answer"),
        ({"kind": "exact", "answer": ["a", 3]}, "wrong_type", "check.answer"),
        ({"kind": "exact", "answer": ["a", " . "]}, "empty_field", "check.answer"),
        ({"kind": "exact", "answer": ["a"] * 101}, "too_many_items", "check.answer"),
        ({"kind": "numeric", "answer": True}, "wrong_type", "check.answer"),
        ({"kind": "numeric", "answer": "about 3"}, "unknown_value", "check.answer"),
        ({"kind": "numeric", "answer": "3 leagues"}, "unknown_value", "check.answer"),
        ({"kind": "numeric", "answer": "3 or 4"}, "unknown_value", "check.answer"),
        ({"kind": "numeric", "answer": 3, "tolerance": "1%"}, "wrong_type", "check.tolerance"),
        ({"kind": "numeric", "answer": 3, "tolerance": 1.5}, "out_of_range", "check.tolerance"),
        ({"kind": "numeric", "answer": 3, "absolute": -1}, "out_of_range", "check.absolute"),
        ({"kind": "choice", "answer": "AB"}, "unknown_value", "check.answer"),
        ({"kind": "choice", "answer": "C", "options": ["a", "b"]}, "out_of_range", "check.answer"),
        ({"kind": "regex", "pattern": "("}, "invalid_pattern", "check.pattern"),
        ({"kind": "regex", "pattern": "x" * 1_001}, "invalid_pattern", "check.pattern"),
        ({"kind": "regex", "pattern": "(?R)"}, "invalid_pattern", "check.pattern"),
        ({"kind": "regex", "pattern": "((?:a|b){999}){999}"}, "invalid_pattern", "check.pattern"),
        ({"kind": "regex", "pattern": "a{" + "9" * 900}, "invalid_pattern", "check.pattern"),
        ({"kind": "regex", "pattern": r"(?<n>a)\\(?&n)"}, "invalid_pattern", "check.pattern"),
        (
            {"kind": "json_schema", "schema": {"anyOf": [{}] * 1_000}},
            "invalid_schema",
            "check.schema",
        ),
        ({"kind": "json_schema", "schema": []}, "wrong_type", "check.schema"),
        ({"kind": "json_schema", "schema": {"type": "text"}}, "invalid_schema", "check.schema"),
        (
            {"kind": "json_schema", "schema": {"properties": {"a": {"pattern": "("}}}},
            "invalid_schema",
            "check.schema",
        ),
        (
            {"kind": "json_schema", "schema": {"items": {"patternProperties": {"x": True}}}},
            "invalid_schema",
            "check.schema",
        ),
        ({"kind": "python_tests", "tests": " "}, "empty_field", "check.tests"),
        ({"kind": "exact", "answer": "é" * 40_000}, "text_too_long", "check"),
    ],
)
def test_a_check_is_refused_with_code_and_field(stated: object, code: str, field: str) -> None:
    assert refusal(lambda: prompt(check=stated)) == (code, field)


def test_a_refused_check_is_not_quoted() -> None:
    for stated in (
        {"kind": "hunter2"},
        {"kind": "regex", "pattern": "(hunter2"},
        {"kind": "json_schema", "schema": {"type": "hunter2"}},
        {"kind": "numeric", "answer": "hunter2"},
    ):
        with pytest.raises(EventRejected) as caught:
            prompt(check=stated)
        assert "hunter2" not in str(caught.value)


def test_a_check_nested_too_deep_is_refused() -> None:
    deep: object = {}
    for _ in range(400):
        deep = {"not": deep}
    assert refusal(lambda: prompt(check={"kind": "json_schema", "schema": deep}))[0] in {
        "invalid_schema",
        "text_too_long",
    }


def test_needs_are_optional_and_unknown_ones_are_accepted() -> None:
    assert prompt().needs == prompt(needs=None).needs == prompt(needs={"speed": 9}).needs == Needs()
    # The body of an OpenAI call may be passed on as it is: its tools are not our needs.
    assert prompt(tools=[{"type": "function"}]).needs == Needs()
    # The router counts a prompt itself.
    assert prompt(needs={"input_tokens": 10**9}).needs == Needs()


@pytest.mark.parametrize("length", [1, 200])
def test_an_id_has_up_to_200_characters(length: int) -> None:
    assert prompt(request_id="é" * length).request_id == "é" * length


def test_the_prompt_limit_counts_bytes_and_is_an_argument() -> None:
    raw = json.dumps(PROMPT | {"prompt": "éé"}).encode()
    assert wire.decode_prompt(raw, now=NOW, limit=4).text == "éé"
    assert refusal(lambda: wire.decode_prompt(raw, now=NOW, limit=3))[0] == "prompt_too_long"


def test_an_hour_ahead_is_still_accepted() -> None:
    assert prompt(created_at=(NOW + timedelta(hours=1)).isoformat()).received_at == NOW


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"expert": None}, "missing_field", "expert"),
        ({"cost_usd": -0.01}, "negative_number", "cost_usd"),
        ({"cost_usd": "1"}, "wrong_type", "cost_usd"),
        ({"cost_usd": True}, "wrong_type", "cost_usd"),
        ({"cost_usd": 10**400}, "not_finite", "cost_usd"),
        ({"input_tokens": -1}, "negative_number", "input_tokens"),
        ({"input_tokens": 1.5}, "wrong_type", "input_tokens"),
        ({"output_tokens": 2**31}, "out_of_range", "output_tokens"),
        ({"output_tokens": 10**400}, "out_of_range", "output_tokens"),
        ({"latency_ms": [1]}, "wrong_type", "latency_ms"),
        ({"text": 5}, "wrong_type", "text"),
        ({"error": "sulking"}, "unknown_value", "error"),
        ({"error": True}, "wrong_type", "error"),
        ({"text": "a\x00"}, "control_character", "text"),
        ({"text": "x" * (wire.RESPONSE_BYTES + 1)}, "text_too_long", "text"),
    ],
)
def test_a_response_is_refused_with_code_and_field(
    changes: dict[str, object], code: str, field: str
) -> None:
    assert refusal(lambda: response(**changes)) == (code, field)


def test_a_response_may_have_no_text() -> None:
    event = response(text=None, cost_usd=0, input_tokens=3, latency_ms=-0.0)
    assert (event.text, event.cost_usd, event.input_tokens) == (None, 0.0, 3)
    assert event.latency_ms is not None
    assert math.copysign(1.0, event.latency_ms) == 1.0


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"rating": None}, "missing_field", "rating"),
        ({"rating": 1.01}, "out_of_range", "rating"),
        ({"rating": -1}, "negative_number", "rating"),
        ({"rating": "good"}, "wrong_type", "rating"),
        ({"idempotency_key": ""}, "empty_field", "idempotency_key"),
        ({"source": None}, "missing_field", "source"),
        ({"comment": "x" * (wire.COMMENT_BYTES + 1)}, "text_too_long", "comment"),
    ],
)
def test_feedback_is_refused_with_code_and_field(
    changes: dict[str, object], code: str, field: str
) -> None:
    assert refusal(lambda: feedback(**changes)) == (code, field)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "unreadable_json"),
        (b"\xff\xfe{}", "unreadable_json"),
        (b'{"prompt": ', "unreadable_json"),
        (b"[" * 200_000, "unreadable_json"),
        (b'{"a":' * 100_000, "unreadable_json"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "unreadable_json"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b'{"extra": NaN}', "not_finite"),
        (b'{"extra": [-Infinity]}', "not_finite"),
        (b'{"extra": 1e999}', "not_finite"),
        (b"{}", "missing_field"),
    ],
)
def test_bytes_that_are_no_event_are_refused(raw: bytes, code: str) -> None:
    assert refusal(lambda: wire.decode_prompt(raw, now=NOW))[0] == code


@pytest.mark.parametrize("field", ["prompt", "request_id", "created_at", "tenant"])
def test_a_refusal_never_quotes_the_event(field: str) -> None:
    with pytest.raises(EventRejected) as caught:
        prompt(**{field: "secret\x00" * 20_000})
    assert "secret" not in f"{caught.value} {caught.value.message} {caught.value.__cause__}"


# Busy machines must not fail a property by the clock.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Strategies: ids and texts that a ledger can hold.
plain = st.characters(blacklist_categories=["Cs", "Cc"])
ids = st.text(plain, min_size=1, max_size=200).filter(lambda name: bool(name.strip()))
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"))
experts = ids.map(ExpertId)
requests = ids.map(RequestId)
instants = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
chances = st.floats(0, 1).map(abs)
finite = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
amounts = st.floats(0, 1e9).map(abs)
counts = st.integers(0, 2**31 - 1)
serials = st.integers(0, 2**63 - 1)

stated: dict[str, st.SearchStrategy[Any]] = {
    "tools": st.booleans(),
    "json_mode": st.booleans(),
    "regions": st.none() | st.lists(ids, min_size=1, max_size=3, unique=True).map(tuple),
    "output_tokens": st.none() | counts,
}
checks = st.sampled_from(
    [
        {"kind": "exact", "answer": "Paris"},
        {"kind": "exact", "answer": ["NYC", "ニューヨーク"], "later": [1.5]},
        {"kind": "numeric", "answer": "3.5 km", "tolerance": 0.01},
        {"kind": "numeric", "answer": -2, "absolute": 0.5},
        {"kind": "choice", "answer": "b", "options": ["red", "green"]},
        {"kind": "regex", "pattern": r"\d{4}"},
        {"kind": "json_schema", "schema": {"type": "object", "required": ["a"]}},
        {"kind": "python_tests", "tests": "assert f(1) == 2\n"},
    ]
).map(lambda body: json.dumps(body, separators=(",", ":")))
prompts = st.builds(
    PromptReceived,
    request_id=requests,
    text=texts.filter(lambda text: bool(text.strip())),
    received_at=instants,
    tenant=ids,
    session_id=st.none() | ids,
    allowed_experts=st.none() | st.lists(experts, min_size=1, max_size=4, unique=True).map(tuple),
    pinned_expert=st.none() | experts,
    needs=st.builds(Needs, **stated),
    check=st.none() | checks,
)
responses = st.builds(
    ResponseReceived,
    request_id=requests,
    expert=experts,
    received_at=instants,
    text=st.none() | texts,
    cost_usd=st.none() | amounts,
    input_tokens=st.none() | counts,
    output_tokens=st.none() | counts,
    latency_ms=st.none() | amounts,
    error=st.none() | st.sampled_from(CallError),
)
feedbacks = st.builds(
    Feedback,
    idempotency_key=ids,
    request_id=requests,
    rating=chances,
    source=ids,
    received_at=instants,
    comment=st.none() | texts,
)
retrieved = st.builds(
    Retrieved,
    expert=experts,
    cosine=finite,
    score=st.none() | finite,
    utility=st.none() | finite,
    is_candidate=st.booleans(),
)
decisions = st.builds(
    Decision,
    request_id=requests,
    tenant=ids,
    decided_at=instants,
    expert=experts,
    reason=st.sampled_from(Reason),
    policy=ids,
    propensity=chances,
    inclusion_probability=chances,
    is_sampled=st.booleans(),
    due_experts=st.lists(experts, max_size=3, unique=True).map(tuple),
    reference=experts,
    retrieved=st.lists(retrieved, max_size=3).map(tuple),
    gap=st.none() | finite,
    gap_confidence=st.none() | chances,
    comparator_probability=st.none() | chances,
    category=texts,
    threshold=finite,
    risk_target=finite,
    effective_labels=amounts,
    state_version=serials,
    group=texts,
    fold=st.integers(0, 4),
    degraded=st.booleans(),
    timings_us=st.dictionaries(texts, serials, max_size=3),
    seq=st.none() | serials,
    needs=st.builds(
        Needs,
        allowed=st.none() | st.lists(ids, max_size=3, unique=True).map(tuple),
        input_tokens=counts,
        **stated,
    ),
    excluded=st.dictionaries(experts, ids, max_size=3),
    duel=st.none() | st.builds(Duel, first=ids, second=ids, probability=chances),
)
labels = st.builds(
    Label,
    request_id=requests,
    expert=experts,
    judge_version=ids,
    outcome=st.sampled_from([0, 1]),
    score=st.none() | chances,
    purpose=ids,
    labelled_at=instants,
)
alerts = st.builds(
    Alert,
    kind=st.sampled_from(AlertKind),
    subject=texts,
    message=texts,
    guarantee=texts,
    evidence=st.dictionaries(texts, finite, max_size=3),
    raised_at=instants,
    alert_id=st.none() | serials,
)


def check(kind: str, raw: bytes) -> None:
    schema = wire.schema_of(kind)
    jsonschema.Draft202012Validator(schema).validate(json.loads(raw))


@unhurried
@given(prompts)
def test_prompts_survive_the_wire(event: PromptReceived) -> None:
    raw = wire.encode_prompt(event)
    assert wire.decode_prompt(raw, now=event.received_at) == event
    check("prompt", raw)


@unhurried
@given(responses)
def test_responses_survive_the_wire(event: ResponseReceived) -> None:
    raw = wire.encode_response(event)
    assert wire.decode_response(raw, now=event.received_at) == event
    check("response", raw)


@unhurried
@given(feedbacks)
def test_feedback_survives_the_wire(event: Feedback) -> None:
    raw = wire.encode_feedback(event)
    assert wire.decode_feedback(raw, now=event.received_at) == event
    check("feedback", raw)


@unhurried
@given(decisions)
def test_decisions_survive_the_wire(event: Decision) -> None:
    raw = wire.encode_decision(event)
    assert wire.decode_decision(raw) == event
    check("decision", raw)


@unhurried
@given(labels)
def test_labels_survive_the_wire(event: Label) -> None:
    raw = wire.encode_label(event)
    assert wire.decode_label(raw) == event
    check("label", raw)


@unhurried
@given(alerts)
def test_alerts_survive_the_wire(event: Alert) -> None:
    raw = wire.encode_alert(event)
    assert wire.decode_alert(raw) == event
    check("alert", raw)


DECODERS: list[Callable[[bytes], object]] = [
    lambda raw: wire.decode_prompt(raw, now=NOW),
    lambda raw: wire.decode_response(raw, now=NOW),
    lambda raw: wire.decode_feedback(raw, now=NOW),
    wire.decode_decision,
    wire.decode_label,
    wire.decode_alert,
]


def decodes_or_rejects(raw: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(raw)
        except EventRejected as rejected:
            assert rejected.code  # noqa: PT017 - either outcome is right


@unhurried
@given(st.binary())
def test_any_bytes_decode_or_are_rejected(raw: bytes) -> None:
    decodes_or_rejects(raw)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    sorted({name for kind in wire.KINDS for name in json.dumps(wire.schema_of(kind)).split('"')})
)


@unhurried
@given(st.sampled_from(wire.KINDS), st.dictionaries(names, anything, max_size=12))
def test_any_object_decodes_or_is_rejected(kind: str, body: dict[str, object]) -> None:
    envelope = {"schema": f"steersman.{kind}", "version": 1}
    decodes_or_rejects(json.dumps(body | envelope).encode())


@unhurried
@given(st.sampled_from([PROMPT, RESPONSE, FEEDBACK]), st.data())
def test_what_is_accepted_agrees_with_the_schema(
    base: dict[str, object], data: st.DataObject
) -> None:
    kind = str(base["schema"]).removeprefix("steersman.")
    name = data.draw(st.sampled_from([*base, "messages", "cost_usd", "text", "allowed_experts"]))
    raw = json.dumps(base | {name: data.draw(anything)}).encode()
    try:
        DECODERS[wire.KINDS.index(kind)](raw)
    except EventRejected:
        return
    check(kind, raw)


BLANK = "".join(chr(c) for c in range(0x110000) if chr(c).isspace())
BOTH_REFUSE = [
    (PROMPT, {"needs": {"regions": [" "]}}),
    (PROMPT, {"check": {"answer": "x"}}),
    (PROMPT, {"check": {"kind": "magic"}}),
    (PROMPT, {"check": {"kind": "exact", "answer": []}}),
    (PROMPT, {"check": {"kind": "numeric", "answer": 1, "tolerance": 2}}),
    (PROMPT, {"check": {"kind": "choice", "answer": 1}}),
    (PROMPT, {"check": {"kind": "regex", "pattern": "x" * 1_001}}),
    (PROMPT, {"check": {"kind": "json_schema", "schema": "object"}}),
    (PROMPT, {"check": {"kind": "python_tests"}}),
    (PROMPT, {"prompt": " "}),
    (PROMPT, {"prompt": BLANK}),
    (PROMPT, {"prompt": "a\x00"}),
    (PROMPT, {"prompt": None, "messages": [{"role": "user", "content": "a\x00"}]}),
    (PROMPT, {"request_id": "\u3000"}),
    (PROMPT, {"tenant": " "}),
    (PROMPT, {"allowed_experts": ["a", "\xa0"]}),
    (PROMPT, {"needs": {"output_tokens": 1.5}}),
    (PROMPT, {"created_at": "20260301T110000Z"}),
    (PROMPT, {"created_at": "2026-W09-7T11:00:00Z"}),
    (PROMPT, {"created_at": "2026-03-01T24:00:00Z"}),
    (RESPONSE, {"text": "\x00"}),
    (FEEDBACK, {"comment": "a\x00b"}),
]
BOTH_ACCEPT = [
    (PROMPT, {"check": {"kind": "numeric", "answer": "$3.50", "tolerance": None}}),
    (PROMPT, {"check": {"kind": "json_schema", "schema": True}}),
    (PROMPT, {"check": None}),
    (PROMPT, {"needs": {"regions": [" eu "], "output_tokens": 1.0}}),
    (PROMPT, {"prompt": f"{BLANK}\x01"}),
    (PROMPT, {"prompt": "\ufeff", "request_id": "\ufeff"}),
    (PROMPT, {"created_at": "2026-03-01t11:00:00.123456789z"}),
    (PROMPT, {"created_at": "2026-03-01T11:00:00-00:00"}),
    (RESPONSE, {"text": "", "output_tokens": 3.0}),
    (FEEDBACK, {"comment": "\n"}),
]


def decoded_and_valid(base: dict[str, object], changes: dict[str, object]) -> tuple[bool, bool]:
    kind = str(base["schema"]).removeprefix("steersman.")
    raw = json.dumps(base | changes).encode()
    is_valid = jsonschema.Draft202012Validator(wire.schema_of(kind)).is_valid(json.loads(raw))
    try:
        DECODERS[wire.KINDS.index(kind)](raw)
    except EventRejected:
        return False, is_valid
    return True, is_valid


@pytest.mark.parametrize(("base", "changes"), BOTH_REFUSE)
def test_the_schema_refuses_what_the_decoder_refuses(
    base: dict[str, object], changes: dict[str, object]
) -> None:
    assert decoded_and_valid(base, changes) == (False, False)


@pytest.mark.parametrize(("base", "changes"), BOTH_ACCEPT)
def test_the_schema_accepts_what_the_decoder_accepts(
    base: dict[str, object], changes: dict[str, object]
) -> None:
    assert decoded_and_valid(base, changes) == (True, True)


@pytest.mark.parametrize("kind", wire.KINDS)
def test_the_schema_says_the_same_of_times_as_the_decoder(kind: str) -> None:
    fields = cast("dict[str, dict[str, object]]", wire.schema_of(kind)["properties"])
    times = [field for field in fields.values() if "format" in field]
    assert [field["pattern"] for field in times] == [f"^{RFC_3339.pattern}$"]


def test_a_whole_number_may_be_written_with_a_point() -> None:
    tokens = prompt(needs={"output_tokens": 1.0}).needs.output_tokens
    assert (tokens, type(tokens)) == (1, int)


def test_numpy_numbers_are_encoded_as_json_numbers() -> None:
    evidence = {"e_value": np.float64(20.0), "labels": np.int64(3), "low": np.float32(0.5)}
    alert = Alert(
        kind=AlertKind.EXPERT_REGRESSION,
        subject="e",
        message="m",
        guarantee="g",
        evidence=cast("dict[str, float]", evidence),
        raised_at=NOW,
    )
    read = wire.decode_alert(wire.encode_alert(alert)).evidence
    assert read == {"e_value": 20.0, "labels": 3.0, "low": 0.5}


@pytest.mark.parametrize("kind", wire.KINDS)
def test_each_schema_is_valid_and_names_its_event(kind: str) -> None:
    schema = wire.schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:steersman:{kind}:1"
