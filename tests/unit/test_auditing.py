"""A person judges pairs blind: which pairs, what is stored, and what the report makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ingest import cli, cli_audit
from judge.audit_report import audit_report, bound_in_force
from judge.auditing import ACCEPTED_SHARE, Auditing, Shown, drawn, judged_pairs, share_of
from recalibrate.audit_words import document, lines
from store.clock import ManualClock
from store.duels import AGAIN, DUEL, Duel
from store.errors import NotFound
from store.memory import MemoryLedger
from store.policy import PolicySettings
from store.records import ExpertId, RequestId, Verdict
from tests.factories import (
    CHEAP,
    NOON,
    STRONG,
    audited,
    decided,
    expert,
    label,
    later,
    response,
    task,
    verdict,
)

JUDGE = "judge-1"
GOOD, BAD = "a good answer", "a bad one, in red: \x1b[31m"


def judged_traffic(
    requests: int, *, seed: int = 1, reference: str = "the reference's", judge: str = JUDGE
) -> MemoryLedger:
    """Return a ledger of judged requests.

    85 % of the cheap answers are acceptable; the judge accepts 95 % of them, 20 % of the others.
    """
    ledger, rng = MemoryLedger(clock=ManualClock(NOON)), np.random.default_rng(seed)
    with ledger.begin() as tx:
        tx.policies.set(PolicySettings(reference=STRONG), actor="a", now=NOON)
        for i in range(requests):
            name, is_good = f"r{i}", rng.random() < 0.85
            said = int(rng.random() < (0.95 if is_good else 0.20))
            tx.decisions.record([decided(name, category="math" if i % 2 else "code")])
            tx.responses.record([response(name, text=GOOD if is_good else BAD)])
            tx.responses.record_shadow(response(name, expert=STRONG, text=reference))
            both = [
                verdict(name, call=0, preference=float(said), judge_version=judge),
                verdict(
                    name,
                    call=1,
                    expert_a=STRONG,
                    expert_b=CHEAP,
                    preference=1.0 - said,
                    judge_version=judge,
                ),
            ]
            tx.labels.add(
                both, [label(name, outcome=said, judge_version=judge, labelled_at=later(i))]
            )
    return ledger


def truth(shown: Shown) -> float:
    """Return what a person says who knows good from bad, and cannot tell two good ones apart."""
    if BAD in {shown.first, shown.second}:
        return 0.0 if shown.first == BAD else 1.0
    return 0.5


def auditing(ledger: MemoryLedger, name: str = "ann") -> Auditing:
    return Auditing(ledger, ManualClock(NOON), auditor=name)


def answered(ledger: MemoryLedger, count: int | None, name: str = "ann") -> int:
    one = auditing(ledger, name)
    for candidate in (due := one.due()[:count]):
        shown = one.show(candidate)
        assert shown is not None
        assert one.answer(shown, truth(shown))
    return len(due)


def test_a_quarter_of_the_accepted_and_all_of_the_rejected_are_drawn() -> None:
    with judged_traffic(2_000).begin() as tx:
        found = judged_pairs(tx)
    due = drawn(found)
    accepted = sum(one.outcome for one in found)
    assert sum(not one.outcome for one in due) == len(found) - accepted
    share = sum(one.outcome for one in due) / accepted
    assert share == pytest.approx(ACCEPTED_SHARE, abs=0.04)


def test_the_first_pairs_are_a_sample_in_the_same_shares() -> None:
    """Whoever stops early has drawn either kind with probabilities in the ratio of the shares."""
    with judged_traffic(3_000).begin() as tx:
        found = judged_pairs(tx)
    few = drawn(found)[:300]
    counts = [sum(one.outcome == kind for one in found) for kind in (0, 1)]
    taken = [sum(one.outcome == kind for one in few) for kind in (0, 1)]
    ratio = (taken[1] / counts[1]) / (taken[0] / counts[0])
    assert ratio == pytest.approx(ACCEPTED_SHARE, rel=0.25)


def test_an_answer_is_stored_at_once_and_not_asked_for_again() -> None:
    ledger = judged_traffic(60)
    one = auditing(ledger)
    before = one.due()
    shown = one.show(before[0])
    assert shown is not None
    assert one.answer(shown, truth(shown))
    assert not one.answer(shown, 0.5)
    assert one.due() == before[1:]
    with ledger.begin() as tx:
        (stored,) = tx.judging.audited()
    assert (stored.auditor, stored.judge_version, stored.reference) == ("ann", JUDGE, STRONG)
    assert stored.inclusion_probability == pytest.approx(0.05 * share_of(before[0]))


def test_a_second_person_meets_the_same_pairs_and_new_ones_fall_in_between() -> None:
    ledger = judged_traffic(200)
    first = auditing(ledger).due()
    answered(ledger, 20)
    assert auditing(ledger, "bob").due() == first
    with ledger.begin() as tx:
        for i in range(200, 400):
            tx.decisions.record([decided(f"r{i}")])
            tx.responses.record([response(f"r{i}", text=GOOD)])
            tx.responses.record_shadow(response(f"r{i}", expert=STRONG, text="the reference's"))
            tx.labels.add([], [label(f"r{i}", labelled_at=later(i))])
    later_on = auditing(ledger).due()
    old = [one for one in later_on if one in first]
    assert old == first[20:]
    assert later_on[: len(old)] != old


def test_a_person_sees_no_names_and_either_answer_first() -> None:
    ledger = judged_traffic(80)
    one = auditing(ledger)
    shown = [found for candidate in one.due() if (found := one.show(candidate))]
    firsts = {found.is_expert_first for found in shown}
    assert firsts == {True, False}
    for found in shown:
        page = cli_audit._page(found, 1)
        assert CHEAP not in page
        assert STRONG not in page
        assert "\x1b" not in page
    for found in shown[:6]:
        one.answer(found, 1.0)
    with ledger.begin() as tx:
        said = {(p.request_id, p.preference) for p in tx.judging.audited()}
    assert said == {(f.candidate.request_id, float(f.is_expert_first)) for f in shown[:6]}


def test_a_text_that_was_erased_meanwhile_is_passed_over() -> None:
    ledger = judged_traffic(20)
    one = auditing(ledger)
    first = one.due()[0]
    with ledger.begin() as tx:
        tx.upkeep.erase(NOON.date(), tenant="default", session_id=None, actor="a", now=NOON)
    assert one.show(first) is None
    assert one.due() == []


def test_that_no_text_is_left_is_said() -> None:
    ledger = judged_traffic(1)
    with ledger.begin() as tx:
        tx.decisions.record([decided("bare")])
        tx.labels.add([], [label("bare", judge_version="new", labelled_at=later(99))])
    with pytest.raises(NotFound, match="no pair that new judged has its texts"):
        audit_report(ledger)


def test_nothing_judged_is_said() -> None:
    ledger = MemoryLedger(clock=ManualClock(NOON))
    with pytest.raises(NotFound, match="no judge has judged anything yet"):
        auditing(ledger).due()
    with ledger.begin() as tx:
        assert bound_in_force(tx) is None


def test_the_report_finds_the_judges_errors_and_what_they_leave_of_the_promise() -> None:
    ledger = judged_traffic(2_000)
    answered(ledger, 150)
    few = audit_report(ledger)
    assert few.true_risk_at_most is None
    assert f"not bounded yet: {few.audit.overall.bad} of 100" in "\n".join(lines(few))
    answered(ledger, None)
    answered(ledger, 40, "bob")
    found = audit_report(ledger)
    rates = found.audit.overall
    assert rates.bad > 200
    assert rates.wrongly_accepted is not None
    assert rates.sensitivity is not None
    assert rates.wrongly_accepted.low < 0.20 < rates.wrongly_accepted.high
    assert rates.sensitivity.low < 0.95 < rates.sensitivity.high
    limit = found.audit.bound.e1_at_most
    assert limit is not None
    assert found.true_risk_at_most == pytest.approx(0.1 / (1.0 - limit))
    assert found.acceptable.people_first is not None
    assert found.acceptable.people_first.low < 0.85 < found.acceptable.people_first.high
    assert found.audit.people is not None
    assert found.audit.people.share == 1.0
    assert found.biases.first_shown_wins is not None
    assert found.biases.first_shown_wins.value == pytest.approx(0.5)
    assert found.biases.towards_own_family is None
    assert set(found.audit.by_category) == {"code", "math"}
    (strength,) = found.strengths
    assert strength.expert == CHEAP
    assert strength.wins.low < found.acceptable.judged.value < strength.wins.high
    assert strength.wins_at_equal_length is not None
    assert found.biases.towards_longer is not None
    said = "\n".join(lines(found))
    assert "true risk at most 1" in said
    assert "95 % confidence, if people are right" in said
    assert json.loads(document(found))["audit"]["audit"]["bound"]["bad"] == rates.bad


def test_an_expert_of_the_judges_own_family_is_found_by_name() -> None:
    ledger = judged_traffic(100, judge="llm-gpt-4o-abc")
    answered(ledger, None)
    with ledger.begin() as tx:
        for name, model in ((CHEAP, "openai/gpt-4o-mini"), (STRONG, "gemini-2.5-pro")):
            tx.experts.add(expert(name, client={"kind": "openai", "model": model}))
        rival = RequestId("r0")
        tx.judging.audit_pair(
            audited(rival, expert=ExpertId("rival"), judge_version="llm-gpt-4o-abc")
        )
    favours = audit_report(ledger).biases.towards_own_family
    assert favours is not None
    assert favours.value == pytest.approx(np.mean(_excess(ledger)))


def _excess(ledger: MemoryLedger) -> list[float]:
    with ledger.begin() as tx:
        found = [p for p in tx.judging.audited() if p.expert == CHEAP]
    return [p.judge_outcome - float(p.preference >= 0.5) for p in found]


def test_nothing_is_said_of_equal_length_where_nobody_saw_it() -> None:
    ledger = judged_traffic(100, reference="the longest answer of them all, by far")
    (strength,) = audit_report(ledger).strengths
    assert strength.wins_at_equal_length is None


STRENGTH = {"first": 1.5, "second": 0.5, "third": -0.5, "fourth": -1.5, STRONG: 0.8}
"""Log-odds; planted."""


def duelled_traffic(requests: int) -> MemoryLedger:
    """Return a ledger in which one expert alone is ever compared with the reference.

    On every third request two others meet, drawn uniformly; those of a small gap, where either wins
    as often, ten times as often. On every fifth the reference meets itself, and loses one in four.
    """
    ledger, rng = MemoryLedger(clock=ManualClock(NOON)), np.random.default_rng(3)
    others = [ExpertId(name) for name in STRENGTH if name != STRONG]
    with ledger.begin() as tx:
        tx.policies.set(PolicySettings(reference=STRONG), actor="a", now=NOON)
        for i in range(requests):
            name, kind = f"r{i}", i % 5
            first, second = (others[k] for k in rng.choice(4, size=2, replace=False))
            has_small_gap = kind < 2 and {first, second} == {"first", "fourth"}
            odds = 0.0 if has_small_gap else STRENGTH[first] - STRENGTH[second]
            won = float(rng.random() < 1.0 / (1.0 + np.exp(-odds)))
            duel = Duel(first=first, second=second, probability=0.1 if has_small_gap else 0.01)
            if kind == 4:
                first, second, won = ExpertId(STRONG + AGAIN), STRONG, float(rng.random() < 0.75)
                duel = Duel(first=STRONG, second=STRONG, probability=0.02)
            tx.decisions.record([decided(name, duel=duel)])
            lone = rng.random() < 1.0 / (1.0 + np.exp(STRENGTH[STRONG] - STRENGTH["second"]))
            tx.responses.record([response(name, expert=ExpertId("second"), text="2" * (1 + i % 3))])
            for each in (*others, STRONG):
                text = each[: int(rng.integers(2, 5))]
                tx.responses.record_shadow(response(name, expert=each, text=text))
            said = [
                *_both_orders(name, ExpertId("second"), STRONG, float(lone)),
                *_both_orders(name, first, second, won),
            ]
            outcome = int(lone)
            tx.labels.add(
                said,
                [label(name, expert=ExpertId("second"), outcome=outcome, labelled_at=later(i))],
            )
            tx.tasks.add(
                [task(name, experts=(ExpertId(duel.first), ExpertId(duel.second)), purpose=DUEL)]
            )
        for done in tx.tasks.lease(worker="w", now=NOON, lease_s=9.0, limit=requests):
            tx.tasks.finish(done.task_id or 0, worker="w")
    return ledger


def _both_orders(name: str, first: ExpertId, second: ExpertId, won: float) -> list[Verdict]:
    return [
        verdict(name, call=0, expert_a=first, expert_b=second, preference=won),
        verdict(name, call=1, expert_a=second, expert_b=first, preference=1.0 - won),
    ]


def test_duels_rank_experts_that_never_met_the_reference() -> None:
    found = audit_report(duelled_traffic(1_500))
    assert [one.expert for one in found.strengths] == ["first", "second", "third", "fourth"]
    for one in found.strengths:
        truth = 1.0 / (1.0 + np.exp(STRENGTH[STRONG] - STRENGTH[one.expert]))
        assert one.wins.low < truth < one.wins.high, one.expert
    assert found.duels == 1_200
    assert found.floor is not None
    assert found.floor.low < 0.25 < found.floor.high
    assert found.floor.drawn == 300
    said = "\n".join(lines(found))
    assert "1,200 of the comparisons are duels" in said
    assert "of 300 second answers of strong are not acceptable" in said
    assert json.loads(document(found))["audit"]["floor"]["drawn"] == 300


def test_duels_of_another_judge_or_another_reference_do_not_count() -> None:
    ledger = duelled_traffic(300)
    with ledger.begin() as tx:
        again = label("r0", expert=ExpertId("second"), judge_version="new", labelled_at=later(999))
        tx.labels.add([], [again])
    assert audit_report(ledger).duels == 0
    ledger = duelled_traffic(300)
    with ledger.begin() as tx:
        tx.policies.set(PolicySettings(reference=ExpertId("first")), actor="a", now=NOON)
    assert audit_report(ledger).floor is None


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    made = judged_traffic(60)

    @contextmanager
    def opened() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(ledger=made, clock=ManualClock(NOON))

    monkeypatch.setattr(cli_audit, "opened_backbone", opened)
    return made


def typed(keys: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["audit", *arguments], input=keys)


def test_keys_are_answers_and_quitting_keeps_them(ledger: MemoryLedger) -> None:
    done = typed("1s?2Tq", "--auditor", "ann")
    assert done.exit_code == 0, done.output
    assert "3 answers stored" in done.output
    with ledger.begin() as tx:
        assert len(tx.judging.audited()) == 3
    again = typed("q", "--auditor", "ann")
    assert "0 answers stored" in again.output


def test_an_audit_needs_a_name_and_its_report_does_not(ledger: MemoryLedger) -> None:
    refused = typed("", "--auditor", " ")
    assert refused.exit_code == 2
    assert "say who you are" in refused.output
    shown = typed("", "report")
    assert shown.exit_code == 0, shown.output
    assert "not bounded yet: 0 of 100 truly bad pairs audited" in shown.output
    machine = typed("", "report", "--json")
    assert json.loads(machine.output)["kind"] == "steersman.audit"
