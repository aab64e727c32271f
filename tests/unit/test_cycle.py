"""The recalibration cycle over the memory ledger: what goes live, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ingest.announce import announce_alert
from ingest.local import LocalLoop
from judge.recorded import PositionBiasedJudge
from online.snapshot import dump
from recalibrate import alarms, inputs, scoring
from recalibrate.controller import Threshold
from recalibrate.cycle import Recalibrator
from recalibrate.guard import approved
from store.errors import StateRefused
from store.records import (
    SAFE,
    AlertKind,
    AuditEntry,
    Calibration,
    ExpertId,
    ExpertStatus,
    Price,
    Reason,
    RoutingStateRecord,
)
from store.upkeep import REWOUND
from tests.factories import NOON, alert
from tests.unit import state_fakes
from tests.unit.loop_fakes import (
    SMALL,
    STRONG,
    TINY,
    TRAINED,
    alerts_of,
    cheap_share,
    expert_of,
    loop,
    policy,
    regret,
    run,
    scorer_of,
    state_of,
    traffic,
    trained,
)

pytestmark = pytest.mark.usefixtures("few_cycles")


def history(made: LocalLoop) -> list[RoutingStateRecord]:
    with made.ledger.begin() as tx:
        return tx.states.history(limit=100)


def calibrations(made: LocalLoop) -> list[Calibration]:
    with made.ledger.begin() as tx:
        return tx.states.calibrations(limit=100)


def set_status(made: LocalLoop, name: ExpertId, before: ExpertStatus, after: ExpertStatus) -> None:
    with made.ledger.begin() as tx:
        assert tx.experts.set_status(name, before=before, after=after, now=made.clock.now())


def test_the_loop_saves_cost_and_stays_within_its_target() -> None:
    made = trained(more=400)
    served = run(made, first=TRAINED)
    assert cheap_share(served) > 0.4
    assert regret(served) <= 0.2
    assert state_of(made).safe_reason is None


def test_before_anything_is_learnt_the_reference_serves() -> None:
    made = trained(90)
    assert state_of(made).safe_reason is Reason.SAFE_COLD
    assert cheap_share(run(trained(0, more=90))) == 0.0


def test_every_state_has_its_calibration_and_was_published_over_its_parent() -> None:
    made = trained()
    states = history(made)
    assert [s.version for s in states] == list(range(len(states), 0, -1))
    assert all(s.parent == s.version - 1 for s in states)
    assert [c.state_version for c in calibrations(made)] == [s.version for s in states]


def restarted(made: LocalLoop) -> Recalibrator:
    return Recalibrator(
        made.ledger,
        made.clock,
        encoder=state_of(made).encoder,
        announce=announce_alert,
        send=lambda messages: None,
    )


def test_two_learners_from_one_ledger_compute_the_same_bytes() -> None:
    made = trained()
    one, other = restarted(made), restarted(made)
    assert one.step() is not None
    made.settle(judge=False)
    first = state_of(made)
    assert other.step() is not None
    made.settle(judge=False)
    second = state_of(made)
    assert dump(replace(second, version=first.version, parent=first.parent)) == dump(first)


@pytest.mark.parametrize(
    "change", [{"alpha": 0.05}, {"label_rate": 0.25}, {"cost_weight": 0.1}, {"epsilon": 0.0}]
)
def test_a_policy_change_is_a_new_state(change: dict[str, float]) -> None:
    made = trained()
    before = state_of(made)
    made.set_policy(policy(**change))
    made.settle()
    after = state_of(made)
    assert after.version == before.version + 1
    assert after.policy == policy(**change)
    assert history(made)[0].cause == "policy"
    if "alpha" in change:
        assert after.threshold > before.threshold


def learnt_anew(made: LocalLoop) -> int:
    """Settle until learning has caught up; return how many states that took."""
    before = state_of(made).version
    for _ in range(2 * TRAINED // PIECE):
        made.settle(judge=False)
    return state_of(made).version - before


PIECE = 50


def test_a_new_price_is_in_force_before_learning_has_started_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trained()
    monkeypatch.setattr(scoring, "AT_ONCE", PIECE)
    before = scorer_of(made)
    with made.ledger.begin() as tx:
        tx.experts.set_price(SMALL, Price(request_usd=0.6))
    made.settle(judge=False)
    state, model = state_of(made), scorer_of(made)
    assert state.members[SMALL].price.request_usd == 0.6
    assert model.relative_costs[model.columns.index(SMALL)] == pytest.approx(0.6)
    assert model.table.tolist() == before.table.tolist()
    assert state.safe_reason is None

    assert learnt_anew(made) == 1
    anew = scorer_of(made)
    assert anew.relative_costs.tolist() == model.relative_costs.tolist()
    monkeypatch.setattr(scoring, "AT_ONCE", TRAINED)
    restarted(made).step()
    made.settle(judge=False)
    assert scorer_of(made).sha256() == anew.sha256()


def test_a_new_expert_is_in_the_pool_before_learning_has_started_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = loop(traffic(TRAINED), experts=[STRONG, SMALL])
    run(made)
    monkeypatch.setattr(scoring, "AT_ONCE", PIECE)
    made.add_expert(TINY, Price(request_usd=0.05))
    assert TINY in state_of(made).members
    assert TINY not in scorer_of(made).columns
    assert state_of(made).safe_reason is None
    assert learnt_anew(made) >= 1
    assert TINY in scorer_of(made).columns


def test_labels_against_an_old_reference_do_not_calibrate_the_new_one() -> None:
    """Everybody is acceptable against the weakest; that says nothing about the strongest."""
    made = trained(more=320, reference=TINY)
    assert state_of(made).threshold < SAFE
    made.set_policy(policy(reference=STRONG))
    made.settle()
    assert state_of(made).safe_reason in {Reason.SAFE_COLD, Reason.SAFE_STARVED}
    assert state_of(made).effective_labels == 0.0
    served = run(made, first=TRAINED)
    assert regret(served) <= 0.2
    assert state_of(made).safe_reason is None
    assert state_of(made).effective_labels <= 320


def test_labels_do_not_replace_a_state_that_has_served_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "MIN_NEW_LABELS", 20)
    made = trained(more=80)
    ids = list(made.traffic.prompts)
    list(made.serve(ids[TRAINED : TRAINED + 64], judge=lambda: False))
    published = []
    for _ in range(4):
        assert made.worker.step()
        published.append(made.recalibrator.step())
    assert [version is not None for version in published] == [True, False, False, False]
    made.settle()
    (*served,) = made.serve(ids[TRAINED + 64 :], judge=lambda: False)
    assert served[0].decision.state_version == published[0]
    assert state_of(made).version == served[0].decision.state_version + 1


def test_a_paused_expert_leaves_the_pool_at_once() -> None:
    made = trained(more=64)
    set_status(made, SMALL, ExpertStatus.CERTIFIED, ExpertStatus.PAUSED)
    made.settle()
    assert SMALL not in state_of(made).members
    assert SMALL not in scorer_of(made).columns
    assert all(s.decision.expert != SMALL for s in run(made, first=TRAINED))


def test_a_paused_reference_is_refused_and_the_last_good_state_stays() -> None:
    made = trained()
    kept = state_of(made).version
    set_status(made, STRONG, ExpertStatus.CERTIFIED, ExpertStatus.PAUSED)
    for _ in range(3):
        made.settle()
    assert state_of(made).version == kept
    assert [a.kind for a in alerts_of(made)] == [AlertKind.STATE_REFUSED]
    assert "paused" in alerts_of(made)[0].message


def test_a_refused_state_keeps_the_old_one_and_alerts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trained(more=320)
    kept, written = state_of(made).version, len(calibrations(made))

    def refuse(*_: object) -> None:
        raise StateRefused("implausible")

    with monkeypatch.context() as broken:
        broken.setattr("recalibrate.cycle.approved", refuse)
        served = run(made, first=TRAINED, last=TRAINED + 240)
    assert {s.decision.state_version for s in served} == {kept}
    assert len(calibrations(made)) == written
    (alert,) = alerts_of(made)
    assert (alert.kind, alert.evidence) == (AlertKind.STATE_REFUSED, {"kept_version": float(kept)})
    run(made, first=TRAINED + 240)
    made.set_policy(policy(alpha=0.19))
    made.settle()
    assert state_of(made).version > kept


def superseding(made: LocalLoop, real: Callable[..., Any]) -> Callable[..., Any]:
    def slower(*given: Any) -> Any:
        with made.ledger.begin() as tx:
            active = tx.states.active()
            assert active is not None
            tx.states.publish(replace(active, version=active.version + 1, parent=active.version))
        return real(*given)

    return slower


def test_a_superseded_state_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained(110)
    before = state_of(made).version
    statuses = [expert_of(made, name).status for name in (SMALL, TINY)]
    written = len(calibrations(made))
    made.set_policy(policy(alpha=0.19))
    with monkeypatch.context() as raced:
        raced.setattr("recalibrate.cycle.approved", superseding(made, approved))
        assert made.recalibrator.step() is None
    assert len(calibrations(made)) == written
    assert [expert_of(made, name).status for name in (SMALL, TINY)] == statuses
    assert alerts_of(made) == []
    assert history(made)[0].version == before + 1
    assert made.recalibrator.step() == before + 2


def test_a_stopped_judge_lets_lambda_age_into_safe_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "AGE_EVERY_REQUESTS", 100)
    made = trained(more=1_000, label_discount=1.0, age_half_life_requests=300)
    assert state_of(made).safe_reason is None
    ids = list(made.traffic.prompts)
    list(made.serve(ids[TRAINED:1_000], judge=lambda: False))
    assert state_of(made).safe_reason is Reason.SAFE_STARVED
    assert cheap_share(list(made.serve(ids[1_000:1_100], judge=lambda: False))) == 0.0
    assert [a.kind for a in alerts_of(made)] == [AlertKind.LABEL_STARVATION]
    run(made, first=1_100)
    assert state_of(made).safe_reason is None


@pytest.mark.parametrize(
    ("mode", "effect"),
    [
        ("apply", "the reference serves everything until"),
        ("observe", "routing would serve nothing but the reference until"),
    ],
)
def test_starvation_says_what_it_changes_in_this_mode(mode: str, effect: str) -> None:
    starved = Threshold.safe(Reason.SAFE_STARVED, "99.0 effective labels")
    found = alarms.starvation(state_fakes.state(mode=mode), starved, mode=mode, now=NOON)
    assert found is not None
    assert f"λ went to SAFE with 99.0 effective labels: {effect} labels come again" in found.message


def test_the_cut_of_the_window_outlives_a_hundred_other_alerts() -> None:
    made = loop(traffic(1))
    with made.ledger.begin() as tx:
        tx.operations.raise_alert(alert(evidence={"window_from": 150.0}))
        for n in range(120):
            tx.operations.raise_alert(alert(kind=AlertKind.EXPERT_FAILING, subject=f"e{n}"))
    found = inputs.read_inputs(made.ledger, made.clock)
    assert found is not None
    assert found.from_seq == 150


def test_a_position_biased_judge_leaves_no_more_than_the_target_to_others() -> None:
    made = trained(more=300, judge=PositionBiasedJudge(), alpha=0.1)
    served = run(made, first=TRAINED)
    assert cheap_share(served) <= 0.1 + 3.0 * (0.1 * 0.9 / 300) ** 0.5


# Dropped and erased days

DAY_S = 86_400.0


def two_days() -> LocalLoop:
    """A loop that has judged requests on two days, with more traffic to come."""
    made = trained(TRAINED // 2, more=TRAINED)
    made.clock.advance(DAY_S)
    run(made, first=TRAINED // 2, last=TRAINED)
    return made


def restart(made: LocalLoop) -> None:
    """Publish what a learner makes that has just been started."""
    made.recalibrator = restarted(made)
    made.settle()


def drop_first_day(made: LocalLoop) -> bool:
    with made.ledger.begin() as tx:
        return tx.upkeep.drop_facts(tx.upkeep.days()[0], actor="ann", now=made.clock.now())


def erase_first_day(made: LocalLoop) -> bool:
    with made.ledger.begin() as tx:
        day = tx.upkeep.days()[0]
        erased = tx.upkeep.erase(
            day, tenant="default", session_id=None, actor="ann", now=made.clock.now()
        )
    return erased.embeddings > 0


@pytest.mark.parametrize("go", [drop_first_day, erase_first_day])
def test_after_facts_have_gone_a_learner_and_a_restarted_one_publish_the_same_bits(
    go: Callable[[LocalLoop], bool],
) -> None:
    made = two_days()
    before = state_of(made)
    assert go(made)
    made.settle()
    without = state_of(made)
    restart(made)
    again = state_of(made)
    assert before.version < without.version < again.version
    assert before.model is not None
    assert without.model is not None
    assert again.model is not None
    assert without.model.sha256() != before.model.sha256()
    assert again.model.sha256() == without.model.sha256()
    assert again.threshold == without.threshold
    assert again.effective_labels == without.effective_labels


def test_learning_goes_on_after_facts_have_gone() -> None:
    made = two_days()
    assert drop_first_day(made)
    made.settle()
    labels = made.recalibrator.labels
    run(made, first=TRAINED, last=TRAINED + 64)
    assert made.recalibrator.labels > labels
    restart(made)
    assert made.recalibrator.labels >= labels


def test_dropping_text_alone_changes_nothing_that_was_learnt() -> None:
    made = two_days()
    before = state_of(made)
    with made.ledger.begin() as tx:
        for day in tx.upkeep.days():
            assert tx.upkeep.drop_text(day, actor="ann", now=made.clock.now())
    made.settle()
    assert state_of(made).version == before.version
    restart(made)
    assert before.model is not None
    assert scorer_of(made).sha256() == before.model.sha256()


def test_learning_starts_over_after_a_rewind_that_filled_the_restored_ledger_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bug: with its decisions taken back, a restored ledger was as long as before, and the learner
    went on with labels that it no longer held.
    """
    made = trained()
    rewound = AuditEntry(actor="cli", action=REWOUND, detail={}, at=made.clock.now())
    with made.ledger.begin() as tx:
        tx.operations.audit(rewound)
    with caplog.at_level("INFO"):
        made.settle()
        made.settle()
    said = [r.getMessage() for r in caplog.records]
    assert said.count("learn.started_over") == 1
