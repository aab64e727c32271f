"""Everything that audits and verdicts say of the judge in force, gathered from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from judge import bias
from judge.auditing import judged_pairs
from judge.bias import PairSeen
from judge.corrected import Sample, human_first, rogan_gladen
from judge.error import Audit, Bound, audit_of, bound, errors, first_word, is_acceptable, weights_of
from judge.families import family_of, family_of_expert
from judge.intervals import Estimate, Share, share
from judge.ranking import Strength, by_judge, duels, rank
from store.errors import NotFound
from store.judging import AuditCandidate, AuditedPair
from store.ledger import Ledger, Transaction
from store.records import ExpertId, RequestId, Verdict

VERDICTS_OF = 2_000
"""Newest judged pairs whose verdicts are read for biases and strengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptable:
    """The share of acceptable answers among judged pairs."""

    judged: Estimate
    """As the judge sees it."""
    people_first: Estimate | None
    """People's word, made sharper by the judge's; None for too few audited pairs."""
    rogan_gladen: Estimate | None
    """The judge's word with its audited error rates divided out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Biases:
    """What else than quality moves the judge; None where nothing shows it."""

    first_shown_wins: Estimate | None
    longer_wins: Estimate | None
    towards_longer: Estimate | None
    towards_own_family: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What is known of the judge in force, and what it does to the promise."""

    risk_target: float | None
    true_risk_at_most: float | None
    """With 95 % confidence, where the judged risk is at the target; None while not bounded."""
    audit: Audit
    judged_pairs: int
    acceptable: Acceptable
    biases: Biases
    reference: ExpertId
    strengths: tuple[Strength, ...]
    """Strongest first, of the experts compared with the reference's newest answers."""
    duels: int
    """Of the pairs behind the strengths, those of two others than the reference."""
    floor: Share | None
    """How often the reference's second answer is not acceptable against its first; None while
    nobody compared any."""


def bound_in_force(tx: Transaction) -> Bound | None:
    """Return what audits leave of the promise under the judge in force; None before any label."""
    version = tx.judging.newest_version()
    if version is None:
        return None
    pairs = [pair for pair in tx.judging.audited() if pair.judge_version == version]
    return bound(errors(first_word(pairs)), version)


def audit_report(ledger: Ledger) -> AuditReport:
    """Return the report on the judge whose labels count now.

    Raises
    ------
    NotFound
        Nothing was judged yet, or no text of what was is left.
    """
    with ledger.begin() as tx:
        candidates = judged_pairs(tx)
        version = tx.judging.newest_version() or ""
        if not candidates:
            raise NotFound(
                "no_texts",
                f"no pair that {version} judged has its texts: recorded traffic has none, and"
                " retention drops them",
            )
        audited = [pair for pair in tx.judging.audited() if pair.judge_version == version]
        current = tx.policies.current()
        seen = _seen(tx, candidates[:VERDICTS_OF])
        reference = current[1].reference if current else ExpertId("")
        duelled = duels(tx, candidates, version, reference)
        own = _own_family(tx, seen)
    found = audit_of(audited, version)
    target = current[1].alpha if current else None
    return AuditReport(
        risk_target=target,
        true_risk_at_most=None if target is None else found.bound.true_risk(target),
        audit=found,
        judged_pairs=len(candidates),
        acceptable=_acceptable(candidates, audited, found),
        biases=Biases(
            first_shown_wins=bias.position(seen),
            longer_wins=bias.length(seen),
            towards_longer=bias.towards_longer(audited, _sizes(candidates)),
            towards_own_family=bias.towards_own(audited, own),
        ),
        reference=reference,
        strengths=rank(seen, candidates, duelled, reference),
        duels=len(duelled.pairs),
        floor=duelled.floor,
    )


def _acceptable(
    candidates: Sequence[AuditCandidate], audited: Sequence[AuditedPair], found: Audit
) -> Acceptable:
    outcomes = np.array([float(one.outcome) for one in candidates])
    weights = np.array([1.0 / one.inclusion_probability for one in candidates])
    judged = share(weights[outcomes == 1.0], weights[outcomes == 0.0])
    truth = first_word(audited)
    known = weights_of(truth)
    people = human_first(
        Sample(np.array([float(is_acceptable(pair)) for pair in truth]), known),
        Sample(np.array([float(pair.judge_outcome) for pair in truth]), known),
        Sample(outcomes, weights),
    )
    rates = found.overall
    divided = None
    if rates.sensitivity is not None and rates.specificity is not None:
        divided = rogan_gladen(judged, sensitivity=rates.sensitivity, specificity=rates.specificity)
    return Acceptable(judged=judged, people_first=people, rogan_gladen=divided)


def _seen(tx: Transaction, candidates: Sequence[AuditCandidate]) -> list[PairSeen]:
    """Return the pairs with the verdicts that the version in force gave on them, once for each
    judge of a panel.
    """
    given: dict[RequestId, list[Verdict]] = {}
    found: list[PairSeen] = []
    for one in candidates:
        if one.request_id not in given:
            given[one.request_id] = tx.labels.verdicts_of(one.request_id)
        calls = by_judge(given[one.request_id], {one.expert, one.reference}, one.judge_version)
        found += [_pair_seen(one, each) for each in calls]
    return found


def _own_family(tx: Transaction, seen: Sequence[PairSeen]) -> set[ExpertId]:
    """Return the experts of a judge's own family, as far as names tell; workers let no judge grade
    them, unless the family was told otherwise.
    """
    versions = {v.judge_version for pair in seen for v in pair.verdicts}
    families = {family_of(version.removeprefix("llm-")) for version in versions}
    return {e.name for e in tx.experts.all() if family_of_expert(e) in families}


def _sizes(candidates: Sequence[AuditCandidate]) -> list[PairSeen]:
    return [_pair_seen(one, ()) for one in candidates]


def _pair_seen(one: AuditCandidate, verdicts: tuple[Verdict, ...]) -> PairSeen:
    return PairSeen(
        request_id=one.request_id,
        expert=one.expert,
        reference=one.reference,
        verdicts=verdicts,
        longer_by=one.longer_by,
    )
