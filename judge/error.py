"""How often the judge errs, from pairs that people looked at, and what that does to the promise.

People's word is the truth here. λ holds the risk *as the judge sees it* under α; a judge that finds
bad answers acceptable hides risk, and only its rate of doing so bounds how much (promise.md
section 5).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from judge.aggregate import TIE
from judge.intervals import Estimate, Share, Z, share
from store.judging import AuditedPair
from store.records import FloatArray

BAD_PAIRS_NEEDED = 100
"""Truly bad pairs before e1, the share of them that the judge accepts, bounds anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What the judge made of pairs, beside what people made of them."""

    acceptable: int
    """Pairs that people found acceptable."""
    bad: int
    """Pairs that people did not find acceptable."""
    sensitivity: Share | None
    """P(judge accepts | acceptable); None without such a pair."""
    specificity: Share | None
    """P(judge rejects | bad)."""
    wrongly_accepted: Share | None
    """e1 = P(judge accepts | bad) = 1 - specificity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What the judge's audited error leaves of the promise."""

    judge_version: str
    bad: int
    """Truly bad pairs audited so far."""
    needed: int
    e1: float | None
    e1_at_most: float | None
    """One-sided 95 % upper limit of e1; None while ``bad`` is below ``needed``."""

    def true_risk(self, judged_risk: float) -> float | None:
        """Return the most that the true risk can be where the judged one is at most this.

        R_true <= R_judge / (1 - e1), with 95 % confidence, if people are right and the judge errs
        on what is served as it does on what was audited. None while that is not known.
        """
        if self.e1_at_most is None:
            return None
        return min(1.0, judged_risk / (1.0 - self.e1_at_most)) if self.e1_at_most < 1.0 else 1.0

    @property
    def words(self) -> str:
        """Return how far the audit is, in a few words."""
        if self.e1_at_most is None:
            return f"not bounded yet: {self.bad} of {self.needed} truly bad pairs audited"
        return (
            f"the judge accepts at most {100.0 * self.e1_at_most:.1f} % of truly bad answers"
            f" (95 % confidence, {self.bad} audited)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two people agree on whether answers are acceptable."""

    pairs: int
    share: float
    kappa: Estimate | None
    """Cohen's; None where chance alone would make them agree always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Everything that audited pairs say of one judge version."""

    judge_version: str
    overall: Errors
    by_category: Mapping[str, Errors] = field(default_factory=dict)
    people: Agreement | None = None
    """None until two people saw the same pair."""
    bound: Bound


def audit_of(pairs: Iterable[AuditedPair], judge_version: str) -> Audit:
    """Return what the audit says of a judge version; ``pairs`` in the order they were judged in."""
    of_it = [pair for pair in pairs if pair.judge_version == judge_version]
    truth = first_word(of_it)
    by_category: dict[str, list[AuditedPair]] = defaultdict(list)
    for pair in truth:
        by_category[pair.category].append(pair)
    overall = errors(truth)
    return Audit(
        judge_version=judge_version,
        overall=overall,
        by_category={name: errors(found) for name, found in sorted(by_category.items())},
        people=agreement(of_it),
        bound=bound(overall, judge_version),
    )


def is_acceptable(pair: AuditedPair) -> bool:
    """Return whether the person found the expert's answer at least as good as the reference's."""
    return pair.preference >= TIE


def first_word(pairs: Iterable[AuditedPair]) -> list[AuditedPair]:
    """Return each pair once, as the first person who saw it judged it.

    Later ones serve to measure people. A majority would make the truth of a pair depend on who
    happened to look at it again.
    """
    first: dict[tuple[str, str], AuditedPair] = {}
    for pair in pairs:
        first.setdefault((pair.request_id, pair.expert), pair)
    return list(first.values())


def errors(truth: Sequence[AuditedPair]) -> Errors:
    """Return the judge's error rates over pairs, each given once."""
    is_good = np.array([is_acceptable(pair) for pair in truth], dtype=bool)
    accepts = np.array([pair.judge_outcome == 1 for pair in truth], dtype=bool)
    weights = weights_of(truth)
    typical = (_mean(weights[accepts]), _mean(weights[~accepts]))

    def among(chosen: np.ndarray, counts: np.ndarray, sides: tuple[float, float]) -> Share | None:
        if not chosen.any():
            return None
        return share(weights[chosen & counts], weights[chosen & ~counts], typical=sides)

    return Errors(
        acceptable=int(is_good.sum()),
        bad=int((~is_good).sum()),
        sensitivity=among(is_good, accepts, typical),
        specificity=among(~is_good, ~accepts, typical[::-1]),
        wrongly_accepted=among(~is_good, accepts, typical),
    )


def bound(found: Errors, judge_version: str, *, needed: int = BAD_PAIRS_NEEDED) -> Bound:
    """Return what the errors found leave of the promise."""
    e1 = found.wrongly_accepted
    is_enough = e1 is not None and found.bad >= needed
    return Bound(
        judge_version=judge_version,
        bad=found.bad,
        needed=needed,
        e1=e1.value if e1 else None,
        e1_at_most=e1.at_most if e1 and is_enough else None,
    )


def agreement(pairs: Iterable[AuditedPair]) -> Agreement | None:
    """Return how far the first two people who saw a pair agree; None without such a pair."""
    seen: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for pair in pairs:
        seen[pair.request_id, pair.expert].append(is_acceptable(pair))
    twice = np.array([words[:2] for words in seen.values() if len(words) > 1], dtype=bool)
    if not twice.size:
        return None
    agreed = float((twice[:, 0] == twice[:, 1]).mean())
    return Agreement(pairs=len(twice), share=agreed, kappa=_kappa(twice, agreed))


def weights_of(pairs: Sequence[AuditedPair]) -> FloatArray:
    """Return one over the probability with which each pair was drawn, float64[n]."""
    return np.array([1.0 / pair.inclusion_probability for pair in pairs], dtype=np.float64)


def _kappa(twice: np.ndarray, agreed: float) -> Estimate | None:
    """Return Cohen's κ (1960) with his large-sample interval."""
    first, second = (float(side) for side in twice.mean(axis=0))
    by_chance = first * second + (1.0 - first) * (1.0 - second)
    if by_chance >= 1.0:
        return None
    kappa = (agreed - by_chance) / (1.0 - by_chance)
    half = Z * math.sqrt(agreed * (1.0 - agreed) / len(twice)) / (1.0 - by_chance)
    return Estimate(value=kappa, low=max(kappa - half, -1.0), high=min(kappa + half, 1.0))


def _mean(weights: FloatArray) -> float:
    return float(weights.mean()) if weights.size else 1.0
