"""From verdicts to labels: a result counts only if it was seen in both orders."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from judge.aggregate import is_settled, labels_of, pair_result
from judge.port import Question
from judge.recorded import InvertedJudge, PositionBiasedJudge, RecordedJudge
from judge.sampling import due_experts, inclusion_probability, is_drawn
from online.clients import Answer
from online.recorded import RecordedAnswer, RecordedTraffic
from store.errors import VerdictUnreadable
from store.records import ExpertId, ExpertStatus, RequestId, Retrieved, Verdict
from tests.factories import CHEAP, NOON, STRONG, settings, verdict
from tests.unit.state_fakes import NAMES, scorer, state

R1 = RequestId("r1")


def calls(*preferences: float, third_shows_cheap_first: bool = True) -> list[Verdict]:
    """What the judge said of cheap against strong: cheap first, strong first, and the third."""
    orders = [(CHEAP, STRONG), (STRONG, CHEAP)]
    orders.append(orders[0] if third_shows_cheap_first else orders[1])
    return [
        verdict(call=i, expert_a=a, expert_b=b, preference=p, grade_a=None, grade_b=None)
        for i, ((a, b), p) in enumerate(zip(orders, preferences, strict=False))
    ]


@pytest.mark.parametrize(
    ("said", "preference", "outcome"),
    [((1.0, 0.0), 1.0, 1), ((0.5, 0.5), 0.5, 1), ((0.0, 1.0), 0.0, 0)],
)
def test_what_both_orders_say_counts(
    said: tuple[float, float], preference: float, outcome: int
) -> None:
    found = pair_result(calls(*said), CHEAP)
    assert is_settled(calls(*said), CHEAP)
    assert (found.preference, found.outcome, found.is_consistent) == (preference, outcome, True)


@pytest.mark.parametrize("said", [p for p in product((0.0, 0.5, 1.0), repeat=2) if sum(p) != 1.0])
def test_two_orders_that_disagree_need_a_third_call(said: tuple[float, float]) -> None:
    assert not is_settled(calls(*said), CHEAP)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("said", list(product((0.0, 0.5, 1.0), repeat=3)))
def test_an_expert_is_acceptable_only_if_both_orders_agreed_that_it_is(
    said: tuple[float, float, float], first: bool
) -> None:
    found = pair_result(calls(*said, third_shows_cheap_first=first), CHEAP)
    shown_first = {said[0], said[2]} if first else {said[0]}
    shown_second = {1.0 - said[1]} if first else {1.0 - said[1], 1.0 - said[2]}
    agreed = shown_first & shown_second
    assert found.is_consistent == bool(agreed)
    assert found.outcome == int(bool(agreed) and agreed.pop() >= 0.5)


def test_still_inconsistent_is_half_a_win_in_rankings_and_a_loss_for_risk() -> None:
    found = pair_result(calls(1.0, 1.0, 1.0), CHEAP)
    assert (found.preference, found.outcome, found.is_consistent) == (0.5, 0, False)


def made_labels(
    by_expert: dict[ExpertId, list[Verdict] | None],
) -> dict[ExpertId, tuple[int, float | None]]:
    labels = labels_of(R1, STRONG, by_expert, judge_version="v", purpose="traffic", now=NOON)
    assert {x.judge_version for x in labels} == {"v"}
    return {x.expert: (x.outcome, x.score) for x in labels}


def test_an_unreadable_pair_is_a_loss_that_trains_nothing() -> None:
    found = made_labels({CHEAP: None, ExpertId("other"): calls(1.0, 0.0)})
    assert found[CHEAP] == (0, None)


def test_when_nothing_was_readable_the_reference_has_no_label_either() -> None:
    assert made_labels({CHEAP: None}) == {CHEAP: (0, None)}


def test_without_grades_the_score_is_the_preference_and_the_reference_ties_with_itself() -> None:
    assert made_labels({CHEAP: calls(0.0, 1.0)}) == {CHEAP: (0, 0.0), STRONG: (1, 0.5)}
    assert made_labels({CHEAP: calls(0.5, 0.5)}) == {CHEAP: (1, 0.5), STRONG: (1, 0.5)}
    assert made_labels({CHEAP: calls(1.0, 0.0)}) == {CHEAP: (1, 1.0), STRONG: (1, 0.5)}


@pytest.mark.parametrize("other", [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_what_another_expert_did_changes_nothing_between_a_tie_and_the_reference(
    other: tuple[float, float],
) -> None:
    rival = ExpertId("rival")
    said = [
        replace(v, expert_a=rival if v.expert_a == CHEAP else STRONG, expert_b=b)
        for v in calls(*other)
        for b in [rival if v.expert_b == CHEAP else STRONG]
    ]
    found = made_labels({CHEAP: calls(0.5, 0.5), rival: said})
    assert found[CHEAP][1] == found[STRONG][1] == 0.5


def test_grades_are_averaged_over_the_calls() -> None:
    graded = [
        verdict(call=0, preference=0.5, grade_a=0.6, grade_b=0.9),
        verdict(call=1, expert_a=STRONG, expert_b=CHEAP, preference=0.5, grade_a=0.7, grade_b=0.8),
    ]
    found = made_labels({CHEAP: graded})
    assert found[CHEAP] == pytest.approx((1, 0.7))
    assert found[STRONG] == pytest.approx((1, 0.8))


def question(first: ExpertId = CHEAP, second: ExpertId = STRONG) -> Question:
    answer = Answer(text=None, cost_usd=0.0)
    return Question(
        request_id=R1,
        prompt="?",
        expert_a=first,
        answer_a=answer,
        expert_b=second,
        answer_b=answer,
    )


def recorded(cheap: float, strong: float) -> RecordedJudge:
    answers = {(R1, CHEAP): cheap, (R1, STRONG): strong}
    traffic = RecordedTraffic(
        {R1: "?"}, {key: RecordedAnswer(score, None, None) for key, score in answers.items()}
    )
    return RecordedJudge(traffic, margin=0.05)


@pytest.mark.parametrize(
    ("cheap", "strong", "acceptable"),
    [(0.5, 0.9, 0), (0.85, 0.9, 1), (0.849, 0.9, 0), (0.9, 0.9, 1), (1.0, 0.1, 1), (0.3, 0.35, 1)],
)
def test_recorded_verdicts_mean_at_least_the_reference_minus_the_margin(
    cheap: float, strong: float, acceptable: int
) -> None:
    judge = recorded(cheap, strong)
    forth, back = judge.compare(question()), judge.compare(question(STRONG, CHEAP))
    assert forth.preference + back.preference == 1.0
    assert pair_result(calls(forth.preference, back.preference), CHEAP).outcome == acceptable


def test_a_judge_that_looks_at_positions_is_always_inconsistent_never_a_tie() -> None:
    judge = PositionBiasedJudge()
    said = [judge.compare(question(*q)).preference for q in ((CHEAP, STRONG), (STRONG, CHEAP))]
    for first in (True, False):
        found = pair_result(calls(*said, 1.0, third_shows_cheap_first=first), CHEAP)
        assert (found.is_consistent, found.outcome) == (False, 0)


def test_an_inverted_judge_is_consistent_and_wrong() -> None:
    judge = InvertedJudge(recorded(0.1, 0.9))
    said = [judge.compare(question(*q)).preference for q in ((CHEAP, STRONG), (STRONG, CHEAP))]
    assert pair_result(calls(*said), CHEAP).outcome == 1
    assert judge.version != recorded(0.1, 0.9).version


def test_a_score_that_was_not_recorded_is_unreadable() -> None:
    with pytest.raises(VerdictUnreadable):
        recorded(0.1, 0.9).compare(question(ExpertId("unknown")))


DRAWS = 20_000


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.05, 0.5, 1.0])
def test_requests_are_drawn_as_often_as_pi_says(rate: float) -> None:
    pi = inclusion_probability(settings(label_rate=rate), "default")
    drawn = sum(is_drawn(RequestId(f"request-{n}"), pi) for n in range(DRAWS))
    assert drawn / DRAWS == pytest.approx(rate, abs=4.0 * (rate * (1.0 - rate) / DRAWS) ** 0.5)


def test_a_redelivered_request_is_drawn_again_the_same() -> None:
    ids = [RequestId(f"request-{n}") for n in range(500)]
    assert [is_drawn(r, 0.3) for r in ids] == [is_drawn(r, 0.3) for r in ids]


def test_a_higher_rate_only_adds_requests() -> None:
    ids = [RequestId(f"request-{n}") for n in range(2_000)]
    assert {r for r in ids if is_drawn(r, 0.1)} <= {r for r in ids if is_drawn(r, 0.2)}


def test_small_pools_are_judged_whole() -> None:
    statuses = {NAMES[1]: ExpertStatus.SHADOW, NAMES[2]: ExpertStatus.RAMPING}
    made = state(model=scorer(NAMES[:5]), statuses=statuses)
    assert due_experts(R1, made, ()) == NAMES[1:5]


def test_experts_not_yet_described_are_not_judged_on_traffic() -> None:
    statuses = {NAMES[1]: ExpertStatus.REGISTERED, NAMES[2]: ExpertStatus.DESCRIBED}
    made = state(model=scorer(NAMES[:4]), statuses=statuses)
    assert due_experts(R1, made, ()) == (NAMES[3],)


def retrieved(name: ExpertId, value: float | None) -> Retrieved:
    return Retrieved(expert=name, cosine=0.0, score=value, utility=value, is_candidate=False)


def test_large_pools_judge_the_four_best_those_who_join_and_one_drawn_uniformly() -> None:
    names = (*NAMES[:1], *(ExpertId(f"x{i}") for i in range(9)))
    statuses = {names[1]: ExpertStatus.SHADOW}
    made = state(model=scorer(names), statuses=statuses)
    found = [retrieved(name, i / 10) for i, name in enumerate(names)]
    seen: dict[ExpertId, int] = {}
    for n in range(4_000):
        due = due_experts(RequestId(f"r{n}"), made, found)
        assert due[:4] == tuple(reversed(names[6:]))
        assert due[4] == names[1]
        assert len(due) == 6
        seen[due[5]] = seen.get(due[5], 0) + 1
    assert set(seen) == set(names[2:6])
    assert all(count == pytest.approx(1_000, abs=120) for count in seen.values())
