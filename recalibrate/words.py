"""The summary's figures as words, the same in the terminal and in the report."""

from __future__ import annotations

import math

from judge.error import Bound
from recalibrate.pace import Injected
from recalibrate.phases import PhaseSummary
from recalibrate.realised import Interval, Realised, Verdict
from recalibrate.summary import Summary
from store.records import SAFE

UNKNOWN = "\N{EN DASH}"


def percent(value: float | None) -> str:
    """Return a share in percent, with one decimal."""
    return UNKNOWN if value is None else f"{100.0 * value:.1f} %"


def interval(found: Interval | None) -> str:
    """Return an estimated share with its 95 % interval."""
    if found is None:
        return UNKNOWN
    return f"{percent(found.value)} ({100.0 * found.low:.1f} to {100.0 * found.high:.1f})"


def usd(value: float | None) -> str:
    """Return an amount in USD; small ones keep three digits."""
    if value is None:
        return UNKNOWN
    digits = 2 if value >= 0.1 or value <= 0.0 else 2 - math.floor(math.log10(value))
    return f"${value:,.{digits}f}"


def usd_per_thousand(value: float | None) -> str:
    """Return what a thousand requests cost at this mean."""
    return usd(None if value is None else 1e3 * value)


def grade(value: float | None) -> str:
    """Return a judged quality."""
    return UNKNOWN if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """Return a number of things."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def threshold(value: float) -> str:
    """Return λ, or the word for the largest one."""
    return "SAFE" if value >= SAFE else f"{value:.3f}"


def promise(summary: Summary) -> str:
    """Return what was promised, for somebody who has never seen the system."""
    return (
        f"On average over the traffic, at most {percent(summary.alpha)} of the prompts get an"
        f" answer that the judge grades worse, by more than {summary.margin:g}, than the answer"
        f" of {summary.reference}, the strong and expensive reference."
    )


def true_risk(bound: Bound, risk_target: float | None) -> str:
    """Return what stands beside α: what the judge's error leaves of the promise."""
    if risk_target is None:
        return f"No risk target is set; {bound.words}."
    said = f"Risk target {percent(risk_target)} with respect to the judge"
    at_most = bound.true_risk(risk_target)
    if at_most is None:
        return f"{said}; true risk {bound.words}."
    return (
        f"{said}; true risk at most {percent(at_most)} with 95 % confidence, if people are"
        " right and the judge errs on what is served as it does on what was audited:"
        f" {bound.words}."
    )


def verdict(realised: Realised, alpha: float) -> str:
    """Return the three-state verdict with what it rests on."""
    if realised.rate is None:
        return "Not decided: nothing was served."
    found = (
        f"{realised.unacceptable:,} of {realised.requests:,} answers were worse,"
        f" {percent(realised.rate.value)}; the 95 % interval is"
        f" {percent(realised.rate.low)} to {percent(realised.rate.high)}"
    )
    return sentence(realised.verdict, found, alpha, labels_needed=realised.labels_needed)


def sentence(verdict: Verdict, found: str, alpha: float, *, labels_needed: int | None) -> str:
    """Return what was found, ending with its interval, as one of the three states."""
    match verdict:
        case Verdict.HELD:
            return f"Held: {found}, all of it at or under the target of {percent(alpha)}."
        case Verdict.NOT_HELD:
            return f"Not held: {found}, all of it above the target of {percent(alpha)}."
        case Verdict.NOT_DECIDED:
            target = f"with the target of {percent(alpha)} inside"
            return f"Not decided: {found}, {target}. {_more(labels_needed)}"


def not_covered(summary: Summary) -> str | None:
    """Return whom the promise leaves out, and where no label could be had; None if nobody."""
    overall, said = summary.overall, []
    if overall.opted_out:
        said.append(
            f"{percent(overall.opted_out / overall.requests)} of the requests"
            f" ({overall.opted_out:,} of {overall.requests:,}) are of tenants that opted out of"
            " judging: nothing is promised for them, and the verdict leaves them out. Quality,"
            " cost and shares count every request."
        )
    if overall.unlabelled:
        said.append(
            f"{percent(overall.unlabelled / overall.requests)} of the requests"
            f" ({overall.unlabelled:,} of {overall.requests:,}) had no chance of being judged"
            " (π = 0: a budget was spent, or the ledger was away): no label of theirs could move λ,"
            " and the verdict counts them all the same."
        )
    return " ".join(said) or None


def savings(summary: Summary) -> str:
    """Return what routing saved, and what the labels cost."""
    overall = summary.overall
    if not summary.has_costs or overall.cost_share is None:
        return "The traffic has no costs: only quality and regret are shown."
    saved = (overall.reference_cost_usd or 0.0) - (overall.cost_usd or 0.0)
    return (
        f"The served answers cost {interval(overall.cost_share)} of always asking"
        f" {summary.reference}: {usd(overall.cost_usd)} instead of"
        f" {usd(overall.reference_cost_usd)}, {_signed(saved)} saved.{_net(summary, saved)}"
        f" Mean judged quality is {grade(overall.quality)}, against"
        f" {grade(overall.reference_quality)}."
    )


def served_by(phase: PhaseSummary) -> str:
    """Return who answered in a phase, most first."""
    return ", ".join(f"{e.expert} {percent(e.share)}" for e in phase.experts) or UNKNOWN


def found_after(fault: Injected) -> str:
    """Return how an injected fault was found."""
    if fault.requests_to_alert is None:
        return f"No alert about the fault injected at request {fault.position:,} followed."
    return (
        f"The alert about the fault injected at request {fault.position:,} came"
        f" {fault.requests_to_alert:,} requests later."
    )


def _net(summary: Summary, saved: float) -> str:
    spent = summary.labels.cost_usd
    if spent is None:
        return ""
    setup = " (the setup included)" if summary.setup_phases else ""
    return f" Labels{setup} cost {usd(spent)}, which leaves {_signed(saved - spent)}."


def _signed(amount: float) -> str:
    return usd(amount) if amount >= 0.0 else f"-{usd(-amount)}"


def _more(labels_needed: int | None) -> str:
    if labels_needed is None:
        return "No number of labels decides a rate that equals the target."
    return f"If the rate stayed as it is, about {labels_needed:,} judged answers would decide it."
