"""The risk report as text, as JSON and as one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from recalibrate.documents import as_json
from recalibrate.report import environment
from recalibrate.risk_plots import risk_pictures
from recalibrate.risk_report import RiskReport, Segment
from recalibrate.served_risk import ServedRisk
from recalibrate.words import interval, percent, sentence, threshold, true_risk
from store.records import SAFE

KIND = "steersman.risk_report"
FORMAT = 1
SHOWN = 20
"""Segments of a kind in text and page; JSON has all."""


def promised(found: RiskReport) -> str:
    """Return what was promised, for somebody who has never seen the system."""
    several = "" if len(found.alphas) == 1 else f" (the mean of the {len(found.alphas)} in force)"
    return (
        f"On average over the traffic of the period at most {percent(found.alpha)}{several} of the"
        f" routed requests get an answer that the judge finds unacceptable against the answer of"
        f" the reference, {', '.join(found.references)}."
    )


def realised(risk: ServedRisk, alpha: float) -> str:
    """Return the verdict with what it rests on."""
    if risk.rate is None:
        return "Not decided: nothing was routed."
    rate = risk.rate
    found = (
        f"{risk.judged:,} judged answers of other experts and {risk.by_reference:,} requests that"
        f" the reference served make {percent(rate.value)} of {risk.covered:,}; the 95 % interval"
        f" is {percent(rate.low)} to {percent(rate.high)}"
    )
    return sentence(risk.verdict, found, alpha, labels_needed=risk.labels_needed)


def left_out(found: RiskReport) -> str | None:
    """Return what the verdict says nothing about; None if it is about everything."""
    said = []
    if found.outside:
        said.append(f"{found.outside:,} requests were not routed (pinned, observed or off).")
    if found.overall.uncovered:
        said.append(
            f"{found.overall.uncovered:,} requests went to other experts with no chance of a label"
            " (their tenant opted out of judging, a budget was spent, or the ledger was away):"
            " nothing is said of them."
        )
    if found.overall.waiting:
        said.append(
            f"{found.overall.waiting:,} sampled answers have no label yet: the figures may still"
            " move."
        )
    if found.overall.unreadable:
        said.append(
            f"{found.overall.unreadable:,} verdicts could not be read: acceptable at the lower end"
            " of the interval, unacceptable at the upper."
        )
    return " ".join(said) or None


def thresholds(found: RiskReport) -> str:
    """Return how λ moved."""
    if not found.calibrations:
        return "λ was not recalibrated in the period."
    values = [one.threshold for one in found.calibrations]
    safe = sum(value >= SAFE for value in values)
    last = found.calibrations[-1]
    return (
        f"{len(values):,} recalibrations, {safe:,} of them at SAFE; λ from"
        f" {threshold(min(values))} to {threshold(max(values))}, {threshold(last.threshold)} at the"
        f" end with {last.effective_labels:,.0f} effective labels."
    )


def reasons(found: RiskReport) -> str:
    """Return why experts were chosen, most frequent first."""
    said = [f"{why} {n:,}" for why, n in found.reasons.items()]
    if found.degraded:
        said.append(f"of all of them {found.degraded:,} while the ledger was away")
    return ", ".join(said)


def lines(found: RiskReport) -> Iterator[str]:
    """Yield the report, line by line."""
    period = found.period
    yield f"Risk report, {period.since:%Y-%m-%d %H:%M} to {period.until:%Y-%m-%d %H:%M} UTC"
    yield f"Promised: {promised(found)}"
    yield f"Realised: {realised(found.overall, found.alpha)}"
    if said := left_out(found):
        yield f"Left out: {said}"
    if found.judge is not None:
        yield true_risk(found.judge, found.alpha)
    yield f"Threshold: {thresholds(found)}"
    yield f"Chosen because: {reasons(found)}"
    for title, segments, is_promised in tables(found):
        yield ""
        yield f"{title}:"
        yield from (f"  {_row(one, is_promised=is_promised)}" for one in segments[:SHOWN])
    if found.alerts:
        yield ""
        yield "Alerts:"
        yield from (f"  {one.raised_at:%Y-%m-%d %H:%M} {one.message}" for one in found.alerts)
    yield ""
    yield f"Facts {found.facts}"


def document(found: RiskReport) -> str:
    """Return the same figures for machines; readers refuse a format they do not know."""
    return as_json(KIND, FORMAT, report=asdict(found))


def page(found: RiskReport) -> str:
    """Return one page that needs nothing else: no script, no address, no prompt text."""
    made = environment()
    made.globals |= {
        "promised": promised,
        "realised": realised,
        "left_out": left_out,
        "thresholds": thresholds,
        "reasons": reasons,
        "true_risk": true_risk,
    }
    template = made.get_template("risk_report.html.j2")
    return template.render(
        found=found, tables=tables(found), shown=SHOWN, pictures=risk_pictures(found)
    )


def tables(found: RiskReport) -> list[tuple[str, Sequence[Segment], bool]]:
    """Return the segments by kind: title, segments, and whether a verdict means anything there."""
    return [
        ("By day", found.days, True),
        ("By tenant (λ is set for all of them together)", found.tenants, True),
        ("By category (λ is set for all of them together)", found.categories, True),
        ("By expert, among what it served (promised for none of them)", found.experts, False),
    ]


def _row(one: Segment, *, is_promised: bool) -> str:
    risk = one.risk
    return (
        f"{one.name}: {risk.requests:,} requests, {risk.judged:,} judged,"
        f" {interval(risk.rate)}{f', {risk.verdict}' if is_promised else ''}"
    )
