"""A judge, and experts asked for shadow answers, that stop where the day's money ends."""

from __future__ import annotations

from collections.abc import Callable, Collection

from judge.port import Judge, Question, Reply
from judge.purse import Bill, Purse
from online.clients import RECORDED, Answer, ClientFactory, ExpertClient
from online.costs import MAX_OUTPUT_TOKENS, TRIES, most_cost
from store.errors import ExpertUnavailable, JudgeUnavailable, VerdictUnreadable
from store.ledger import Transaction
from store.money import (
    CANARY,
    JUDGE,
    SHADOW,
    Budget,
    judge_budget_of,
    micro_usd,
    refusal_of,
)
from store.policy import MOST_USD, PolicySettings
from store.records import Expert, RequestId


class BudgetedJudge:
    """Asks the judge within the budgets that the question's bill is paid from."""

    def __init__(self, judge: Judge, purse: Purse) -> None:
        self._judge = judge
        self._purse = purse

    @property
    def version(self) -> str:
        return self._judge.version

    @property
    def family(self) -> str | None:
        return self._judge.family

    def most_usd(self, question: Question) -> float:
        return self._judge.most_usd(question)

    def compare(self, question: Question) -> Reply:
        """Return a verdict, paid from the question's bill.

        What is not known of a call's cost, because it ended in an error of another kind, is counted
        at its most.
        """
        once = self._judge.most_usd(question)
        if not once:
            return self._judge.compare(question)
        bill = question.bill
        if bill is None:
            raise ValueError("a verdict that costs money needs a bill")
        bill.cover(self._purse, once)
        cost_usd = TRIES * once
        try:
            reply = self._judge.compare(question)
            cost_usd = reply.cost_usd
        except (JudgeUnavailable, VerdictUnreadable) as problem:
            cost_usd = problem.cost_usd
            raise
        finally:
            bill.add(cost_usd)
        return reply


class BudgetedClient:
    """An expert that is asked for shadow answers within the day's budget for them."""

    def __init__(self, expert: Expert, client: ExpertClient, purse: Purse) -> None:
        self._expert = expert
        self._client = client
        self._purse = purse

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        """Return the answer. Raises ``JudgeUnavailable`` and ``TooDear`` too, for the budget."""
        once = most_cost(self._expert.price, [prompt], max_tokens=MAX_OUTPUT_TOKENS)
        with Bill(shadows, lambda: TRIES * micro_usd(once)) as bill:
            bill.cover(self._purse, once)
            cost_usd = TRIES * once
            try:
                answer = self._client.ask(request_id, prompt)
                cost_usd = answer.cost_usd
            except ExpertUnavailable as problem:
                cost_usd = problem.cost_usd
                raise
            finally:
                bill.add(cost_usd)
        return answer


def budgeted_clients(clients: ClientFactory, purse: Purse) -> ClientFactory:
    """Return clients whose answers are paid from the budget for shadow answers."""

    def client(expert: Expert) -> ExpertClient:
        inner = clients(expert)
        if expert.client.get("kind") == RECORDED:
            return inner
        return BudgetedClient(expert, inner, purse)

    return client


def judging(policy: PolicySettings, tenant: str) -> tuple[Budget, ...]:
    """Return the budgets that a verdict for a tenant is paid from."""
    return (
        Budget(kind=JUDGE, limit=micro_usd(policy.judge_usd_per_day)),
        Budget(kind=judge_budget_of(tenant), limit=micro_usd(policy.judge_usd_per_tenant_day)),
    )


def shadows(policy: PolicySettings) -> tuple[Budget, ...]:
    """Return the budget that shadow answers are paid from."""
    return (Budget(kind=SHADOW, limit=micro_usd(policy.shadow_usd_per_day)),)


def canaries(_: PolicySettings) -> tuple[Budget, ...]:
    """Return where canaries are booked: no tenant's spending may keep a judge from being watched,
    and their number bounds them.
    """
    return (Budget(kind=CANARY, limit=micro_usd(MOST_USD)),)


def bill_of(tenant: str, most: Callable[[], int]) -> Bill:
    """Return a bill for verdicts on one of a tenant's requests."""
    return Bill(lambda policy: judging(policy, tenant), most)


def out_of_money(
    tx: Transaction, policy: PolicySettings, tenants: Collection[str], *, day: str
) -> set[str]:
    """Return the tenants whose requests nobody can pay the judging of any more today.

    A budget has refused a call at its present limit, or a higher one: raising the limit lets
    sampling go on.
    """
    everyone = (*shadows(policy), judging(policy, "")[0])
    own = {tenant: judging(policy, tenant)[1] for tenant in tenants}
    refused = tx.money.used(
        [refusal_of(budget.kind) for budget in (*everyone, *own.values())], day=day
    )

    def is_empty(budget: Budget) -> bool:
        return refused[refusal_of(budget.kind)] > budget.limit

    if any(is_empty(budget) for budget in everyone):
        return set(tenants)
    return {tenant for tenant, budget in own.items() if is_empty(budget)}
