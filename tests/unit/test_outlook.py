"""The go/no-go report: no label chooses the λ that it is looked at under, and no word too much."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from ingest.local import LocalLoop
from online.learner import LabelWindow
from online.route import route
from recalibrate import crossfit
from recalibrate.controller import Threshold
from recalibrate.crossfit import STRETCH, Evidence, Stretch, stretches, threshold_at, trials
from recalibrate.go import Answer, answer_of
from recalibrate.inputs import read_inputs
from recalibrate.observing import Observation, observe
from recalibrate.outlook import Outlook, Spending, outlook
from recalibrate.outlook_words import document, lines
from recalibrate.realised import Interval, Verdict, realised_risk, spread, widened
from recalibrate.window import rescore, settled
from store.clock import ManualClock
from store.errors import NotFound
from store.memory import MemoryLedger
from store.needs import Capabilities
from store.records import FOLDS, Reason
from tests.factories import NOON, prompt
from tests.unit.loop_fakes import SMALL, STRONG, TINY, ClusterEncoder, loop, run, state_of, traffic

ALPHA = 0.2


@cache
def watched() -> LocalLoop:
    """A loop that has observed 500 requests, all judged."""
    made = loop(traffic(500), mode="observe", alpha=ALPHA)
    run(made)
    return made


def evidence(made: LocalLoop) -> Evidence:
    inputs, window = (
        read_inputs(made.ledger, made.clock),
        LabelWindow(encoder=ClusterEncoder.identity),
    )
    window.read(made.ledger)
    state = state_of(made)
    assert inputs is not None
    assert state.model is not None
    rows = settled(window.rows(), watermark=inputs.watermark, reference=STRONG)
    labels = rescore(rows, state.model, inputs.experts)
    return Evidence(state=state, labels=labels, last_seq=inputs.last_seq, from_seq=0)


def flipped(given: Evidence, fold: int) -> Evidence:
    """The same evidence with every label of one fold turned round."""
    inside = np.array([row.request.fold == fold for row in given.labels.rows])
    acceptable = given.labels.acceptable ^ (inside[:, None] & given.labels.judged)
    return replace(given, labels=replace(given.labels, acceptable=acceptable))


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_fold_is_looked_at_under_thresholds_that_its_own_labels_do_not_move(fold: int) -> None:
    given = evidence(watched())
    before = stretches(given, given.state.policy)
    after = stretches(flipped(given, fold), given.state.policy)
    assert [s.thresholds[fold] for s in before] == [s.thresholds[fold] for s in after]
    others = [k for k in range(FOLDS) if k != fold]
    assert all(
        a.thresholds[k] != b.thresholds[k]
        for a, b in zip(before, after, strict=True)
        for k in others
    )


def test_a_stretch_knows_no_later_label() -> None:
    given = evidence(watched())
    whole = stretches(given, given.state.policy)
    half = len(given.labels.rows) // 2
    first = replace(given, labels=given.labels.only(range(half)))
    known = [s for s in stretches(first, given.state.policy) if len(s.rows) == STRETCH]
    ready = [
        (a, b) for a, b in zip(known, whole, strict=False) if a.thresholds[0].effective_labels > 100
    ]
    assert ready
    for one, other in ready:
        assert [r.request.seq for r in one.rows] == [r.request.seq for r in other.rows]
        assert one.thresholds == other.thresholds


def test_every_request_is_looked_at_once() -> None:
    given = evidence(watched())
    seen = [row.request.seq for s in stretches(given, given.state.policy) for row in s.rows]
    assert seen == sorted(set(seen))
    assert len(seen) == len(given.labels.rows) - 1, "but for the one at which they joined"


def test_at_safe_the_reference_serves_and_nothing_is_lost() -> None:
    given = evidence(watched())
    safe = Threshold.safe(Reason.SAFE_INFEASIBLE, "no threshold meets the target")
    rows = tuple(given.labels.rows)
    held = Stretch(rows=rows, thresholds=dict.fromkeys(range(FOLDS), safe))
    found = trials(given, [held], given.state.policy, {})
    assert len(found) == len(rows)
    assert {(t.expert, t.is_unacceptable) for t in found} == {(STRONG, False)}


def test_an_expert_that_was_not_judged_counts_as_a_loss() -> None:
    given = evidence(watched())
    policy_ = given.state.policy
    [first, *_] = stretches(given, policy_)
    served = [t for t in trials(given, [first], policy_, {}) if t.expert != STRONG]
    assert served
    silent = tuple(replace(t.row, outcomes={}) for t in served)
    found = trials(given, [Stretch(rows=silent, thresholds=first.thresholds)], policy_, {})
    assert {(t.is_judged, t.is_unacceptable) for t in found} == {(False, True)}


def test_a_trial_is_routed_in_the_category_that_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: every trial was of unknown category, with another gap than its request had."""
    seen = []

    def spy(*given: Any, **told: Any) -> Any:
        seen.append(told["category"])
        return route(*given, **told)

    monkeypatch.setattr(crossfit, "route", spy)
    given = evidence(watched())
    [first, *_] = stretches(given, given.state.policy)
    kinds = [("coding", "reasoning", "unknown")[n % 3] for n in range(len(first.rows))]
    rows = tuple(
        replace(row, request=replace(row.request, category=kind))
        for row, kind in zip(first.rows, kinds, strict=True)
    )
    trials(given, [replace(first, rows=rows)], given.state.policy, {})
    assert seen == kinds


def test_who_could_serve_does_not_depend_on_the_text_being_there() -> None:
    """Texts are erased after 30 days; a long prompt stays one that the small experts cannot take.

    It was so when the request was decided, and the go/no-go report looks back further.
    """
    given = evidence(watched())
    pool = tuple(
        m if m.name == STRONG else replace(m, capabilities=Capabilities(context_tokens=1_000))
        for m in given.state.pool
    )
    given = replace(given, state=replace(given.state, pool=pool))
    text = "word " * 4_000
    rows = []
    for row in given.labels.rows[-50:]:
        request = row.request
        asked = prompt(request.request_id, text=text)
        decided = route(
            asked, request.embedding, given.state, fold=request.fold, category=request.category
        )
        rows.append(replace(row, request=replace(request, needs=decided.needs)))
    free = replace(threshold_at(given, given.state.policy), value=0.0, safe_reason=None)
    held = Stretch(rows=tuple(rows), thresholds=dict.fromkeys(range(FOLDS), free))
    texts = {row.request.request_id: text for row in rows}
    kept = trials(given, [held], given.state.policy, texts)
    erased = trials(given, [held], given.state.policy, {})
    assert {t.expert for t in erased} == {STRONG}
    assert erased == kept


@cache
def seen() -> Observation:
    return observe(watched().ledger, watched().clock)


def at(found: Observation, alpha: float) -> Outlook:
    return next(one for one in found.outlooks if one.alpha == alpha)


def test_the_observation_covers_the_usual_targets_and_the_one_in_force() -> None:
    assert [one.alpha for one in seen().outlooks] == [0.05, 0.1, 0.2]
    made = loop(traffic(224), mode="observe", alpha=0.15)
    run(made)
    assert [one.alpha for one in observe(made.ledger, made.clock).outlooks] == [
        0.05,
        0.1,
        0.15,
        0.2,
    ]


def test_a_stricter_target_risks_less_and_costs_more() -> None:
    strict, loose = at(seen(), 0.1), at(seen(), 0.2)
    assert strict.risk is not None
    assert loose.risk is not None
    assert strict.risk.rate is not None
    assert loose.risk.rate is not None
    assert strict.cost_share is not None
    assert loose.cost_share is not None
    assert strict.threshold > loose.threshold
    assert strict.risk.rate.value < loose.risk.rate.value
    assert strict.cost_share.value > loose.cost_share.value
    assert sum(e.share for e in loose.experts) == pytest.approx(1.0)
    assert loose.unjudged == 0


def test_the_threshold_shown_is_the_one_in_force() -> None:
    assert at(seen(), ALPHA).threshold == pytest.approx(state_of(watched()).threshold, abs=0.05)


def test_looking_changes_nothing() -> None:
    again = observe(watched().ledger, watched().clock)
    assert again == seen()


@pytest.mark.usefixtures("few_cycles")
def test_it_can_be_asked_in_every_mode() -> None:
    made = loop(traffic(224), alpha=ALPHA)
    run(made)
    for mode in ("apply", "off"):
        made.set_policy(replace(made.policy, mode=mode))
        made.settle()
        found = observe(made.ledger, made.clock)
        assert (found.mode, found.looked_at) == (mode, 223)
        assert at(found, ALPHA).risk is not None


@pytest.mark.usefixtures("few_cycles")
def test_a_changed_label_rate_weighs_each_request_by_how_rarely_it_was_drawn() -> None:
    made = loop(traffic(360), mode="observe", alpha=ALPHA)
    run(made, last=200)
    made.set_policy(replace(made.policy, label_rate=0.5))
    made.settle()
    run(made, first=200)
    one = at(observe(made.ledger, made.clock), ALPHA)
    assert one.is_weighted
    assert one.risk is not None
    halves = sum(e.requests for e in one.experts) - 200
    assert one.risk.requests == round((200 + 2 * halves) ** 2 / (200 + 4 * halves))


def test_without_stated_costs_the_expected_ones_count() -> None:
    given = evidence(watched())
    bare = Spending(stated={}, texts={})
    one = outlook(given, bare, alpha=ALPHA, labels_per_hour=None)
    priced = {STRONG: 1.0, SMALL: 0.2, TINY: 0.05}
    assert one.cost_share is not None
    expected = sum(e.share * priced[e.expert] for e in one.experts)
    assert one.cost_share.value == pytest.approx(expected)
    assert one.hours_left is None


def test_too_few_labels_are_not_yet_with_the_number_that_is_missing() -> None:
    made = loop(traffic(130), mode="observe", alpha=ALPHA)
    run(made)
    found = observe(made.ledger, made.clock)
    for one in found.outlooks:
        assert one.answer is Answer.NOT_YET
        assert one.risk is None
        assert one.labels_to_floor
        assert f"about {one.labels_to_floor} more are needed" in one.because
        assert one.hours_left is not None
    assert found.waiting is not None


def test_before_anything_is_learnt_there_is_nothing_to_expect() -> None:
    made = loop(traffic(32), mode="observe")
    run(made)
    found = observe(made.ledger, made.clock)
    assert found.outlooks == ()
    assert found.waiting is not None
    text = "\n".join(lines(found))
    assert found.waiting.text in text
    assert "Not yet" in text


def test_without_a_state_it_says_what_to_do() -> None:
    with pytest.raises(NotFound, match="steersman learn"):
        observe(MemoryLedger(), ManualClock(NOON))


# Go, no-go, not yet


def answered(
    wrong: int, of: int, *, cost: tuple[float, float, float] = (0.5, 0.45, 0.55), **changes: Any
) -> tuple[Answer, str]:
    value, low, high = cost
    values: dict[str, Any] = {
        "is_short": False,
        "is_safe": False,
        "risk": realised_risk(wrong, of, alpha=0.1),
        "cost": Interval(value=value, low=low, high=high),
        "labels_to_floor": 0,
        "labels_to_decide": 400,
    } | changes
    return answer_of(0.1, **values)


@pytest.mark.parametrize(
    ("found", "answer", "says"),
    [
        (answered(20, 600), Answer.GO, "for 50.0 % of the reference's cost"),
        (answered(50, 600), Answer.NOT_YET, "about 400 more labels would decide it"),
        (answered(50, 600, labels_to_decide=None), Answer.NOT_YET, "so close to the target"),
        (answered(120, 600), Answer.NO_GO, "above 10 %"),
        (answered(20, 600, cost=(1.2, 1.1, 1.3)), Answer.NO_GO, "would save nothing"),
        (answered(20, 600, cost=(1.0, 1.0, 1.0)), Answer.NO_GO, "would save nothing"),
        (answered(20, 600, cost=(0.98, 0.9, 1.06)), Answer.NOT_YET, "whether it saves money"),
        (answered(0, 600, is_safe=True), Answer.NO_GO, "the reference would answer everything"),
        (
            answered(0, 600, is_short=True, labels_to_floor=37),
            Answer.NOT_YET,
            "about 37 more are needed",
        ),
        (
            answered(0, 600, is_short=True, labels_to_floor=None),
            Answer.NOT_YET,
            "old ones fade before enough come together",
        ),
        (answered(0, 600, risk=None), Answer.NOT_YET, "No judged request"),
    ],
)
def test_the_answer_is_the_first_thing_in_the_way(
    found: tuple[Answer, str], answer: Answer, says: str
) -> None:
    assert found[0] is answer
    assert says in found[1]
    assert found[1].endswith(".")
    for jargon in ("λ", "π", "SAFE", "infeasible", "conformal"):
        assert jargon not in found[1]


def test_noise_of_the_threshold_widens_interval_verdict_and_labels_needed() -> None:
    narrow = realised_risk(40, 600, alpha=0.1)
    assert narrow.verdict is Verdict.HELD
    wide = widened(narrow, 0.02, alpha=0.1)
    assert wide.verdict is Verdict.NOT_DECIDED
    assert narrow.rate is not None
    assert wide.rate is not None
    assert wide.rate.low < narrow.rate.low < narrow.rate.high < wide.rate.high
    assert wide.labels_needed is not None
    assert wide.labels_needed > 600
    assert widened(narrow, 0.0, alpha=0.1) == narrow


def test_a_further_deviation_adds_in_quadrature() -> None:
    found = spread(Interval(value=0.5, low=0.2, high=0.9), 0.3 / 1.959963984540054)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.3 * 2**0.5, 0.5 + 0.5))


# Words


def test_the_report_reads_and_the_document_says_the_same() -> None:
    text = "\n".join(lines(seen()))
    assert "499 judged requests" in text
    assert "with respect to the judge" in text
    assert text.count("of always asking the reference") >= 3
    made = json.loads(document(seen()))
    assert (made["kind"], made["format"]) == ("steersman.observation", 1)
    shown = {one["alpha"]: one for one in made["observation"]["outlooks"]}
    for one in seen().outlooks:
        assert shown[one.alpha]["answer"] == one.answer
        assert shown[one.alpha]["because"] in text
    assert "prompt" not in {k for one in shown.values() for k in one}


def test_no_prompt_text_is_in_the_document() -> None:
    texts = watched().traffic.prompts.values()
    made = document(seen())
    assert not any(text in made for text in texts)
