"""What judging may spend: money is reserved before calls that belong together, settled after them.

A bill is reserved whole, at the most that its calls can cost, before the first of them that costs
anything. So the end of the day's money never parts the calls on one request, whose labels would
come or wait by what the first calls said; and any number of workers stay within the budgets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Self

from online.costs import TRIES
from store.clock import Clock
from store.errors import JudgeUnavailable, TooDear
from store.ledger import Ledger, Transaction
from store.money import Budget, day_of, micro_usd, refusal_of, until_next_day
from store.policy import PolicySettings
from store.records import Alert, AlertKind, OutboxMessage

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 300.0
"""What waits for the next day looks as often whether a limit was raised."""
LOST_AFTER_S = 900.0
"""What has been under way for as long belongs to the dead."""

Budgets = Callable[[PolicySettings], Sequence[Budget]]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money taken for calls that are not made yet."""

    kinds: tuple[str, ...]
    day: str
    micro_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was under way of a budget while it refused, in micro-dollars."""

    day: str
    begun: float
    """When this stretch of time did."""
    last: float
    least: int
    before: int
    """The least of the stretch before; 0 if there was none."""


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
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def reserve(self, budgets_of: Budgets, amount: int) -> Reservation:
        """Take what calls may cost, in micro-dollars, from every budget.

        Raises
        ------
        JudgeUnavailable
            A budget has less left. The next day has its own; what others have reserved and do not
            spend comes back sooner.
        TooDear
            A budget has less on any day.
        """
        now = self._clock.now()
        outgoing: list[OutboxMessage] = []
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            if current is None:
                raise JudgeUnavailable("no policy is set")
            budgets = budgets_of(current[1])
            # A limit of 0 is no small budget: it says that nothing is to be spent.
            small = [one for one in budgets if 0 < one.limit < amount]
            if not small and tx.money.reserve(budgets, day=day_of(now), amount=amount):
                return Reservation(tuple(b.kind for b in budgets), day_of(now), amount)
            for budget in small:
                outgoing += self._raised(tx, budget, "dear", _dear(budget, amount, now=now))
            empty = [] if small else self._empty(tx, budgets, amount)
            for budget, used in empty:
                outgoing += self._raised(tx, budget, "refused", _spent(budget, used, now=now))
        self._publish(outgoing)
        if small:
            raise TooDear(_too_dear(small[0], amount))
        if empty:
            named = ", ".join(budget.kind for budget, _ in empty)
            raise JudgeUnavailable(
                f"the day's budget is spent: {named}",
                retry_after_s=min(LOOK_AGAIN_S, until_next_day(now)),
            )
        raise JudgeUnavailable("what is left of the day's budget is reserved for other tasks")

    def settle(self, reserved: Reservation, cost: int) -> None:
        """Give back what the calls did not cost, or add what they cost more, in micro-dollars."""
        with self._ledger.begin() as tx:
            settle(tx, reserved, cost)

    def _empty(
        self, tx: Transaction, budgets: Sequence[Budget], amount: int
    ) -> list[tuple[Budget, int]]:
        """Return the budgets that refuse for good today, each with what is used of it."""
        kinds, day = [budget.kind for budget in budgets], day_of(self._clock.now())
        used, under_way = tx.money.used(kinds, day=day), tx.money.under_way(kinds, day=day)
        found = []
        for budget in budgets:
            going_on = under_way[budget.kind]
            spent = used[budget.kind] - going_on + self._lost(budget.kind, day, going_on)
            if spent + amount > budget.limit:
                found.append((budget, used[budget.kind]))
        return found

    def _lost(self, kind: str, day: str, under_way: int) -> int:
        """Return how much of what is under way has been for too long to come back: the least that
        was seen in this stretch of time and the one before it. What others reserve and settle
        meanwhile does not hide it.
        """
        now = self._clock.monotonic()
        with self._lock:
            seen = self._seen.get(kind)
            if seen is None or seen.day != day or now - seen.last > LOST_AFTER_S:
                seen = _Seen(day=day, begun=now, last=now, least=under_way, before=0)
            elif now - seen.begun > LOST_AFTER_S:
                seen = _Seen(day=day, begun=now, last=now, least=under_way, before=seen.least)
            least = min(seen.least, under_way)
            self._seen[kind] = replace(seen, last=now, least=least)
            return min(least, seen.before)

    def _raised(
        self, tx: Transaction, budget: Budget, why: str, alert: Alert
    ) -> list[OutboxMessage]:
        """Note at which limit a budget refused; return an alert the first time in a day."""
        kind = refusal_of(budget.kind) if why == "refused" else f"{why}:{budget.kind}"
        noted, day = budget.limit + 1, day_of(alert.raised_at)
        if not tx.operations.reserve(kind, day=day, amount=noted, limit=noted):
            return []
        log.warning("judge.budget_spent", extra={"budget": budget.kind, "why": why})
        return list(tx.outbox.add([self._announce(tx.operations.raise_alert(alert))]))


class Bill:
    """What the calls that belong together come to: all those on one request.

    Nothing is reserved until a call costs something, so what is answered from kept verdicts alone
    needs no budget. A thread uses it as a context; it is settled when that ends.

    Parameters
    ----------
    most
        Returns the micro-dollars that all the calls can cost; asked for when the first is made.
    """

    def __init__(self, budgets_of: Budgets, most: Callable[[], int]) -> None:
        self._budgets_of = budgets_of
        self._most = most
        self._held: tuple[Purse, Reservation] | None = None
        self._cost = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.settle()

    def cover(self, purse: Purse, try_usd: float) -> None:
        """Make sure that a call is paid for even if its first tries are lost.

        Should earlier calls have lost so many tries that this one is not, the bill is settled and
        reserved anew: which can fail, by what the endpoint did and not by what the judge said.

        Raises ``JudgeUnavailable`` and ``TooDear`` as ``Purse.reserve``.
        """
        once = micro_usd(try_usd)
        if self._held is not None and self._held[1].micro_usd - self._cost >= TRIES * once:
            return
        self.settle()
        most = max(self._most(), TRIES * once)
        self._held = purse, purse.reserve(self._budgets_of, most)

    def add(self, cost_usd: float) -> None:
        """Count what a call cost."""
        self._cost += micro_usd(cost_usd)

    def settle(self) -> None:
        """End the reservation, if there is one."""
        held, self._held = self._held, None
        cost, self._cost = self._cost, 0
        if held is not None:
            purse, reserved = held
            purse.settle(reserved, cost)


def settle(tx: Transaction, reserved: Reservation, cost: int) -> None:
    """End a reservation with what its calls cost, in micro-dollars."""
    tx.money.settle(reserved.kinds, day=reserved.day, reserved=reserved.micro_usd, cost=cost)


def _spent(budget: Budget, used: int, *, now: datetime) -> Alert:
    said = (
        f"the day's budget {budget.kind} is spent: {used / 1e6:.2f} of {budget.limit / 1e6:.2f}"
        " USD, and the next task may cost more than is left; what it paid for waits until 00:00"
        " UTC, and sampling has stopped"
    )
    return _alert(budget, said, {"used_usd": used / 1e6}, now=now)


def _dear(budget: Budget, amount: int, *, now: datetime) -> Alert:
    said = (
        f"{_too_dear(budget, amount)}. Such a task ends without a verdict, a loss for λ;"
        " sampling goes on"
    )
    return _alert(budget, said, {"most_usd": amount / 1e6}, now=now)


def _too_dear(budget: Budget, amount: int) -> str:
    return (
        f"it may cost {amount / 1e6:.2f} USD, more than the whole day's budget {budget.kind} of"
        f" {budget.limit / 1e6:.2f}: raise the limit (steersman policy set)"
    )


def _alert(budget: Budget, message: str, evidence: dict[str, float], *, now: datetime) -> Alert:
    return Alert(
        kind=AlertKind.JUDGE_BUDGET_SPENT,
        subject=budget.kind,
        message=message,
        guarantee="exact: a count, not a test",
        evidence={**evidence, "limit_usd": budget.limit / 1e6},
        raised_at=now,
    )
