"""A judge, and experts asked for shadow answers, that stop where the day's money ends.

The most that a call can cost is reserved before it, and what it did not cost given back after it,
so that any number of workers together stay within the budgets. A call that ended without an answer
costs nothing: endpoints bill what they answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from judge.port import Judge, Question, Reply
from online.clients import Answer, ClientFactory, ExpertClient
from online.costs import FRAME_TOKENS, MAX_OUTPUT_TOKENS, expected_cost
from store.clock import Clock
from store.errors import ExpertUnavailable, JudgeUnavailable, VerdictUnreadable
from store.ledger import Ledger, Transaction
from store.money import (
    JUDGE,
    SHADOW,
    Budget,
    day_of,
    judge_budget_of,
    micro_usd,
    refusal_of,
    until_next_day,
)
from store.policy import PolicySettings
from store.records import Alert, AlertKind, Expert, OutboxMessage, RequestId

log = logging.getLogger(__name__)

_FREE = "recorded"
"""The kind of client whose answers nobody is paid for."""

Budgets = Callable[[PolicySettings], Sequence[Budget]]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money taken for a call that is not made yet."""

    kinds: tuple[str, ...]
    day: str
    micro_usd: int


class Purse:
    """Reserves and settles; says once a day in an alert that a budget is spent.

    Parameters
    ----------
    announce, publish
        Turn an alert into the message that leaves with it, and send it after the commit.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        announce: Callable[[Alert], OutboxMessage],
        publish: Callable[[Sequence[OutboxMessage]], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._announce = announce
        self._publish = publish

    def reserve(self, budgets_of: Budgets, most_usd: float) -> Reservation:
        """Take what a call may cost from every budget.

        Raises
        ------
        JudgeUnavailable
            A budget has less left; the next day has its own.
        """
        now, amount = self._clock.now(), micro_usd(most_usd)
        outgoing: list[OutboxMessage] = []
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            if current is None:
                raise JudgeUnavailable("no policy is set")
            budgets = budgets_of(current[1])
            if tx.money.reserve(budgets, day=day_of(now), amount=amount):
                return Reservation(tuple(b.kind for b in budgets), day_of(now), amount)
            empty = self._noted(tx, budgets, amount, outgoing)
        self._publish(outgoing)
        if not empty:  # another call was settled meanwhile
            raise JudgeUnavailable("what is left of the day's budget is reserved for other calls")
        named = ", ".join(empty)
        raise JudgeUnavailable(
            f"the day's budget is spent: {named}", retry_after_s=until_next_day(now)
        )

    def settle(self, reserved: Reservation, cost_usd: float) -> None:
        """Give back what the call did not cost, or add what it cost more."""
        change = micro_usd(cost_usd) - reserved.micro_usd
        if change:
            with self._ledger.begin() as tx:
                tx.money.settle(reserved.kinds, day=reserved.day, change=change)

    def _noted(
        self, tx: Transaction, budgets: Sequence[Budget], amount: int, outgoing: list[OutboxMessage]
    ) -> list[str]:
        """Note which budgets refused, so that sampling stops, and raise an alert for each once."""
        now = self._clock.now()
        used = tx.money.used([budget.kind for budget in budgets], day=day_of(now))
        empty = [b for b in budgets if used[b.kind] + amount > b.limit]
        for budget in empty:
            noted = budget.limit + 1
            is_first = tx.operations.reserve(
                refusal_of(budget.kind), day=day_of(now), amount=noted, limit=noted
            )
            if is_first:
                log.warning("judge.budget_spent", extra={"budget": budget.kind})
                alert = tx.operations.raise_alert(_alert(budget, used[budget.kind], now=now))
                outgoing += tx.outbox.add([self._announce(alert)])
        return [budget.kind for budget in empty]


class BudgetedJudge:
    """Asks the judge within the budgets of the day, of all tenants and of the question's."""

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
        most = self._judge.most_usd(question)
        if not most:
            return self._judge.compare(question)
        reserved = self._purse.reserve(lambda policy: judging(policy, question.tenant), most)
        try:
            reply = self._judge.compare(question)
        except VerdictUnreadable as problem:
            self._purse.settle(reserved, problem.cost_usd)
            raise
        except JudgeUnavailable:
            self._purse.settle(reserved, 0.0)
            raise
        self._purse.settle(reserved, reply.cost_usd)
        return reply


class BudgetedClient:
    """An expert that is asked for shadow answers within the day's budget for them."""

    def __init__(self, expert: Expert, client: ExpertClient, purse: Purse) -> None:
        self._expert = expert
        self._client = client
        self._purse = purse

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        """Return the answer. Raises ``JudgeUnavailable`` too: the budget is spent."""
        reserved = self._purse.reserve(shadows, _most_usd(self._expert, prompt))
        try:
            answer = self._client.ask(request_id, prompt)
        except ExpertUnavailable:
            self._purse.settle(reserved, 0.0)
            raise
        self._purse.settle(reserved, answer.cost_usd)
        return answer


def budgeted_clients(clients: ClientFactory, purse: Purse) -> ClientFactory:
    """Return clients whose answers are paid from the budget for shadow answers."""

    def client(expert: Expert) -> ExpertClient:
        inner = clients(expert)
        if expert.client.get("kind") == _FREE:
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


def _most_usd(expert: Expert, prompt: str) -> float:
    """Return the price of an answer of full length to a prompt whose every byte is a token."""
    tokens = len(prompt.encode(errors="surrogatepass")) + FRAME_TOKENS
    return expected_cost(expert.price, input_tokens=tokens, mean_output_tokens=MAX_OUTPUT_TOKENS)


def _alert(budget: Budget, used: int, *, now: datetime) -> Alert:
    return Alert(
        kind=AlertKind.JUDGE_BUDGET_SPENT,
        subject=budget.kind,
        message=(
            f"the day's budget {budget.kind} is spent: {used / 1e6:.2f} of"
            f" {budget.limit / 1e6:.2f} USD, and the next call may cost more than is left; what"
            " it paid for waits until 00:00 UTC, and sampling has stopped"
        ),
        guarantee="exact: a count, not a test",
        evidence={"used_usd": used / 1e6, "limit_usd": budget.limit / 1e6},
        raised_at=now,
    )
