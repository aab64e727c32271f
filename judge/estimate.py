"""What judging costs: measured where requests were judged, else estimated from prices and tokens.

Everything is per judged request, besides the answer that was served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from judge.template import comparison
from online.costs import NOMINAL_INPUT_TOKENS, NOMINAL_OUTPUT_TOKENS, count_tokens, expected_cost
from store.money import Spent
from store.records import Price

VERDICT_TOKENS = 10
"""Of a reply that is the verdict and nothing else; a model that thinks aloud writes more."""
ORDERS = 2
"""Calls of a judge on a pair; a third when they disagree."""
ASKED = 2
"""Judges of a panel that are asked about each pair; the third only when they disagree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """An expert as far as its answers cost something."""

    price: Price
    output_tokens: float = NOMINAL_OUTPUT_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one judged request costs."""

    pairs: float
    """Compared by the judge; those that a verifier grades cost nothing."""
    calls_per_pair: float
    call_usd: float
    shadow_answers: float
    shadow_usd: float
    """Of these answers together."""
    verdicts_of: int = 0
    """Requests that the judge's figures were measured on; 0: they are estimated."""
    shadows_of: int = 0
    """Requests that the figures of shadow answers were measured on; 0: they are estimated."""

    @property
    def calls(self) -> float:
        """Return the judge's calls."""
        return self.pairs * self.calls_per_pair

    @property
    def verdicts_usd(self) -> float:
        """Return what the judge costs."""
        return self.calls * self.call_usd

    @property
    def request_usd(self) -> float:
        """Return all of it."""
        return self.verdicts_usd + self.shadow_usd


def estimated(
    judges: Sequence[Price],
    reference: Answering,
    others: Sequence[Answering],
    *,
    input_tokens: float = NOMINAL_INPUT_TOKENS,
) -> Cost:
    """Return what is to be expected while the reference serves and every other expert is judged.

    Parameters
    ----------
    judges
        The prices of the panel's judges in order; empty: judging costs nothing.
    input_tokens
        Of a prompt.
    """
    asked = judges[:ASKED]
    prompt = round(input_tokens)
    calls = [
        expected_cost(
            price,
            input_tokens=_frame() + prompt + round(reference.output_tokens + other.output_tokens),
            mean_output_tokens=VERDICT_TOKENS,
        )
        for price in asked
        for other in others
    ]
    return Cost(
        pairs=float(len(others)),
        calls_per_pair=float(ORDERS * max(1, len(asked))),
        call_usd=fmean(calls) if calls else 0.0,
        shadow_answers=float(len(others)),
        shadow_usd=sum(
            expected_cost(one.price, input_tokens=prompt, mean_output_tokens=one.output_tokens)
            for one in others
        ),
    )


def measured(found: Spent, otherwise: Cost) -> Cost:
    """Return what judging cost, with ``otherwise`` standing in for what nothing was measured of.

    Replies that were no verdict are not in it: nothing of them is kept.
    """
    said, shadows = found.asked > 0, found.requests > 0
    per_request = found.shadow_answers / found.requests if shadows else otherwise.shadow_answers
    one = otherwise.shadow_usd / otherwise.shadow_answers if otherwise.shadow_answers else 0.0
    if found.shadow_stated:
        one = found.shadow_usd / found.shadow_stated
    unverified = 1.0 - found.verified / found.requests if shadows else 1.0
    return Cost(
        pairs=unverified * (found.pairs / found.asked if said else otherwise.pairs),
        calls_per_pair=found.calls / found.pairs if said else otherwise.calls_per_pair,
        call_usd=found.verdicts_usd / found.calls if said else otherwise.call_usd,
        shadow_answers=per_request,
        shadow_usd=per_request * one,
        verdicts_of=found.asked,
        shadows_of=found.requests if found.shadow_stated or not per_request else 0,
    )


def together(found: Sequence[Spent]) -> Spent:
    """Return the sum over tenants."""
    names = [one.name for one in fields(Spent) if one.name != "tenant"]
    return Spent(tenant="", **{name: sum(getattr(one, name) for one in found) for name in names})


def input_tokens(found: Spent) -> float:
    """Return the mean tokens of a prompt, as shadow answers state them; else the nominal."""
    if not found.shadow_counted:
        return NOMINAL_INPUT_TOKENS
    return found.shadow_input_tokens / found.shadow_counted


def _frame() -> int:
    """Return the tokens of the template with nothing in it."""
    shown = comparison("", "", "", draw_nonce=lambda: "0" * 16)
    return sum(count_tokens(message.content) for message in shown)
