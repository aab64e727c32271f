"""Duels: which pairs are drawn, what comes of them, and that λ knows nothing of any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import pytest

from judge import sampling
from judge.batch import MAX_ATTEMPTS, retry_after_s
from judge.pairs import Panel
from judge.port import Question, Reply
from judge.sampling import OF_ANY_PAIR, OF_CLOSE_PAIRS, OF_THE_REFERENCE, drawn_duel, is_drawn
from judge.worker import JudgeWorker
from online.clients import Answer
from store.clock import ManualClock
from store.duels import AGAIN, DUEL, Duel
from store.errors import ExpertUnavailable, JudgeUnavailable
from store.judging import Quarantine
from store.memory import MemoryLedger
from store.policy import OFF, PolicySettings
from store.records import (
    Decision,
    Expert,
    ExpertId,
    ExpertStatus,
    JudgeTask,
    OutboxMessage,
    RequestId,
    Retrieved,
    Verdict,
)
from tests.factories import CHEAP, NOON, STRONG, decided, expert, message, response, settings, task
from tests.unit import state_fakes
from tests.unit.loop_fakes import SMALL, TINY, TRAINED, loop, run, traffic

MID = ExpertId("mid")
R0 = RequestId("r0")
IDS = [RequestId(f"r{number}") for number in range(20_000)]
A, B, C, D, E = state_fakes.NAMES[1:]


def drawn(
    *,
    sure: float | None = 0.9,
    statuses: Mapping[ExpertId, ExpertStatus] | None = None,
    **more: tuple[ExpertId, ...],
) -> dict[RequestId, Duel]:
    """The duels of all requests, whose two best are always A and B."""
    state = state_fakes.state(statuses=statuses)
    best = [(A, 0.9), (STRONG, 0.2), (B, 0.8), (C, None), (D, 0.3)]
    retrieved = [
        Retrieved(expert=name, cosine=0.5, score=utility, utility=utility, is_candidate=True)
        for name, utility in best
    ]
    found = {name: drawn_duel(name, state, retrieved, sure, **more) for name in IDS}
    return {name: duel for name, duel in found.items() if duel is not None}


def pairs(found: Mapping[RequestId, Duel]) -> Counter[tuple[str, str]]:
    return Counter((duel.first, duel.second) for duel in found.values())


def test_every_pair_of_the_pool_meets_as_often_as_its_probability_says() -> None:
    found = drawn()
    counted = pairs(found)
    assert set(counted) == {*combinations((A, B, C, D, E), 2), (STRONG, STRONG)}
    for name, duel in found.items():
        itself = duel.first == duel.second
        assert duel.probability == (OF_THE_REFERENCE if itself else OF_ANY_PAIR / 10), name
    for pair, times in counted.items():
        share = OF_THE_REFERENCE if pair[0] == pair[1] else OF_ANY_PAIR / 10
        assert times / len(IDS) == pytest.approx(share, abs=4.5 * (share / len(IDS)) ** 0.5)


def test_where_the_gap_is_not_trusted_the_two_best_meet_more_often() -> None:
    found = drawn(sure=0.5)
    close = OF_CLOSE_PAIRS + OF_ANY_PAIR / 10
    assert {d.probability for d in found.values() if {d.first, d.second} == {A, B}} == {close}
    times = pairs(found)[A, B]
    assert times / len(IDS) == pytest.approx(close, abs=4.5 * (close / len(IDS)) ** 0.5)
    others = {d.probability for d in found.values() if {A, B} != {d.first, d.second}}
    assert others == {OF_ANY_PAIR / 10, OF_THE_REFERENCE}
    assert {name: d for name, d in drawn().items() if {A, B} != {d.first, d.second}} == {
        name: d for name, d in found.items() if {A, B} != {d.first, d.second}
    }, "the gap adds duels and moves none"


def test_a_pair_with_the_reference_is_no_duel() -> None:
    """It is judged anyway: here the reference is one of the two best that are left."""
    assert pairs(drawn(sure=0.5, excluded=(A,)))[B, STRONG] == 0


@pytest.mark.parametrize(
    "status", [ExpertStatus.PAUSED, ExpertStatus.RETIRED, ExpertStatus.DESCRIBED]
)
def test_who_is_not_judged_and_who_cannot_serve_never_duels(status: ExpertStatus) -> None:
    found = drawn(sure=0.5, statuses={A: status}, excluded=(C,))
    met = {name for pair in pairs(found) for name in pair}
    assert met == {B, D, E, STRONG}


def test_one_expert_has_nobody_to_duel_with() -> None:
    met = pairs(drawn(sure=0.5, excluded=(B, C, D, E)))
    assert set(met) == {(STRONG, STRONG)}


def test_duels_are_drawn_apart_from_the_sample() -> None:
    found = drawn()
    among = [name for name in IDS if is_drawn(name, 0.05)]
    share = sum(name in found for name in among) / len(among)
    assert share == pytest.approx(len(found) / len(IDS), abs=0.04)


# ---------------------------------------------------------------- what the worker makes of them


class CountingJudge:
    """Prefers the longer answer."""

    version = "longer-1"
    family: str | None = None

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.away = False

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        if self.away:
            raise JudgeUnavailable("away")
        self.asked.append(question)
        a, b = (len(answer.text or "") for answer in (question.answer_a, question.answer_b))
        return Reply(preference=0.5 if a == b else float(a > b))


class Bench:
    """One sampled request with a duel, and a worker."""

    def __init__(self, duel: tuple[ExpertId, ExpertId] = (CHEAP, MID), *, check: str | None = None):
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.judge = CountingJudge()
        self.answers = {CHEAP: "four", MID: "it is four", STRONG: "4"}
        self.calls: list[ExpertId] = []
        self.silent: set[ExpertId] = set()
        self.sent: list[OutboxMessage] = []
        made = decided(
            "r0",
            due_experts=(CHEAP, MID),
            duel=Duel(first=duel[0], second=duel[1], probability=0.1),
        )
        with self.ledger.begin() as tx:
            tx.policies.set(PolicySettings(reference=STRONG), actor="a", now=NOON)
            for name in self.answers:
                tx.experts.add(expert(name, client={"kind": "openai", "model": name}))
            tx.decisions.record([replace(made, prompt=replace(made.prompt, check=check))])
            tx.responses.record([response("r0", text=self.answers[CHEAP])])
            tx.tasks.add([task("r0", experts=(CHEAP, MID))])
        self.worker = JudgeWorker(
            self.ledger,
            lambda: Panel((self.judge,)),
            self._client,
            self.clock,
            name="w",
            announce=lambda labels: [message(x.expert) for x in labels],
            publish=self.sent.extend,
        )

    def _client(self, member: Expert) -> Bench:
        self._called = member.name
        return self

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        self.calls.append(self._called)
        if self._called in self.silent:
            raise ExpertUnavailable("silent")
        return Answer(text=self.answers[self._called], cost_usd=0.002)

    def status(self, name: ExpertId, status: ExpertStatus) -> None:
        with self.ledger.begin() as tx:
            before = ExpertStatus.REGISTERED
            assert tx.experts.set_status(name, before=before, after=status, now=NOON)

    def duels(self) -> list[JudgeTask]:
        with self.ledger.begin() as tx:
            return tx.tasks.listed(status=None, purpose=DUEL, limit=9)

    def verdicts(self, *pair: str) -> list[Verdict]:
        with self.ledger.begin() as tx:
            found = tx.labels.verdicts_of(R0)
        return [one for one in found if {one.expert_a, one.expert_b} == set(pair)]

    def labels(self) -> set[ExpertId]:
        with self.ledger.begin() as tx:
            found = tx.labels.settled_since(0).labels
        assert {label.purpose for label in found} <= {"traffic"}
        return {label.expert for label in found}

    def try_again(self) -> None:
        self.clock.advance(retry_after_s(self.duels()[0]) + 999.0)
        self.worker.step()


def test_a_duel_follows_its_requests_labels_and_brings_verdicts_alone() -> None:
    bench = Bench()
    assert bench.worker.step() == 1
    labelled, announced = bench.labels(), len(bench.sent)
    assert labelled == {CHEAP, MID, STRONG}
    (waiting,) = bench.duels()
    assert (waiting.experts, waiting.tenant, waiting.status) == ((CHEAP, MID), "default", "pending")
    shadow = list(bench.calls)
    assert bench.worker.step() == 1
    assert [one.preference for one in bench.verdicts(CHEAP, MID)] == [0.0, 1.0]
    assert (bench.labels(), len(bench.sent), bench.calls) == (labelled, announced, shadow)
    assert [one.status for one in bench.duels()] == ["done"]
    assert bench.worker.step() == 0


def test_the_reference_is_asked_again_and_its_second_answer_is_kept_nowhere() -> None:
    bench = Bench((STRONG, STRONG))
    bench.worker.step()
    bench.answers[STRONG] = "4, I think"
    bench.worker.step()
    assert Counter(bench.calls) == {MID: 1, STRONG: 2}
    again = bench.verdicts(STRONG, STRONG + AGAIN)
    assert {v.preference if v.expert_a == STRONG + AGAIN else 1 - v.preference for v in again} == {
        1
    }
    with bench.ledger.begin() as tx:
        kept = tx.responses.find_shadow(R0, STRONG)
    assert kept is not None
    assert kept.text == "4"


def test_recorded_answers_are_not_compared_with_themselves() -> None:
    bench = Bench((STRONG, STRONG))
    with bench.ledger.begin() as tx:
        held = tx.experts.find(STRONG)
        assert held is not None
    bench.worker.step()
    bench.ledger._tables.experts[STRONG] = replace(held, client={"kind": "recorded"})
    bench.worker.step()
    assert bench.verdicts(STRONG, STRONG + AGAIN) == []
    assert [one.status for one in bench.duels()] == ["done"]


def test_what_a_check_grades_needs_no_duel() -> None:
    bench = Bench(check='{"kind": "exact", "answer": ["4", "four", "it is four"]}')
    bench.worker.step()
    assert bench.labels() == {CHEAP, MID, STRONG}
    assert bench.duels() == []


@pytest.mark.parametrize("status", [ExpertStatus.PAUSED, ExpertStatus.RETIRED])
def test_who_has_left_the_pool_meanwhile_is_not_compared(status: ExpertStatus) -> None:
    bench = Bench()
    bench.worker.step()
    asked = len(bench.judge.asked)
    bench.status(MID, status)
    bench.worker.step()
    assert len(bench.judge.asked) == asked
    assert [one.status for one in bench.duels()] == ["done"]


@pytest.mark.parametrize("status", [ExpertStatus.PAUSED, ExpertStatus.RETIRED])
def test_a_reference_that_has_left_meanwhile_keeps_no_others_from_their_duel(
    status: ExpertStatus,
) -> None:
    bench = Bench()
    bench.worker.step()
    bench.status(STRONG, status)
    bench.worker.step()
    assert len(bench.verdicts(CHEAP, MID)) == 2
    assert [one.status for one in bench.duels()] == ["done"]


def test_a_reference_that_has_left_meanwhile_is_not_asked_again() -> None:
    bench = Bench((STRONG, STRONG))
    bench.worker.step()
    asked = list(bench.calls)
    bench.status(STRONG, ExpertStatus.RETIRED)
    bench.worker.step()
    assert bench.calls == asked
    assert [one.status for one in bench.duels()] == ["done"]


def test_a_tenant_that_opts_out_ends_its_duels() -> None:
    bench = Bench()
    bench.worker.step()
    asked = len(bench.judge.asked)
    with bench.ledger.begin() as tx:
        tx.policies.set(settings(unjudged_tenants="default"), actor="a", now=NOON)
    bench.worker.step()
    assert len(bench.judge.asked) == asked
    assert [one.status for one in bench.duels()] == ["dead"]


def test_mode_off_lets_duels_wait() -> None:
    bench = Bench()
    bench.worker.step()
    with bench.ledger.begin() as tx:
        tx.policies.set(settings(mode=OFF), actor="a", now=NOON)
    assert bench.worker.step() == 0
    assert [one.status for one in bench.duels()] == ["pending"]


def test_a_judge_that_is_away_costs_a_duel_no_attempt() -> None:
    bench = Bench()
    bench.worker.step()
    bench.judge.away = True
    bench.worker.step()
    (waiting,) = bench.duels()
    assert (waiting.status, waiting.attempts) == ("pending", 0)
    bench.judge.away = False
    bench.try_again()
    assert [one.status for one in bench.duels()] == ["done"]


def test_a_judge_that_is_away_has_the_reference_asked_again_a_few_times_at_most() -> None:
    """Its second answer is kept nowhere, so each try pays for another."""
    bench = Bench((STRONG, STRONG))
    bench.worker.step()
    bench.judge.away = True
    for _ in range(3 * MAX_ATTEMPTS):
        bench.try_again()
    assert Counter(bench.calls) == {MID: 1, STRONG: 1 + MAX_ATTEMPTS}
    assert [(one.status, one.last_error) for one in bench.duels()] == [("dead", "away")]


def test_a_duel_in_hand_while_its_judge_is_quarantined_is_held_again() -> None:
    bench = Bench()
    bench.worker.step()
    held = Quarantine(
        judge_version=CountingJudge.version, since=NOON, reason="lost", imposed_at=NOON
    )

    def impose(question: Question) -> Reply:
        with bench.ledger.begin() as tx:
            tx.judging.quarantine(held, actor="canaries")
        return Reply(preference=0.5)

    bench.judge.compare = impose  # type: ignore[method-assign]
    bench.worker.step()
    (waiting,) = bench.duels()
    assert (waiting.status, waiting.attempts) == ("pending", 0)
    assert bench.verdicts(CHEAP, MID) == []


def test_a_duel_that_cannot_be_held_ends_dead_and_labels_nobody() -> None:
    bench = Bench((STRONG, STRONG))
    bench.worker.step()
    labelled = bench.labels()
    bench.silent.add(STRONG)
    for _ in range(MAX_ATTEMPTS):
        bench.try_again()
    (ended,) = bench.duels()
    assert (ended.status, ended.attempts, ended.last_error) == ("dead", MAX_ATTEMPTS, "silent")
    assert bench.labels() == labelled
    assert bench.verdicts(STRONG, STRONG + AGAIN) == []


# ---------------------------------------------------------------- λ


def test_duels_change_neither_a_decision_nor_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, though every second request has one."""

    def story(share: float) -> tuple[list[Decision], list[str], int]:
        monkeypatch.setattr(sampling, "OF_ANY_PAIR", share)
        made = loop(traffic(TRAINED + 96))
        decisions = [replace(one.decision, duel=None) for one in run(made)]
        with made.ledger.begin() as tx:
            last = tx.states.active()
            duels = tx.tasks.listed(status=None, purpose=DUEL, limit=9_999)
            assert last is not None
            states = [tx.states.find(version) for version in range(1, last.version + 1)]
        assert {one.status for one in duels} <= {"done"}
        assert {name for one in duels for name in one.experts} <= {SMALL, TINY, state_fakes.STRONG}
        return decisions, [one.sha256 for one in states if one is not None], len(duels)

    without, plain, few = story(0.0)
    assert story(0.5)[:2] == (without, plain)
    assert story(0.5)[2] > few + 100
    assert len(set(plain)) > 3
