"""Money: nothing is asked that the day cannot pay for, and sampling stops with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from judge.port import Question, Reply
from judge.purse import LOOK_AGAIN_S, Bill, Purse
from judge.spending import BudgetedJudge, bill_of, budgeted_clients, out_of_money
from online.clients import Answer, ExpertClient
from store.clock import ManualClock
from store.errors import ExpertUnavailable, JudgeUnavailable, SettingsInvalid, VerdictUnreadable
from store.memory import MemoryLedger
from store.money import JUDGE, SHADOW, day_of, judge_budget_of
from store.policy import MOST_USD
from store.records import Alert, AlertKind, Expert, OutboxMessage, RequestId
from tests.factories import CHEAP, NOON, STRONG, expert, settings

ACME, BOLT = "acme", "bolt"
DAY = day_of(NOON)


class PricedJudge:
    """Costs a cent at most; what it costs and how it ends is scripted."""

    version, family = "priced-1", "acme"

    def __init__(self, *ends: float | Exception) -> None:
        self.ends = list(ends)
        self.asked = 0
        self.most = 0.01

    def most_usd(self, question: Question) -> float:
        return self.most

    def compare(self, question: Question) -> Reply:
        self.asked += 1
        end = self.ends.pop(0) if self.ends else 0.004
        if isinstance(end, Exception):
            raise end
        return Reply(preference=1.0, cost_usd=end)


class Client:
    def __init__(self, end: Answer | Exception) -> None:
        self.end = end

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


class House:
    """A ledger with a policy, and a purse that remembers what it sent."""

    def __init__(self, **policy: float | str) -> None:
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.sent: list[OutboxMessage] = []
        self.purse = Purse(
            self.ledger, self.clock, announce=self._message, publish=self.sent.extend
        )
        self.policy = settings()
        self.change(**policy)

    def change(self, **changes: float | str) -> None:
        self.policy = replace(self.policy, **changes)  # type: ignore[arg-type]
        with self.ledger.begin() as tx:
            tx.policies.set(self.policy, actor="test", now=NOON)

    def used(self, *kinds: str, day: str = DAY) -> list[int]:
        with self.ledger.begin() as tx:
            return list(tx.money.used(kinds, day=day).values())

    def alerts(self) -> list[str]:
        with self.ledger.begin() as tx:
            found = tx.operations.alerts(limit=10, kind=AlertKind.JUDGE_BUDGET_SPENT)
        return [alert.subject for alert in reversed(found)]

    def poor(self) -> set[str]:
        with self.ledger.begin() as tx:
            return out_of_money(tx, self.policy, {ACME, BOLT}, day=day_of(self.clock.now()))

    def _message(self, alert: Alert) -> OutboxMessage:
        return OutboxMessage(topic="alerts", key=alert.subject, value=b"")


def asked(judge: BudgetedJudge, tenant: str = ACME, *, most: int = 0) -> Reply:
    """Ask on a bill of its own."""
    with bill_of(tenant, lambda: most) as bill:
        return judge.compare(question(bill))


def question(bill: Bill | None = None) -> Question:
    return Question(
        request_id=RequestId("r1"),
        prompt="p",
        expert_a=CHEAP,
        answer_a=Answer(text="a", cost_usd=0.0),
        expert_b=STRONG,
        answer_b=Answer(text="b", cost_usd=0.0),
        bill=bill,
    )


def test_a_verdict_is_reserved_at_its_most_and_settled_at_its_cost() -> None:
    house = House()
    seen: list[int] = []

    class Looking(PricedJudge):
        def compare(self, question: Question) -> Reply:
            seen.extend(house.used(JUDGE, judge_budget_of(ACME)))
            return super().compare(question)

    judge = BudgetedJudge(Looking(0.004, 0.032), house.purse)
    assert asked(judge).cost_usd == 0.004
    assert asked(judge).cost_usd == 0.032, "more than it said: counted all the same"
    assert seen == [30_000, 30_000, 34_000, 34_000], "its tries may be lost and billed"
    assert house.used(JUDGE, judge_budget_of(ACME), judge_budget_of(BOLT)) == [36_000, 36_000, 0]
    assert (judge.version, judge.family, judge.most_usd(question())) == ("priced-1", "acme", 0.01)


@pytest.mark.parametrize(
    ("end", "spent"),
    [
        (VerdictUnreadable("no verdict", cost_usd=0.003), 3_000),
        (JudgeUnavailable("away"), 0),
        (JudgeUnavailable("hung", cost_usd=0.02), 20_000),
        (MemoryError(), 30_000),
    ],
    ids=["unreadable", "away", "perhaps billed", "who knows"],
)
def test_a_call_that_fails_costs_what_is_known_of_it(end: Exception, spent: int) -> None:
    house = House()
    with pytest.raises(type(end)):
        asked(BudgetedJudge(PricedJudge(end), house.purse))
    assert house.used(JUDGE, judge_budget_of(ACME)) == [spent, spent]


def test_a_judge_that_costs_nothing_needs_no_budget() -> None:
    house = House(judge_usd_per_day=0.0)
    judge = PricedJudge(0.0)
    judge.most = 0.0
    BudgetedJudge(judge, house.purse).compare(question())
    assert house.used(JUDGE) == [0]
    assert not house.alerts()


def test_a_spent_budget_refuses_until_midnight_and_says_so_once() -> None:
    house = House(judge_usd_per_day=0.04)
    judge = PricedJudge(0.009, 0.009)
    budgeted = BudgetedJudge(judge, house.purse)
    for _ in range(2):
        asked(budgeted)
    for tenant in (ACME, BOLT, ACME):
        with pytest.raises(JudgeUnavailable, match=r"budget is spent: judge_usd$") as refused:
            asked(budgeted, tenant)
        assert refused.value.retry_after_s == LOOK_AGAIN_S, "the limit may be raised meanwhile"
    assert judge.asked == 2
    assert house.alerts() == [JUDGE] == [message.key for message in house.sent]
    assert house.poor() == {ACME, BOLT}
    house.clock.advance(12 * 3600)
    assert house.poor() == set()
    asked(budgeted)
    assert house.used(JUDGE, day=day_of(NOON + timedelta(days=1))) == [4_000]


def test_a_raised_limit_lets_sampling_go_on_and_may_be_spent_again() -> None:
    house = House(judge_usd_per_day=0.03)
    budgeted = BudgetedJudge(PricedJudge(0.01, 0.01), house.purse)
    asked(budgeted)
    with pytest.raises(JudgeUnavailable):
        asked(budgeted)
    house.change(judge_usd_per_day=0.04)
    assert house.poor() == set()
    asked(budgeted)
    with pytest.raises(JudgeUnavailable):
        asked(budgeted)
    assert house.alerts() == [JUDGE, JUDGE]


def test_one_tenants_budget_ends_for_that_tenant_alone() -> None:
    house = House(judge_usd_per_tenant_day=0.03)
    budgeted = BudgetedJudge(PricedJudge(0.01), house.purse)
    asked(budgeted, ACME)
    with pytest.raises(JudgeUnavailable, match="judge_usd:acme"):
        asked(budgeted, ACME)
    asked(budgeted, BOLT)
    assert house.alerts() == [judge_budget_of(ACME)]
    assert house.poor() == {ACME}
    assert house.used(JUDGE) == [14_000], "what the tenant's refused was not taken from all"


def test_shadow_answers_are_paid_from_a_budget_of_their_own() -> None:
    house = House(shadow_usd_per_day=0.1)
    paid = expert(client={"kind": "openai", "base_url": "http://x", "model": "m"})
    client = client_for(house, paid, Answer(text="a", cost_usd=0.006))
    assert client.ask(RequestId("r1"), "p").text == "a"
    silent = client_for(house, paid, ExpertUnavailable("away", cost_usd=0.001))
    with pytest.raises(ExpertUnavailable):
        silent.ask(RequestId("r1"), "p")
    assert house.used(SHADOW, JUDGE) == [7_000, 0]
    dear = client_for(house, paid, Answer(text="b", cost_usd=0.1))
    dear.ask(RequestId("r2"), "p")
    with pytest.raises(JudgeUnavailable, match="shadow_usd"):
        client.ask(RequestId("r3"), "p")
    assert house.poor() == {ACME, BOLT}, "no request can be judged without its answers"
    free = client_for(house, expert(client={"kind": "recorded"}), Answer(text="c", cost_usd=1.0))
    assert free.ask(RequestId("r4"), "p").text == "c"
    assert house.used(SHADOW) == [107_000]


def client_for(house: House, one: Expert, end: Answer | Exception) -> ExpertClient:
    return budgeted_clients(lambda _: Client(end), house.purse)(one)


def test_without_a_policy_nothing_is_spent() -> None:
    house = House()
    empty = MemoryLedger(clock=house.clock)
    purse = Purse(empty, house.clock, announce=house._message, publish=house.sent.extend)
    judge = PricedJudge()
    with pytest.raises(JudgeUnavailable, match="no policy"):
        asked(BudgetedJudge(judge, purse))
    assert judge.asked == 0


@pytest.mark.parametrize("name", ["judge_usd_per_day", "judge_usd_per_tenant_day"])
@pytest.mark.parametrize("usd", [-0.01, float("nan"), float("inf"), 2 * MOST_USD])
def test_a_budget_is_an_amount(name: str, usd: float) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        settings(**{name: usd})


def test_tenants_that_opted_out_are_named_by_commas() -> None:
    assert settings().opted_out == frozenset()
    named = settings(unjudged_tenants=" acme, ,bolt,")
    assert named.opted_out == {ACME, BOLT}
