"""The port to what may be spent: budgets in whole micro-dollars, by kind and UTC day.

Part of ``store.ledger.Transaction`` (``tx.money``); what is said there holds here. Money is
reserved before the calls that belong together, at the most that they can cost, and settled after
the last. What was reserved and never settled (the process died) counts as spent: nobody knows which
calls were made.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

JUDGE = "judge_usd"
SHADOW = "shadow_usd"
CANARY = "canary_usd"
"""Booked without a limit: canaries are bounded by their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent of one kind on one day."""

    kind: str
    limit: int
    """Micro-dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What judging one tenant's sampled traffic came to."""

    tenant: str
    requests: int
    """Labelled in the time."""
    verified: int
    """Of these, graded by a verifier."""
    asked: int
    """Of these, with a verdict of one of the judges asked about; the next three are of them."""
    pairs: int
    calls: int
    """Readable verdicts, those answered from what was kept too."""
    verdicts_usd: float
    shadow_answers: int
    """To all of these requests."""
    shadow_stated: int
    """Of these, with their cost."""
    shadow_usd: float
    """Of those with their cost."""
    shadow_counted: int
    """Shadow answers that say how many tokens the prompt had."""
    shadow_input_tokens: int
    """The sum of that."""


class Money(Protocol):
    """Budgets of money, and what was spent."""

    def reserve(self, budgets: Sequence[Budget], *, day: str, amount: int) -> bool:
        """Take ``amount`` from each budget's day, or from none of them, in one statement.

        True when every budget had it. However many callers there are, together they never get
        more than a limit.
        """
        ...

    def settle(self, kinds: Collection[str], *, day: str, reserved: int, cost: int) -> None:
        """End a reservation of each, in one statement: what was not spent is given back, what it
        cost more is added. The day is the reservation's.
        """
        ...

    def used(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        """Return what is used of each that day, reservations under way too; 0 of the unknown."""
        ...

    def under_way(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        """Return how much of what is used is reserved and not settled; 0 of the unknown."""
        ...

    def spent(self, versions: Collection[str], *, since: datetime) -> list[Spent]:
        """Return by tenant what judging the traffic labelled at or after ``since`` came to, as far
        as verdicts go those of these judge versions. Requests decided on a day more than one
        before may be missing.
        """
        ...


def judge_budget_of(tenant: str) -> str:
    """Return the kind of a tenant's budget for judging."""
    return f"{JUDGE}:{tenant}"


def refusal_of(kind: str) -> str:
    """Return the kind under which it is noted at which limit a budget refused."""
    return f"refused:{kind}"


def micro_usd(usd: float) -> int:
    """Return whole micro-dollars, rounded up."""
    return math.ceil(round(1e6 * usd, 3))


def day_of(now: datetime) -> str:
    """Return the day whose budgets are in force."""
    return now.date().isoformat()


def until_next_day(now: datetime) -> float:
    """Return the seconds until the next day's budgets are in force."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - now).total_seconds()
