"""One request's verdicts on one bill: all of them are paid for, or none is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from judge.kept import Kept
from judge.pairs import Panel
from judge.patrol import RETRY_AFTER_S as CANARIES_AGAIN_S
from judge.patrol import RUNS_PER_DAY, Patrol
from judge.port import Question, Reply
from judge.purse import LOOK_AGAIN_S, LOST_AFTER_S, Bill, Purse
from judge.spending import BudgetedJudge, bill_of, out_of_money
from judge.worker import JudgeWorker
from online.clients import Answer
from store.clock import ManualClock
from store.errors import JudgeUnavailable
from store.memory import MemoryLedger
from store.money import CANARY, JUDGE, day_of, judge_budget_of
from store.records import (
    DEFAULT_TENANT,
    Alert,
    ExpertId,
    JudgeTask,
    Label,
    OutboxMessage,
    RequestId,
)
from tests.factories import CHEAP, NOON, STRONG, decided, expert, response, settings, task

TRY_USD = 0.01
TASK_USD = 0.08
"""Three calls, each asked twice, and two lost tries."""
OTHER = ExpertId("other")


class Moody:
    """Decides at once, or says what position it likes; each call costs half of its most."""

    version, family = "moody-1", "moody"

    def __init__(self, is_blind: Callable[[Question], bool] = lambda _: False) -> None:
        self.is_blind = is_blind
        self.asked: list[Question] = []
        self.before_call: Callable[[int], None] = lambda _: None
        self.try_usd = TRY_USD
        self.lock = threading.Lock()

    def most_usd(self, question: Question) -> float:
        return self.try_usd

    def compare(self, question: Question) -> Reply:
        with self.lock:
            self.asked.append(question)
            number = len(self.asked)
        self.before_call(number)
        is_first = question.expert_a != STRONG
        preference = 1.0 if self.is_blind(question) else float(is_first)
        return Reply(preference=preference, cost_usd=self.try_usd / 2)


class House:
    """Judge tasks on requests that are answered already, and a budget for them."""

    def __init__(self, requests: int = 1, *, experts: int = 1, **policy: float | str) -> None:
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.sent: list[OutboxMessage] = []
        self.purse = self.another_purse()
        self.judge = Moody()
        self.policy = settings(judge="llm")
        self.change(**policy)
        self.names = [f"r{n}" for n in range(requests)]
        asked = (CHEAP, OTHER)[:experts]
        with self.ledger.begin() as tx:
            for name in (CHEAP, OTHER, STRONG):
                tx.experts.add(expert(name))
            tx.decisions.record([decided(n, text=f"{n}?", due_experts=asked) for n in self.names])
            for n in self.names:
                tx.responses.record([response(n, text=f"Short {n}.")])
                for other in (STRONG, OTHER):
                    shadow = response(n, expert=other, text=f"{other} on {n}.")
                    tx.responses.record_shadow(shadow)
            tx.tasks.add([task(n, experts=asked) for n in self.names])

    def another_purse(self) -> Purse:
        return Purse(
            self.ledger,
            self.clock,
            announce=self._message,
            publish=self.sent.extend,
        )

    def change(self, **changes: float | str) -> None:
        self.policy = replace(self.policy, **changes)  # type: ignore[arg-type]
        with self.ledger.begin() as tx:
            tx.policies.set(self.policy, actor="test", now=NOON)

    def panel(self) -> Panel:
        budgeted = BudgetedJudge(self.judge, self.purse)
        return Panel((Kept(budgeted, self.ledger, self.clock),))

    def worker(self, name: str = "w") -> JudgeWorker:
        def nobody(_: object) -> None:
            raise AssertionError("every answer is there")

        return JudgeWorker(
            self.ledger,
            self.panel,
            nobody,  # type: ignore[arg-type]
            self.clock,
            name=name,
            announce=lambda _: [],
            publish=lambda _: None,
        )

    def work(self, wait_s: float = 0.0) -> None:
        self.clock.advance(wait_s)
        while self.worker().step():
            pass

    def labels(self) -> list[Label]:
        with self.ledger.begin() as tx:
            return list(tx.labels.settled_since(0).labels)

    def counts(self) -> dict[str, int]:
        with self.ledger.begin() as tx:
            return {k: v for k, v in tx.tasks.counts().items() if v}

    def tasks(self) -> list[JudgeTask]:
        with self.ledger.begin() as tx:
            return tx.tasks.listed(status=None, limit=100)

    def used(self, kind: str = JUDGE, *, days: int = 0) -> float:
        day = day_of(NOON.replace(day=NOON.day + days))
        with self.ledger.begin() as tx:
            return tx.money.used([kind], day=day)[kind] / 1e6

    def under_way(self) -> int:
        with self.ledger.begin() as tx:
            return tx.money.under_way([JUDGE], day=day_of(NOON))[JUDGE]

    def alerts(self) -> list[Alert]:
        with self.ledger.begin() as tx:
            return tx.operations.alerts(limit=10)

    def samples(self) -> bool:
        with self.ledger.begin() as tx:
            day = day_of(self.clock.now())
            return not out_of_money(tx, self.policy, {DEFAULT_TENANT}, day=day)

    def _message(self, alert: Alert) -> OutboxMessage:
        return OutboxMessage(topic="alerts", key=alert.subject, value=b"")


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("cents", range(1, 40, 3))
def test_the_end_of_the_money_parts_no_request_whatever_its_verdicts(
    cents: int, experts: int
) -> None:
    """Were it reserved call by call, requests whose orders agree would be labelled, others wait."""
    house = House(40, experts=experts, judge_usd_per_day=cents / 100)
    house.judge.is_blind = lambda question: int(question.request_id[1:]) % 2 == 0
    house.work()
    judged = {label.request_id for label in house.labels() if label.score is not None}
    assert {question.request_id for question in house.judge.asked} == judged
    assert house.used() <= cents / 100 + 1e-9
    assert house.under_way() == 0
    if cents / 100 >= 2 * experts * TASK_USD:
        assert house.counts()["pending"] > 0
        kinds = {int(name[1:]) % 2 for name in judged}
        assert kinds == {0, 1}


def test_what_was_not_spent_pays_for_the_next_task() -> None:
    house = House(3, judge_usd_per_day=TASK_USD + 2 * TRY_USD)
    house.work()
    assert house.counts() == {"done": 3}
    assert house.used() == house.used(judge_budget_of(DEFAULT_TENANT)) == pytest.approx(0.03)


def test_kept_verdicts_need_no_budget() -> None:
    house = House(1)
    house.work()
    assert house.used() == pytest.approx(0.01)
    house.change(judge_usd_per_day=0.0, judge_usd_per_tenant_day=0.0)
    with house.ledger.begin() as tx:
        tx.tasks.add([task("r0", purpose="topped up")])
    house.work()
    assert house.counts() == {"done": 2}
    assert len(house.judge.asked) == 2
    assert not house.alerts()


def test_after_an_outage_a_task_pays_for_what_is_left_of_it() -> None:
    house = House(1)
    house.judge.is_blind = lambda _: True

    def fail_once(number: int) -> None:
        if number == 2:
            raise JudgeUnavailable("hung", cost_usd=TRY_USD)

    house.judge.before_call = fail_once
    house.work()
    assert house.counts() == {"pending": 1}
    assert house.used() == pytest.approx(0.015), "perhaps billed: at its most"
    house.work(wait_s=20.0)
    assert house.counts() == {"done": 1}
    assert len(house.judge.asked) == 4, "the first call is kept"
    assert house.used() == pytest.approx(0.025)
    assert house.under_way() == 0


def test_32_workers_and_money_for_one_task() -> None:
    """Who comes too early is told to come again, and not that the day is over."""
    house = House(32, judge_usd_per_day=TASK_USD)
    begin, over = threading.Barrier(32), threading.Event()
    refused: list[JudgeUnavailable] = []

    def hold(number: int) -> None:
        if number == 1:
            assert over.wait(20.0)

    house.judge.before_call = hold

    def work(number: int) -> None:
        begin.wait()
        panel = house.panel()
        with bill_of(DEFAULT_TENANT, lambda: 80_000) as bill:
            try:
                panel.judges[0].compare(question_of(number, bill))
            except JudgeUnavailable as problem:
                refused.append(problem)
            if len(refused) == 31:
                over.set()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(house.judge.asked) == 1
    assert {str(one) for one in refused} == {
        "what is left of the day's budget is reserved for other tasks"
    }
    assert house.samples()
    assert not house.alerts()
    assert house.used() == pytest.approx(0.005)


def question_of(number: int, bill: Bill) -> Question:
    return Question(
        request_id=RequestId(f"r{number}"),
        prompt=f"{number}?",
        expert_a=CHEAP,
        answer_a=Answer(text="a", cost_usd=0.0),
        expert_b=STRONG,
        answer_b=Answer(text="b", cost_usd=0.0),
        bill=bill,
    )


def test_what_the_dead_reserved_stops_sampling_once_it_is_clear_that_they_are() -> None:
    house = House(1, judge_usd_per_day=TASK_USD)
    lost = bill_of(DEFAULT_TENANT, lambda: 80_000)
    lost.cover(house.another_purse(), TRY_USD)  # and its process is killed
    for _ in range(3):
        house.work(wait_s=LOST_AFTER_S / 2)
        assert house.counts() == {"pending": 1}
    assert house.samples()
    house.work(wait_s=LOST_AFTER_S / 2)
    assert not house.samples()
    assert "budget is spent" in (house.tasks()[0].last_error or "")
    assert house.used() == TASK_USD, "it stays spent: nobody knows which calls were made"


def test_what_the_dead_reserved_is_lost_although_cheap_requests_still_find_room() -> None:
    """Else the day's labels would be those of short requests, and nobody would be told."""
    house = House(1, judge_usd_per_day=3 * TASK_USD)
    lost = bill_of(DEFAULT_TENANT, lambda: 200_000)
    lost.cover(house.another_purse(), TRY_USD)  # and its process is killed
    begun = house.clock.monotonic()
    while house.samples():
        with bill_of(DEFAULT_TENANT, lambda: 30_000) as cheap:
            cheap.cover(house.purse, TRY_USD)
            cheap.add(1e-6)
        house.work(wait_s=60.0)
        assert house.counts() == {"pending": 1}
        assert house.clock.monotonic() - begun < 3 * LOST_AFTER_S
    assert house.clock.monotonic() - begun > LOST_AFTER_S


def test_a_task_that_no_day_can_pay_for_is_a_loss_and_stops_nothing() -> None:
    house = House(3, judge_usd_per_day=TASK_USD - 1e-6)
    house.work()
    assert house.counts() == {"dead": 3}
    assert {(x.expert, x.outcome, x.score) for x in house.labels()} == {(CHEAP, 0, None)}
    assert not house.judge.asked
    error = house.tasks()[0].last_error or ""
    assert error.startswith("it may cost 0.08 USD, more than the whole day's budget judge_usd of")
    assert house.samples()
    (alert,) = house.alerts()
    assert (alert.subject, alert.evidence["most_usd"]) == (JUDGE, TASK_USD)
    assert [message.key for message in house.sent] == [JUDGE]
    house.change(judge_usd_per_day=1.0, judge_usd_per_tenant_day=TASK_USD - 1e-6)
    with house.ledger.begin() as tx:
        tx.tasks.add([task("r0", purpose="topped up")])
    house.work()
    assert house.counts() == {"dead": 4}
    assert house.alerts()[0].subject == judge_budget_of(DEFAULT_TENANT)


def test_a_limit_of_nothing_makes_tasks_wait_and_no_losses() -> None:
    house = House(1, judge_usd_per_day=0.0)
    house.work()
    assert house.counts() == {"pending": 1}
    assert not house.samples()


def test_a_raised_limit_is_seen_within_minutes() -> None:
    house = House(3, judge_usd_per_day=TASK_USD)
    house.work()
    assert house.counts() == {"done": 1, "pending": 2}
    house.change(judge_usd_per_day=1.0)
    house.work(wait_s=LOOK_AGAIN_S)
    assert house.counts() == {"done": 3}


def test_a_limit_that_is_lowered_under_way_parts_no_request() -> None:
    house = House(2)
    house.judge.before_call = lambda _: house.change(judge_usd_per_day=0.0)
    house.work()
    assert house.counts() == {"done": 1, "pending": 1}
    assert house.used() == pytest.approx(0.01)


def test_a_request_judged_over_midnight_is_paid_by_the_day_it_was_begun() -> None:
    house = House(1)
    house.judge.before_call = lambda number: house.clock.advance(12 * 3600.0 * (number == 1))
    house.work()
    assert house.counts() == {"done": 1}
    assert [house.used(), house.used(days=1)] == pytest.approx([0.01, 0.0])
    assert house.under_way() == 0


def test_a_price_that_rises_under_way_is_reserved_anew_before_more_is_asked() -> None:
    house = House(1, judge_usd_per_day=2.0)
    seen: list[float] = []

    def dearer(number: int) -> None:
        seen.append(house.used())
        house.judge.try_usd = 0.1

    house.judge.before_call = dearer
    house.work()
    assert house.counts() == {"done": 1}
    assert seen == [pytest.approx(0.08), pytest.approx(0.05 + 0.8)]
    assert house.used() == pytest.approx(0.1)
    assert house.under_way() == 0


def test_lost_tries_that_use_up_a_bill_are_never_overspent() -> None:
    house = House(1, judge_usd_per_day=TASK_USD)

    class Losing(Moody):
        """Answers every call, after as many lost tries as there can be."""

        def compare(self, question: Question) -> Reply:
            return replace(super().compare(question), cost_usd=3 * TRY_USD)

    house.judge = Losing(lambda _: True)
    house.work()
    assert len(house.judge.asked) == 2, "0.02 are left, and the third call may cost 0.03"
    assert house.counts() == {"pending": 1}
    assert house.used() == pytest.approx(0.06)
    house.work(wait_s=12 * 3600.0)
    assert len(house.judge.asked) == 3
    assert house.counts() == {"done": 1}


def test_a_spent_budget_leaves_the_canaries_alone_and_they_leave_it() -> None:
    house = House(1, judge_usd_per_day=0.0, judge_usd_per_tenant_day=0.0)
    patrol = Patrol(
        house.ledger, house.panel, house.clock, announce=house._message, send=lambda _: None
    )
    assert patrol.step() == 1
    assert len(house.judge.asked) == 130
    assert house.used(CANARY) == pytest.approx(130 * TRY_USD / 2)
    assert house.used() == house.used(judge_budget_of(DEFAULT_TENANT)) == 0.0


def test_canaries_that_an_endpoint_never_finishes_are_begun_so_often_a_day() -> None:
    house = House(1)

    def fail(number: int) -> None:
        if number % 2 == 0:
            raise JudgeUnavailable("away")

    house.judge.before_call = fail
    patrol = Patrol(
        house.ledger, house.panel, house.clock, announce=house._message, send=lambda _: None
    )
    for _ in range(RUNS_PER_DAY + 5):
        patrol.step()
        house.clock.advance(CANARIES_AGAIN_S)
    assert len(house.judge.asked) == 2 * RUNS_PER_DAY
    house.judge.before_call = lambda _: None
    house.clock.advance(12 * 3600.0)
    assert patrol.step() == 1
