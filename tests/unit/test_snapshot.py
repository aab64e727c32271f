"""Routing states survive being stored, and nothing damaged or implausible is ever loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from online import snapshot
from online.categories import NAMES
from online.snapshot import checksum, dump, load_state
from online.state import RoutingState
from store.errors import StateRefused
from store.records import SAFE, ExpertId, Reason
from tests.unit.state_fakes import scorer, state

PAYLOAD = dump(state())


def reopened(payload: bytes) -> RoutingState:
    return load_state(payload, sha256=checksum(payload))


def header_of(payload: bytes) -> dict[str, Any]:
    length = int.from_bytes(payload[:8], "little")
    header: dict[str, Any] = json.loads(
        json.loads(payload[8 : 8 + length])["__metadata__"]["header"]
    )
    return header


def with_header(change: Callable[[dict[str, Any]], object]) -> bytes:
    header = header_of(PAYLOAD)
    change(header)
    return save(load(PAYLOAD), metadata={"header": json.dumps(header, sort_keys=True)})


def with_array(name: str, change: Callable[[Any], Any]) -> bytes:
    tensors = load(PAYLOAD)
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    return save(tensors, metadata={"header": json.dumps(header_of(PAYLOAD), sort_keys=True)})


@pytest.mark.parametrize(
    "made",
    [
        state(),
        state(threshold=SAFE),
        state(threshold=0.1 + 0.2, alpha=0.07, cost_weight=0.3),
        replace(state(threshold=SAFE), model=None, safe_reason=Reason.SAFE_COLD),
    ],
)
def test_a_state_comes_back_as_it_was(made: RoutingState) -> None:
    payload = dump(made)
    again = reopened(payload)
    assert dump(again) == payload
    assert again.binding == made.binding
    assert (again.threshold, again.policy, again.pool) == (made.threshold, made.policy, made.pool)


def test_equal_states_give_equal_bytes() -> None:
    assert dump(state()) == PAYLOAD
    assert dump(state(model=scorer(seed=1))) != PAYLOAD


def test_the_binding_ignores_lambda_and_what_only_the_judge_costs() -> None:
    made = state()
    assert replace(made, threshold=0.9, version=8, parent=7).binding == made.binding
    assert state(judge_budget_per_day=5, hold=True).binding == made.binding
    assert state(cost_weight=0.5).binding != made.binding
    assert state(costs={ExpertId("a"): 0.3}).binding != made.binding
    assert state(model=scorer(seed=1)).binding != made.binding


def test_fields_of_a_newer_version_are_ignored() -> None:
    def newer(header: dict[str, Any]) -> None:
        header["gate"] = {"t1": 0.5}
        header["policy"]["pacer"] = True
        header["pool"][0]["region"] = "north"

    again = reopened(with_header(newer))
    assert dump(again) == PAYLOAD


def test_a_wrong_checksum_is_refused() -> None:
    with pytest.raises(StateRefused, match="checksum"):
        load_state(PAYLOAD, sha256="0" * 64)


@settings(max_examples=300)
@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255))
def test_any_damaged_byte_is_refused(position: int, change: int) -> None:
    damaged = bytearray(PAYLOAD)
    damaged[position] ^= change
    with pytest.raises(StateRefused):
        load_state(bytes(damaged), sha256=checksum(PAYLOAD))


@settings(max_examples=500)
@given(st.one_of(st.integers(0, 4_000), st.integers(0, len(PAYLOAD) - 1)), st.integers(1, 255))
def test_a_damaged_byte_under_a_fresh_checksum_loads_or_is_refused(
    position: int, change: int
) -> None:
    """A writer that went wrong: nothing but ``StateRefused`` may come of reading it."""
    damaged = bytearray(PAYLOAD)
    damaged[position] ^= change
    try:
        reopened(bytes(damaged))
    except StateRefused:
        return


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 200, 4_000, len(PAYLOAD) - 1])
def test_a_torn_payload_is_refused(length: int) -> None:
    with pytest.raises(StateRefused):
        reopened(PAYLOAD[:length])


@pytest.mark.parametrize("junk", [b"", b"\x80\x04N.", b'{"kind": 1}', b"\xff" * 64])
def test_foreign_bytes_are_refused(junk: bytes) -> None:
    with pytest.raises(StateRefused):
        reopened(junk)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update(format=2),
        lambda h: h.update(kind="steersman.clusters"),
        lambda h: h.pop("kind"),
        lambda h: h.pop("threshold"),
        lambda h: h.update(threshold=float("nan")),
        lambda h: h.update(threshold=-0.1),
        lambda h: h.update(threshold=2.5),
        lambda h: h.update(threshold="0.4"),
        lambda h: h.update(threshold=True),
        lambda h: h.update(threshold=2.0),
        lambda h: h.update(safe_reason="safe_starved"),
        lambda h: h.update(safe_reason="bored", threshold=2.0),
        lambda h: h.update(effective_labels=float("nan")),
        lambda h: h.update(version=None),
        lambda h: h.update(encoder=3),
        lambda h: h.update(pool={}),
        lambda h: h.update(pool=[]),
        lambda h: h["pool"].pop(0),
        lambda h: h["pool"][1].update(status="famous"),
        lambda h: h["pool"][1]["price"].update(request_usd=-1.0),
        lambda h: h["pool"][1]["price"].update(request_usd=0.0),
        lambda h: h["pool"][1]["price"].update(request_usd=float("nan")),
        lambda h: h["pool"][1]["price"].update(colour=1.0),
        lambda h: h.update(policy=[]),
        lambda h: h["policy"].update(alpha=2.0),
        lambda h: h["policy"].update(reference="nobody"),
        lambda h: h["columns"].pop(),
        lambda h: h["columns"].append("stranger"),
        lambda h: h.update(columns=["a"] * 6),
        lambda h: h.update(columns=["a", "b", "c", "d", "e", "e"]),
    ],
)
def test_implausible_headers_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(StateRefused):
        reopened(with_header(change))


@pytest.mark.parametrize("header", ["[]", "3", '"text"', "null", "{", "[" * 3_000])
def test_a_header_that_is_no_object_is_refused(header: str) -> None:
    with pytest.raises(StateRefused):
        reopened(save(load(PAYLOAD), metadata={"header": header}))


def test_a_payload_without_our_header_is_refused() -> None:
    with pytest.raises(StateRefused):
        reopened(save(load(PAYLOAD)))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_free_expert_is_refused(bad: float) -> None:
    with pytest.raises(StateRefused, match="cost"):
        reopened(with_array("relative_costs", lambda a: np.where(a == a[2], bad, a)))


def test_relative_costs_of_another_pool_are_refused() -> None:
    with pytest.raises(StateRefused):
        reopened(with_array("relative_costs", lambda a: a[:-1]))


ARRAYS = (
    *("centroids", "table", "evidence", "descriptors", "calibration", "gap", "comparator"),
    "regressors",
)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:-1],
        lambda a: a[:, :-1],
        lambda a: a[None],
        lambda a: a.ravel(),
        lambda a: np.where(a == a.flat[3], np.nan, a),
        lambda a: np.where(a == a.flat[3], np.inf, a),
        lambda a: a.astype(np.int64),
        lambda a: a.astype(np.float16),
    ],
)
def test_wrong_shapes_types_and_numbers_are_refused(
    name: str, change: Callable[[Any], Any]
) -> None:
    with pytest.raises(StateRefused):
        reopened(with_array(name, change))


def test_a_state_from_before_the_regressors_loads() -> None:
    """And what is loaded is written as it was."""
    tensors = load(PAYLOAD)
    del tensors["regressors"]
    header = {name: x for name, x in header_of(PAYLOAD).items() if name != "categories"}
    older = save(tensors, metadata={"header": json.dumps(header, sort_keys=True)})
    found = reopened(older)
    assert found.model is not None
    assert found.model.regressors is None
    assert dump(found) == older


@pytest.mark.parametrize("told", [NAMES[::-1], NAMES[:-1], (*NAMES, "law"), None])
def test_a_state_of_other_categories_loads_without_their_regressors(
    told: tuple[str, ...] | None,
) -> None:
    header = header_of(PAYLOAD) | {"categories": told}
    tensors = load(PAYLOAD)
    count = len(told or NAMES)
    tensors["regressors"] = np.zeros((5, count, *tensors["regressors"].shape[2:]))
    found = reopened(save(tensors, metadata={"header": json.dumps(header)}))
    assert found.model is not None
    assert found.model.regressors is None


def test_a_missing_array_is_refused() -> None:
    tensors = load(PAYLOAD)
    del tensors["gap"]
    with pytest.raises(StateRefused):
        reopened(save(tensors, metadata={"header": json.dumps(header_of(PAYLOAD))}))


def test_more_than_the_limit_is_neither_written_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_BYTES", len(PAYLOAD))
    assert dump(state()) == PAYLOAD
    monkeypatch.setattr(snapshot, "MAX_BYTES", len(PAYLOAD) - 1)
    with pytest.raises(StateRefused, match="bytes"):
        dump(state())
    with pytest.raises(StateRefused, match="bytes"):
        reopened(PAYLOAD)
