"""Every figure of a summary, by hand."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recalibrate.hindsight import CertifiedAt, best_in_hindsight
from recalibrate.realised import Verdict, ratio_of_means, realised_risk, wilson
from recalibrate.stream_facts import Graded, ServedRequest, StatusChange, StoryEvent
from recalibrate.summary import summarise
from recalibrate.words import not_covered
from store.records import SAFE, ExpertId, ExpertStatus, Reason
from tests import factories
from tests.factories import CHEAP, STRONG, later
from tests.unit.story import MID, facts, free, graded, logged, request, whole_story


def test_wilson_is_the_textbook_interval() -> None:
    n, z = 50, 1.959963984540054
    p = 5 / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))

    found = wilson(5, n)

    assert found.value == p
    assert found.low == pytest.approx(centre - half)
    assert found.high == pytest.approx(centre + half)


@pytest.mark.parametrize(
    ("unacceptable", "verdict"),
    [(20, Verdict.HELD), (100, Verdict.NOT_DECIDED), (90, Verdict.NOT_DECIDED), (150, "not held")],
)
def test_the_verdict_has_three_states(unacceptable: int, verdict: str) -> None:
    assert realised_risk(unacceptable, 1000, alpha=0.10).verdict == verdict


@pytest.mark.parametrize("rate", [0.08, 0.13])
def test_the_labels_needed_are_those_that_decide_at_this_rate(rate: float) -> None:
    undecided = realised_risk(round(rate * 100), 100, alpha=0.10)
    assert undecided.verdict is Verdict.NOT_DECIDED
    assert undecided.labels_needed is not None

    enough = math.ceil(undecided.labels_needed / 100) * 100
    short = (undecided.labels_needed // 100) * 100 - 100

    assert realised_risk(round(rate * enough), enough, alpha=0.10).verdict is not (
        Verdict.NOT_DECIDED
    )
    assert realised_risk(round(rate * short), short, alpha=0.10).verdict is Verdict.NOT_DECIDED


def test_no_number_of_labels_decides_a_rate_that_is_the_target() -> None:
    assert realised_risk(10, 100, alpha=0.10).labels_needed is None


def test_the_interval_of_a_cost_share_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        base = rng.lognormal(0.0, 1.0, size=300)
        served = np.where(rng.random(300) < 0.5, base, 0.1 * base)
        found = ratio_of_means(served, base)
        assert found is not None
        covered += found.low <= 0.55 <= found.high

    assert 0.91 <= covered / 400 <= 0.98


def test_the_cost_share_of_the_reference_is_exactly_one() -> None:
    base = np.array([1.0, 2.0, 5.0])
    found = ratio_of_means(base, base)
    assert found is not None
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_quality_cost_and_regret_are_those_of_the_served_answers() -> None:
    served = [
        request(0, CHEAP, answers=graded(cheap=0.9, strong=0.9)),
        request(1, CHEAP, answers=graded(cheap=0.85, strong=0.9)),  # exactly the margin: fine
        request(2, CHEAP, answers=graded(cheap=0.2, strong=0.9)),
        request(3, STRONG, answers=graded(cheap=0.2, strong=0.5)),
    ]

    overall = summarise(facts(served)).overall

    assert overall.requests == 4
    assert overall.quality == pytest.approx((0.9 + 0.85 + 0.2 + 0.5) / 4)
    assert overall.reference_quality == pytest.approx((0.9 + 0.9 + 0.9 + 0.5) / 4)
    assert overall.cost_usd == pytest.approx(0.013)
    assert overall.reference_cost_usd == pytest.approx(0.04)
    assert overall.cost_share is not None
    assert overall.cost_share.value == pytest.approx(0.325)
    assert (overall.regret.unacceptable, overall.regret.requests) == (1, 4)
    assert [(e.expert, e.requests, e.share) for e in overall.experts] == [
        (CHEAP, 3, 0.75),
        (STRONG, 1, 0.25),
    ]


def test_shares_count_reasons_and_comparisons() -> None:
    reasons = [
        Reason.ROUTED,
        Reason.COMPARATOR,
        Reason.EXPLORED,
        Reason.RAMP,
        Reason.NO_CANDIDATE,
        Reason.SAFE_STARVED,
        Reason.SAFE_COLD,
        Reason.ERROR,
    ]
    served = [
        request(
            i,
            reason=reason,
            comparator_probability=0.6 if i < 3 else None,
            degraded=i == 0,
            is_sampled=i < 4,
        )
        for i, reason in enumerate(reasons)
    ]

    shares = summarise(facts(served)).overall.shares

    assert shares is not None
    assert shares.safe_mode == 3 / 8
    assert shares.no_candidate == shares.explored == shares.ramp == 1 / 8
    assert shares.comparator_asked == 3 / 8
    assert shares.comparator_decided == shares.degraded == 1 / 8
    assert shares.sampled == 0.5


def test_pinned_requests_are_outside_the_promise() -> None:
    bad = graded(cheap=0.1, strong=0.9)
    served = [request(0), request(1, answers=bad, reason=Reason.PINNED)]

    overall = summarise(facts(served)).overall

    assert (overall.requests, overall.regret.requests, overall.regret.unacceptable) == (2, 1, 0)
    assert overall.shares is not None
    assert overall.shares.pinned == 0.5


def test_tenants_that_opted_out_are_counted_and_outside_the_promise() -> None:
    bad = graded(cheap=0.1, strong=0.9)
    acme = partial(request, answers=bad, tenant="acme", unjudged_tenants={"acme"})
    served = [
        request(0),
        acme(1, inclusion_probability=0.0),
        request(2, answers=bad, inclusion_probability=0.0, tenant="bolt"),
        acme(3, inclusion_probability=0.05),  # decided before it did
    ]

    summary = summarise(facts(served))

    overall = summary.overall
    assert (overall.requests, overall.opted_out, overall.unlabelled) == (4, 1, 1)
    assert (overall.regret.requests, overall.regret.unacceptable) == (3, 2)
    said = not_covered(summary) or ""
    assert said.startswith("25.0 % of the requests (1 of 4) are of tenants that opted out")
    assert "25.0 % of the requests (1 of 4) had no chance of being judged" in said
    assert not_covered(summarise(facts([request(0)]))) is None


def test_the_rolling_regret_leaves_out_tenants_that_opted_out() -> None:
    bad = graded(cheap=0.1, strong=0.9)
    acme = partial(request, answers=bad, tenant="acme", unjudged_tenants={"acme"})
    served = [request(i) for i in range(60)]
    served += [acme(i, inclusion_probability=0.0) for i in range(60, 100)]
    assert summarise(facts(served)).series.rolling_regret[-1].rate.value == 0.0


def test_baselines_are_what_always_asking_one_expert_would_have_given() -> None:
    served = [
        request(0, answers=graded(cheap=0.9, mid=0.9, strong=0.9)),
        request(1, answers=graded(cheap=0.1, mid=0.8, strong=0.9)),
        request(2, answers=graded(cheap=0.7, strong=0.6)),
    ]

    found = {b.expert: b for b in summarise(facts(served)).overall.baselines}

    assert [name for name, b in found.items() if b.is_cheapest] == [CHEAP]
    assert [name for name, b in found.items() if b.is_reference] == [STRONG]
    assert found[STRONG].regret.value == 0.0
    assert found[STRONG].quality == pytest.approx(0.8)
    assert found[CHEAP].regret.value == pytest.approx(1 / 3)
    assert found[CHEAP].cost_usd == pytest.approx(0.001)
    share = found[CHEAP].cost_share
    assert share is not None
    assert share.value == pytest.approx(0.1)
    assert (found[MID].requests, found[MID].regret.value) == (2, 0.5)


def test_setup_phases_are_listed_and_left_out_of_the_overall_figures() -> None:
    served = [request(0, STRONG, phase="warm"), request(1), request(2)]

    summary = summarise(facts(served, setup_phases=frozenset({"warm"})))

    assert summary.setup_phases == ("warm",)
    assert [(p.name, p.requests) for p in summary.phases] == [("warm", 1), ("stream", 2)]
    assert summary.overall.requests == 2


def test_an_empty_phase_has_no_figures_and_decides_nothing() -> None:
    summary = summarise(facts([request(0)], phases=("stream", "later")))

    empty = summary.phases[1]
    assert (empty.name, empty.requests, empty.first_position) == ("later", 0, None)
    assert empty.quality is None
    assert empty.cost_usd is None
    assert empty.cost_share is None
    assert empty.regret.rate is None
    assert empty.regret.verdict is Verdict.NOT_DECIDED
    assert empty.experts == ()
    assert empty.baselines == ()
    assert empty.hindsight is None


def test_an_empty_stream_can_be_summarised() -> None:
    summary = summarise(facts([]))
    assert summary.overall.requests == 0
    assert summary.series.rolling_regret == ()
    assert not summary.has_costs


def test_without_costs_only_quality_and_regret_remain() -> None:
    summary = summarise(facts([free(request(i)) for i in range(3)]))

    assert not summary.has_costs
    assert summary.overall.quality == 0.9
    assert summary.overall.regret.rate is not None
    assert summary.overall.cost_usd is None
    assert summary.overall.cost_share is None
    assert summary.overall.hindsight is None
    assert not any(b.is_cheapest for b in summary.overall.baselines)


def test_one_unknown_cost_withholds_the_cost_figures() -> None:
    summary = summarise(facts([request(0), free(request(1))]))
    assert not summary.has_costs


# ---------------------------------------------------------------- the best λ in hindsight


def _pair(position: int, score: float, *, is_good: bool) -> ServedRequest:
    return request(
        position,
        STRONG,
        answers=graded(cheap=0.9 if is_good else 0.1, strong=0.9),
        retrieved=(logged(CHEAP, score, 0.8), logged(STRONG, 0.9, 0.5)),
    )


ALWAYS = CertifiedAt([StatusChange(expert=CHEAP, status=ExpertStatus.CERTIFIED, position=0)])


def test_hindsight_goes_as_low_as_the_regret_allows() -> None:
    served = [
        _pair(0, 0.9, is_good=True),
        _pair(1, 0.8, is_good=False),
        _pair(2, 0.7, is_good=True),
        _pair(3, 0.6, is_good=False),
    ]

    found = best_in_hindsight(served, ALWAYS, reference=STRONG, alpha=0.25, margin=0.05)

    # λ = 0.6 serves the cheap expert three times (strictly above), one of them wrongly.
    assert found is not None
    assert found.threshold == 0.6
    assert found.regret == 0.25
    assert found.cost_usd == pytest.approx((3 * 0.001 + 0.01) / 4)
    assert found.quality == pytest.approx((0.9 + 0.1 + 0.9 + 0.9) / 4)


def test_hindsight_is_safe_when_nothing_else_qualifies() -> None:
    served = [_pair(0, 0.9, is_good=False)]
    found = best_in_hindsight(served, ALWAYS, reference=STRONG, alpha=0.1, margin=0.05)
    assert found is not None
    assert (found.threshold, found.regret) == (SAFE, 0.0)


def test_hindsight_only_uses_experts_that_were_certified_then() -> None:
    certified = CertifiedAt(
        [
            StatusChange(expert=CHEAP, status=ExpertStatus.CERTIFIED, position=1),
            StatusChange(expert=CHEAP, status=ExpertStatus.PAUSED, position=2),
        ]
    )
    served = [_pair(i, 0.9, is_good=True) for i in range(3)]

    found = best_in_hindsight(served, certified, reference=STRONG, alpha=0.1, margin=0.05)

    assert found is not None
    assert found.cost_usd == pytest.approx((0.01 + 0.001 + 0.01) / 3)


def test_hindsight_keeps_the_reference_when_it_is_worth_more() -> None:
    served = [
        request(
            0,
            STRONG,
            retrieved=(logged(CHEAP, 0.9, 0.4), logged(STRONG, 0.9, 0.5)),
            reason="routed",
        )
    ]
    found = best_in_hindsight(served, ALWAYS, reference=STRONG, alpha=0.1, margin=0.05)
    assert found is not None
    assert found.cost_usd == pytest.approx(0.01)


NAMES = [CHEAP, MID, *(ExpertId(f"other-{i}") for i in range(3))]


@st.composite
def streams(draw: st.DrawFn) -> list[ServedRequest]:
    level = st.integers(0, 10).map(lambda v: v / 10)
    made = []
    for i in range(draw(st.integers(1, 8))):
        answers = {
            name: Graded(score=draw(level), cost_usd=1.0 + draw(level)) for name in [*NAMES, STRONG]
        }
        retrieved = [logged(name, draw(level), draw(level)) for name in NAMES]
        made.append(
            request(
                i,
                draw(st.sampled_from([*NAMES, STRONG])),
                answers=answers,
                retrieved=[*retrieved, logged(STRONG, 0.9, draw(level))],
            )
        )
    return made


def _brute_force(served: list[ServedRequest], alpha: float) -> float:
    """The smallest cost over every λ, each request re-chosen from the definition."""
    scores = {c.score for r in served for c in r.candidates if c.expert != STRONG}
    best = math.inf
    for threshold in [0.0, SAFE, *(s for s in scores if s is not None)]:
        cost, wrong = 0.0, 0
        for r in served:
            inside = [c for c in r.candidates if c.expert != STRONG and (c.score or 0) > threshold]
            home = next(c for c in r.candidates if c.expert == STRONG)
            listed = [*sorted(inside, key=lambda c: -(c.score or 0))[:4], home]
            chosen = r.answers[max(listed, key=lambda c: c.utility or 0.0).expert]
            cost += chosen.cost_usd or 0.0
            wrong += chosen.score < r.answers[STRONG].score - 0.05 - 1e-9
        if wrong / len(served) <= alpha:
            best = min(best, cost / len(served))
    return best


@settings(max_examples=80, deadline=None)
@given(served=streams(), alpha=st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_hindsight_never_breaks_the_target_and_equals_brute_force(
    served: list[ServedRequest], alpha: float
) -> None:
    always = CertifiedAt(
        [StatusChange(expert=n, status=ExpertStatus.CERTIFIED, position=0) for n in NAMES]
    )

    found = best_in_hindsight(served, always, reference=STRONG, alpha=alpha, margin=0.05)

    assert found is not None
    assert found.regret <= alpha
    assert found.cost_usd == pytest.approx(_brute_force(served, alpha))


@settings(max_examples=50, deadline=None)
@given(served=streams())
def test_the_experts_shares_sum_to_one(served: list[ServedRequest]) -> None:
    summary = summarise(facts(served))
    assert sum(e.share for e in summary.overall.experts) == pytest.approx(1.0)
    for stretch in summary.series.traffic:
        assert sum(stretch.shares) == pytest.approx(1.0)


# ---------------------------------------------------------------- the loop's own figures


def test_recalibrations_say_how_often_and_on_how_much() -> None:
    made = [
        factories.calibration(new_labels=20, took_ms=4.0),
        factories.calibration(new_labels=40, took_ms=10.0, reason="safe_starved"),
        factories.calibration(new_labels=21, took_ms=6.0),
    ]
    served = [
        request(i, state_version=v, gap_confidence=g)
        for i, (v, g) in enumerate([(1, 0.8), (1, 0.9), (3, 0.8), (4, None)])
    ]

    found = summarise(facts(served, calibrations=tuple(made))).recalibrations

    assert (found.count, found.feasible) == (3, 2)
    assert (found.min_new_labels, found.median_new_labels) == (20, 21.0)
    assert (found.median_took_ms, found.max_took_ms) == (6.0, 10.0)
    assert (found.states_served, found.distinct_gap_confidences) == (3, 2)


def test_an_expert_that_joins_is_timed_in_requests_and_in_seconds() -> None:
    summary = summarise(whole_story())

    (joined,) = summary.joined
    assert (joined.expert, joined.joined_position) == (MID, 150)
    assert joined.requests_to_first_route == 1  # request 151 is the first with i % 3 == 1
    assert joined.seconds_to_first_route == 1.0
    assert joined.first_route_reason is Reason.ROUTED
    assert (joined.requests_to_certified, joined.seconds_to_certified) == (50, 50.0)
    assert (joined.labels_needed, joined.labels_got) == (100, 104)


def test_an_expert_that_never_got_there_has_no_times() -> None:
    late = StatusChange(expert=MID, status=ExpertStatus.REGISTERED, position=1)
    (joined,) = summarise(facts([request(0), request(1)], statuses=(late,))).joined
    assert joined.requests_to_first_route is None
    assert joined.requests_to_certified is None
    assert joined.labels_got is None


def test_an_injected_fault_is_timed_to_the_alert_about_its_subject() -> None:
    (found,) = summarise(whole_story()).injected
    assert (found.position, found.requests_to_alert) == (300, 40)


def test_alerts_before_the_fault_or_about_others_do_not_count_as_finding_it() -> None:
    fault = StoryEvent(position=2, text="worse", subject=CHEAP, is_injected=True)
    early = factories.alert(raised_at=later(1))
    other = factories.alert(subject="mid", raised_at=later(3))

    summary = summarise(
        facts([request(i) for i in range(5)], alerts=(other, early), events=(fault,))
    )

    assert summary.injected[0].requests_to_alert is None
    assert [a.position for a in summary.alerts] == [1, 3]


def test_the_timeline_tells_the_story_in_order() -> None:
    timeline = summarise(whole_story()).timeline

    assert [e.position for e in timeline] == sorted(e.position for e in timeline)
    assert {e.kind for e in timeline} == {"phase", "expert", "alert", "injected"}
    assert [e.text for e in timeline if e.kind == "injected"] == ["cheap answers badly"]


# ---------------------------------------------------------------- what the plots draw


def test_rolling_regret_is_the_share_of_the_last_requests() -> None:
    bad = graded(cheap=0.1, strong=0.9)
    served = [request(i, answers=bad if i >= 60 else None) for i in range(100)]

    lines = summarise(facts(served)).series

    assert lines.rolling_requests == 50
    last = lines.rolling_regret[-1]
    assert (last.position, last.rate.value) == (99, 40 / 50)
    assert lines.rolling_regret[0].rate.value == 0.0


def test_the_threshold_line_has_a_point_at_each_change_and_at_the_end() -> None:
    served = [request(i, threshold=t) for i, t in enumerate([2.0, 2.0, 0.5, 0.5, 0.5])]
    lines = summarise(facts(served)).series
    assert [(p.position, p.threshold) for p in lines.in_force] == [(0, 2.0), (2, 0.5), (4, 0.5)]


def test_gap_confidences_are_counted_in_bins() -> None:
    served = [request(i, gap_confidence=g) for i, g in enumerate([0.51, 0.52, 1.0, None])]
    bins = summarise(facts(served)).series.gap_confidences
    assert (sum(bins), bins[10], bins[-1]) == (3, 2, 1)
