"""The audit of the judge as words for a person, and as one document for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from judge.audit_report import AuditReport
from judge.error import Agreement, Errors
from judge.intervals import Estimate, Share
from judge.ranking import Strength
from recalibrate import words
from recalibrate.documents import as_json

KIND = "steersman.audit"
FORMAT = 1


def document(found: AuditReport) -> str:
    """Return the report for machines; readers refuse a format they do not know."""
    return as_json(KIND, FORMAT, audit=asdict(found))


def lines(found: AuditReport) -> Iterator[str]:
    """Yield the report, line by line."""
    rates = found.audit.overall
    yield f"Judge {found.audit.judge_version}: {found.judged_pairs:,} judged pairs still have texts"
    yield (
        f"People looked at {rates.acceptable + rates.bad:,}: {rates.acceptable:,} answers"
        f" acceptable, {rates.bad:,} not."
    )
    yield ""
    yield words.true_risk(found.audit.bound, found.risk_target)
    yield ""
    yield "How often the judge is right (95 % intervals)"
    yield from _rates("all", rates)
    for name, errors in found.audit.by_category.items():
        yield from _rates(name, errors)
    yield _people(found.audit.people)
    yield ""
    yield "Share of acceptable answers among what was judged"
    yield f"  as the judge sees it:       {_share(found.acceptable.judged)}"
    yield f"  people first (PPI++):       {_share(found.acceptable.people_first)}"
    yield f"  Rogan-Gladen:               {_share(found.acceptable.rogan_gladen)}"
    yield "  (Rogan-Gladen supposes that the audited error rates are those of all judged pairs.)"
    yield ""
    yield f"A/A floor: {_floor(found)}"
    yield ""
    yield "What else than quality moves the judge"
    yield from _biases(found)
    if found.strengths:
        yield ""
        yield f"How often the judge prefers an expert to {found.reference}, ties halved"
        yield from (_strength(one) for one in found.strengths)
        yield f"  ({found.duels:,} of the comparisons are duels of two others.)"


def _rates(name: str, found: Errors) -> Iterator[str]:
    yield (
        f"  {name}: accepts {_share(found.sensitivity)} of the acceptable ({found.acceptable:,}"
        f" pairs), rejects {_share(found.specificity)} of the bad ({found.bad:,} pairs)"
    )


def _people(found: Agreement | None) -> str:
    if found is None:
        return (
            "  No pair was seen by two people yet: a second --auditor shows how far people agree."
        )
    kappa = "unknown" if found.kappa is None else _figure(found.kappa)
    return (
        f"  Two people agree on {words.percent(found.share)} of {found.pairs:,} pairs; Cohen's"
        f" kappa {kappa}"
    )


def _floor(found: AuditReport) -> str:
    if found.floor is None:
        return "unknown, no second answer of the reference was compared with its first yet"
    return (
        f"{_share(found.floor)} of {found.floor.drawn:,} second answers of {found.reference} are"
        " not acceptable against the first; who is as good as the reference looks as bad as this"
    )


def _biases(found: AuditReport) -> Iterator[str]:
    known = found.biases
    yield f"  the answer shown first wins:  {_share(known.first_shown_wins)}; 50 % is fair"
    yield f"  the longer answer wins:       {_share(known.longer_wins)}"
    yield f"  favours longer more than people do, by:      {_points(known.towards_longer)}"
    yield f"  favours its own family more than people, by: {_points(known.towards_own_family)}"


def _strength(one: Strength) -> str:
    level = _share(one.wins_at_equal_length)
    return f"  {one.expert}: {_share(one.wins)}; with answers of equal length {level}"


def _share(found: Estimate | Share | None) -> str:
    if found is None:
        return "unknown"
    return f"{words.percent(found.value)} ({100.0 * found.low:.1f} to {100.0 * found.high:.1f})"


def _points(found: Estimate | None) -> str:
    if found is None:
        return "unknown"
    low, high = 100.0 * found.low, 100.0 * found.high
    return f"{100.0 * found.value:+.1f} points ({low:+.1f} to {high:+.1f})"


def _figure(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
