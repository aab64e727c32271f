"""What describes experts and what became of them, on every ledger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from store.clock import ManualClock
from store.describing import Descriptor, DescriptorKind
from store.judging import Quarantine
from store.ledger import Ledger
from store.lives import FirstRoute, Share, Step
from store.records import PROBE, ExpertId, ExpertStatus, Float32Array, Reason
from tests.factories import (
    CHEAP,
    NOON,
    PROBE_SET,
    STRONG,
    decided,
    expert,
    label,
    later,
    probe_answer,
)


def vector(*numbers: float) -> Float32Array:
    made = np.array(numbers, dtype=np.float32)
    unit: Float32Array = made / np.linalg.norm(made)
    return unit


def descriptor(**changes: object) -> Descriptor:
    made = Descriptor(
        expert=CHEAP,
        kind=DescriptorKind.FINGERPRINT,
        recipe="r1",
        vector=vector(3.0, 4.0),
        made_at=NOON,
        details={"probes": 192},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_descriptor_comes_back_bit_for_bit_and_the_newest_replaces(ledger: Ledger) -> None:
    newer = descriptor(vector=vector(1.0, 2.0, 2.0), made_at=later(5), details={})
    others = [
        descriptor(recipe="r2"),
        descriptor(kind=DescriptorKind.PROFILE),
        descriptor(expert=STRONG),
    ]
    with ledger.begin() as tx:
        for one in (descriptor(), newer, *others):
            tx.describing.keep(one)
        own, everybody = tx.describing.descriptors(CHEAP), tx.describing.descriptors()
    assert [(d.kind, d.recipe) for d in own] == [
        (DescriptorKind.FINGERPRINT, "r1"),
        (DescriptorKind.FINGERPRINT, "r2"),
        (DescriptorKind.PROFILE, "r1"),
    ]
    assert own[0].vector.dtype == np.float32
    assert own[0].vector.tobytes() == newer.vector.tobytes()
    assert (own[0].made_at, own[0].details, own[1].details) == (later(5), {}, {"probes": 192})
    assert [d.expert for d in everybody] == [CHEAP, CHEAP, CHEAP, STRONG]


@pytest.mark.parametrize(
    "numbers", [[3.0, 4.0], [0.0, 0.0], [float("nan"), 1.0], [[1.0, 0.0]]], ids=str
)
def test_only_finite_unit_rows_are_descriptors(ledger: Ledger, numbers: list[float]) -> None:
    wrong = np.array(numbers, dtype=np.float32)
    with ledger.begin() as tx, pytest.raises(ValueError, match="descriptor"):
        tx.describing.keep(descriptor(vector=wrong))


def test_a_probe_answer_is_kept_once_and_as_it_was_said(ledger: Ledger) -> None:
    odd = probe_answer(2, text="U+0000 \x00, \u2028, no number", grade=None, input_tokens=None)
    with ledger.begin() as tx:
        stored = [tx.describing.answer(one) for one in (odd, probe_answer(0), probe_answer(0))]
        tx.describing.answer(probe_answer(0, expert=STRONG))
        tx.describing.answer(probe_answer(0, probe_set="b"))
        found = tx.describing.answers(CHEAP, probe_set=PROBE_SET)
        assert tx.describing.spent(CHEAP) == (3, 0.75)
        assert tx.describing.spent(ExpertId("nobody")) == (0, 0.0)
    assert stored == [True, True, False]
    assert found == [probe_answer(0), odd]


def test_dropped_texts_leave_grades_and_costs_and_may_come_again(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for number in range(4):
            tx.describing.answer(probe_answer(number))
    with ledger.begin() as tx:
        assert tx.describing.drop_texts(before=later(3), limit=2) == 2
        assert tx.describing.drop_texts(before=later(3), limit=2) == 1
        assert tx.describing.drop_texts(before=later(3), limit=2) == 0
        found = tx.describing.answers(CHEAP, probe_set=PROBE_SET)
        assert found == [*(probe_answer(n, text=None) for n in range(3)), probe_answer(3)]
        assert tx.describing.answer(probe_answer(1, text="again", answered_at=later(9)))
        assert not tx.describing.answer(probe_answer(3, text="again"))
        assert tx.describing.answers(CHEAP, probe_set=PROBE_SET)[1].text == "again"


def test_forgetting_an_expert_leaves_the_others(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for name in (CHEAP, STRONG):
            tx.describing.keep(descriptor(expert=name))
            tx.describing.answer(probe_answer(0, expert=name))
        assert tx.describing.forget(CHEAP) == 2
        assert tx.describing.forget(CHEAP) == 0
        assert tx.describing.answers(CHEAP, probe_set=PROBE_SET) == []
        assert [d.expert for d in tx.describing.descriptors()] == [STRONG]
        assert tx.describing.spent(STRONG) == (1, 0.25)


def test_every_status_is_remembered_in_order(ledger: Ledger) -> None:
    steps = [
        (ExpertStatus.REGISTERED, ExpertStatus.DESCRIBED),
        (ExpertStatus.DESCRIBED, ExpertStatus.SHADOW),
    ]
    with ledger.begin() as tx:
        tx.experts.add(expert(CHEAP, status=ExpertStatus.REGISTERED))
        tx.experts.add(expert(STRONG))
        for before, after in steps:
            assert tx.experts.set_status(CHEAP, before=before, after=after, now=later(5))
        lost = tx.experts.set_status(
            CHEAP, before=ExpertStatus.RAMPING, after=ExpertStatus.CERTIFIED, now=later(6)
        )
        assert not lost
        found = tx.lives.steps(CHEAP)
        assert tx.lives.steps(ExpertId("nobody")) == []
    assert found == [
        Step(ExpertStatus.REGISTERED, NOON),
        Step(ExpertStatus.DESCRIBED, later(5)),
        Step(ExpertStatus.SHADOW, later(5)),
    ]


def test_an_expert_that_recovers_steps_back_where_it_was(ledger: Ledger) -> None:
    certified = ExpertStatus.CERTIFIED
    with ledger.begin() as tx:
        tx.experts.add(expert(CHEAP, status=certified))
        tx.experts.set_status(CHEAP, before=certified, after=ExpertStatus.PAUSED, now=later(1))
        before = tx.experts.find(CHEAP)
        assert before is not None
        failing = replace(before.health, since=later(1), was="certified")
        tx.experts.set_health(CHEAP, before=before.health, after=failing)
        held = tx.experts.find(CHEAP)
        assert held is not None
        assert tx.experts.recover(held, health=replace(failing, since=None), now=later(2))
        found = tx.lives.steps(CHEAP)
    assert [(s.status, s.at) for s in found[1:]] == [
        (ExpertStatus.PAUSED, later(1)),
        (certified, later(2)),
    ]


def test_the_first_route_is_the_first_that_routing_chose(ledger: Ledger) -> None:
    made = [
        decided("pinned", expert=CHEAP, reason=Reason.PINNED, decided_at=later(1)),
        decided("observed", expert=CHEAP, reason=Reason.OBSERVED, decided_at=later(2)),
        decided("other", expert=STRONG, reason=Reason.ROUTED, decided_at=later(3)),
        decided("ramp", expert=CHEAP, reason=Reason.RAMP, decided_at=later(4), state_version=7),
        decided("late", expert=CHEAP, reason=Reason.ROUTED, decided_at=later(5)),
        decided("night", expert=CHEAP, reason=Reason.ROUTED, decided_at=later(20 * 3600)),
    ]
    with ledger.begin() as tx:
        tx.decisions.record(made)
    with ledger.begin() as tx:
        first = tx.lives.first_route(CHEAP, since=NOON)
        assert first == FirstRoute(at=later(4), state_version=7)
        second = tx.lives.first_route(CHEAP, since=later(4.5))
        assert second is not None
        assert second.at == later(5)
        tomorrow = tx.lives.first_route(CHEAP, since=later(6))
        assert tomorrow is not None
        assert tomorrow.at == later(20 * 3600)
        assert tx.lives.first_route(ExpertId("nobody"), since=NOON) is None
        assert tx.lives.share(CHEAP, since=NOON) == Share(served=3, ramped=1, decisions=4)
        assert tx.lives.share(CHEAP, since=later(6)) == Share(served=1, ramped=0, decisions=1)
        assert tx.lives.share(CHEAP, since=later(30 * 3600)) == Share(
            served=0, ramped=0, decisions=0
        )


def test_labels_got_are_counted_once_a_request_without_probes_and_the_distrusted(
    ledger: Ledger, clock: ManualClock
) -> None:
    made = [decided(f"r{n}", is_sampled=True, decided_at=later(n)) for n in range(5)]
    given = [
        label("r0", expert=CHEAP, labelled_at=later(1)),
        label("r0", expert=CHEAP, labelled_at=later(1), judge_version="second-1"),
        label("r1", expert=CHEAP, labelled_at=later(2), purpose=PROBE),
        label("r2", expert=CHEAP, labelled_at=later(3), judge_version="liar-1"),
        label("r3", expert=CHEAP, labelled_at=later(4)),
        label("r3", expert=STRONG, labelled_at=later(4)),
        label("r4", expert=CHEAP, labelled_at=later(5)),
    ]
    liar = Quarantine(judge_version="liar-1", since=NOON, reason="x", imposed_at=later(6))
    with ledger.begin() as tx:
        tx.decisions.record(made)
        tx.labels.add([], given)
        tx.judging.quarantine(liar, actor="test")
    with ledger.begin() as tx:
        assert tx.lives.labels(CHEAP, since=NOON, until=later(9)) == 3
        assert tx.lives.labels(CHEAP, since=NOON, until=later(4)) == 2
        assert tx.lives.labels(CHEAP, since=later(2), until=later(4)) == 1
        assert tx.lives.labels(STRONG, since=NOON, until=later(9)) == 1
