"""The judge's errors, what corrects for them, and what they leave of the promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]

from judge.bias import PairSeen, length, position, towards_longer, towards_own
from judge.corrected import Sample, human_first, rogan_gladen
from judge.error import agreement, audit_of, bound, errors, first_word
from judge.intervals import mean_by_group, share
from store.judging import AuditedPair
from store.records import ExpertId, FloatArray, RequestId, Verdict
from tests.factories import CHEAP, STRONG, audited, later, verdict

JUDGE = "judge-1"


def pair(number: int, **changes: Any) -> AuditedPair:
    return audited(f"r{number}", audited_at=later(number), **changes)


def pairs(
    good_yes: int, good_no: int, bad_yes: int, bad_no: int, **changes: Any
) -> list[AuditedPair]:
    """Return pairs by truth and the judge's word."""
    cells = (
        [(1.0, 1)] * good_yes + [(1.0, 0)] * good_no + [(0.0, 1)] * bad_yes + [(0.0, 0)] * bad_no
    )
    return [
        pair(i, preference=truth, judge_outcome=said, **changes)
        for i, (truth, said) in enumerate(cells)
    ]


def ones(count: int) -> FloatArray:
    return np.ones(count)


def test_equal_weights_give_the_exact_binomial_interval() -> None:
    found = share(ones(7), ones(33))
    exact = binomtest(7, 40).proportion_ci(0.95, method="exact")
    assert (found.value, found.drawn) == (7 / 40, 40)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.effective == pytest.approx(40)
    limit = binomtest(7, 40, alternative="less").proportion_ci(0.95, method="exact").high
    assert found.at_most == pytest.approx(limit)


def test_a_side_that_was_never_drawn_keeps_its_limit() -> None:
    none, every = share(ones(0), ones(60)), share(ones(60), ones(0))
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.at_most == pytest.approx(1.0 - 0.05 ** (1 / 60))
    assert (every.value, every.high, every.at_most) == (1.0, 1.0, 1.0)
    heavier = share(ones(0), ones(60), typical=(4.0, 1.0))
    assert heavier.at_most > none.at_most


def test_a_stratified_audit_is_weighted_back() -> None:
    """40 accepted of 400 bad ones, a tenth of the accepted drawn and all of the rejected."""
    found = share(np.full(4, 10.0), ones(360))
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    assert found.effective < 60


def test_the_judges_errors_are_counted_against_people() -> None:
    found = errors(pairs(90, 10, 6, 14))
    assert (found.acceptable, found.bad) == (100, 20)
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert found.wrongly_accepted is not None
    assert found.sensitivity.value == pytest.approx(0.9)
    assert found.specificity.value == pytest.approx(0.7)
    assert found.wrongly_accepted.value == pytest.approx(0.3)
    assert found.wrongly_accepted.high == pytest.approx(1.0 - found.specificity.low)
    nothing = errors([])
    assert (nothing.sensitivity, nothing.specificity, nothing.bad) == (None, None, 0)


def test_the_first_person_says_what_is_true_and_a_tie_is_acceptable() -> None:
    seen = [pair(1, preference=0.5), pair(1, auditor="bob", preference=0.0), pair(2)]
    assert first_word(seen) == [seen[0], seen[2]]
    assert errors(first_word(seen)).bad == 0


def test_categories_and_judge_versions_are_kept_apart() -> None:
    seen = [
        *pairs(5, 0, 0, 5, category="math"),
        pair(99, category="code", preference=0.0),
        pair(100, judge_version="other", preference=0.0),
    ]
    found = audit_of(seen, JUDGE)
    assert list(found.by_category) == ["code", "math"]
    assert found.by_category["code"].bad == 1
    assert found.overall.bad == 6
    assert found.people is None


def test_the_promise_is_not_bounded_before_a_hundred_truly_bad_pairs() -> None:
    few = bound(errors(pairs(300, 9, 3, 96)), JUDGE)
    assert few.bad == 99
    assert few.e1_at_most is None
    assert few.true_risk(0.1) is None
    assert few.words == "not bounded yet: 99 of 100 truly bad pairs audited"
    enough = bound(errors(pairs(300, 9, 4, 96)), JUDGE)
    limit = binomtest(4, 100, alternative="less").proportion_ci(0.95, method="exact").high
    assert enough.e1_at_most == pytest.approx(limit)
    assert enough.true_risk(0.1) == pytest.approx(0.1 / (1.0 - limit))


def test_a_judge_that_accepts_everything_bounds_nothing_below_one() -> None:
    found = bound(errors(pairs(10, 0, 100, 0)), JUDGE)
    assert found.true_risk(0.1) == 1.0


def test_kappa_of_two_people_by_hand() -> None:
    """20 pairs: both accept 10, both reject 5, ann alone 3, bob alone 2: κ = (.75 - .53) / .47."""
    answers = [(1.0, 1.0)] * 10 + [(0.0, 0.0)] * 5 + [(1.0, 0.0)] * 3 + [(0.0, 1.0)] * 2
    seen = [
        pair(i, auditor=name, preference=said)
        for i, both in enumerate(answers)
        for name, said in zip(("ann", "bob"), both, strict=True)
    ]
    found = agreement([*seen, pair(99)])
    assert found is not None
    assert found.kappa is not None
    by_chance = 0.65 * 0.6 + 0.35 * 0.4
    assert (found.pairs, found.share) == (20, 0.75)
    assert found.kappa.value == pytest.approx((0.75 - by_chance) / (1.0 - by_chance))
    assert agreement([pair(1)]) is None
    always = agreement([pair(1), pair(1, auditor="bob")])
    assert always is not None
    assert always.kappa is None


def test_rogan_gladen_divides_the_errors_out() -> None:
    said = share(ones(775), ones(225))
    good, bad = share(ones(90), ones(10)), share(ones(80), ones(20))
    found = rogan_gladen(said, sensitivity=good, specificity=bad)
    assert found is not None
    assert found.value == pytest.approx((0.775 + 0.8 - 1.0) / 0.7)
    assert found.low < found.value < found.high
    coin = share(ones(50), ones(50))
    assert rogan_gladen(said, sensitivity=coin, specificity=coin) is None


def test_people_first_is_ppi_plus_plus() -> None:
    """For equal weights: the formulas of Angelopoulos et al. (2023), from audited and the rest."""
    rng = np.random.default_rng(3)
    truth = (rng.random(3_000) < 0.8).astype(float)
    judged = np.where(rng.random(3_000) < 0.85, truth, 1.0 - truth)
    y, f, rest = truth[:300], judged[:300], judged[300:]
    found = human_first(
        Sample(y, ones(300)), Sample(f, ones(300)), Sample(judged, ones(len(judged)))
    )
    k = np.cov(y, f)[0, 1] / ((1.0 + 300 / 2_700) * f.var(ddof=1))
    theta = k * rest.mean() + (y - k * f).mean()
    variance = k**2 * rest.var(ddof=1) / 2_700 + (y - k * f).var(ddof=1) / 300
    assert found is not None
    assert found.value == pytest.approx(theta, abs=5e-4)  # its k takes the variance of all
    assert found.high - found.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.02)
    alone = human_first(Sample(y, ones(300)), Sample(0 * f, ones(300)), Sample(judged, ones(3_000)))
    assert alone is not None
    assert alone.value == pytest.approx(y.mean())


def test_people_who_never_differ_or_saw_too_few_give_no_interval() -> None:
    judged = Sample(ones(100), ones(100))
    for n in (29, 50):
        said = Sample(ones(n), ones(n))
        assert human_first(said, said, judged) is None


def seen(number: int, first: float, second: float, **changes: object) -> PairSeen:
    """Return a pair asked in both orders; each value is the preference for what was shown first."""
    calls = (
        verdict(f"r{number}", call=0, preference=first),
        verdict(f"r{number}", call=1, expert_a=STRONG, expert_b=CHEAP, preference=second),
    )
    one = PairSeen(
        request_id=RequestId(f"r{number}"),
        expert=CHEAP,
        reference=STRONG,
        verdicts=calls,
        longer_by=10,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def test_position_bias_shows_in_both_orders_and_quality_does_not() -> None:
    fair = [seen(i, 1.0, 0.0) for i in range(20)] + [seen(i, 0.0, 1.0) for i in range(20, 30)]
    found = position(fair)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    biased = position([*fair, *(seen(i, 1.0, 1.0) for i in range(30, 60))])
    assert biased is not None
    assert biased.value == pytest.approx(0.75)
    assert 0.5 < biased.low < 0.75 < biased.high
    one_call: tuple[Verdict, ...] = (verdict(call=0),)
    assert position([seen(1, 1.0, 0.0, verdicts=one_call)]) is None


def test_length_counts_wins_of_the_longer_answer_and_people_say_if_it_is_bias() -> None:
    shown = [seen(i, 1.0, 0.0) for i in range(6)] + [
        seen(i, 1.0, 0.0, longer_by=-10) for i in range(6, 10)
    ]
    found = length([*shown, seen(11, 1.0, 0.0, longer_by=None)])
    assert found is not None
    assert found.value == pytest.approx(0.6)
    agreed = [pair(i) for i in range(10)]
    fair = towards_longer(agreed, shown)
    assert fair is not None
    assert fair.value == 0.0
    fooled = [pair(i, preference=0.0 if i < 6 else 1.0) for i in range(10)]
    leaning = towards_longer(fooled, shown)
    assert leaning is not None
    assert leaning.value == 1.0
    assert towards_longer([], shown) is None


def test_an_expert_of_the_judges_family_is_compared_with_the_others() -> None:
    kin = ExpertId("kin")
    by_people = [
        *(pair(i, expert=kin, preference=float(i % 2)) for i in range(20)),
        *(pair(i) for i in range(20, 40)),
    ]
    found = towards_own(by_people, {kin})
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.low > 0.0
    assert towards_own(by_people, {ExpertId("nobody")}) is None


def test_values_of_one_group_count_as_one() -> None:
    values = np.tile([0.0, 1.0], 50)
    apart = mean_by_group(values, range(100))
    together = mean_by_group(np.repeat([0.0, 1.0], 50), np.repeat(range(10), 10).tolist())
    assert apart is not None
    assert together is not None
    assert together.high - together.low > 3 * (apart.high - apart.low)
    assert mean_by_group(values, [1] * 100) is None
