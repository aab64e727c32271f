"""The go/no-go report as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from recalibrate import words
from recalibrate.crossfit import EVALUATED
from recalibrate.documents import as_json
from recalibrate.observing import Observation
from recalibrate.outlook import Outlook
from recalibrate.supply import duration

KIND = "steersman.observation"
FORMAT = 1

BASIS = (
    "What this rests on: unacceptable means with respect to the judge. Each request is looked at"
    " under the threshold that the rule in force makes of the other four fifths of the labels up to"
    " its time, and under scores fitted without its fifth, so its own label chose neither. A small"
    " bias stays: the scores of the others have seen it. The intervals are 95 % each and count the"
    " noise of the requests and of the thresholds, for traffic like that of the judged requests:"
    " they know nothing of what comes tomorrow, of experts that change, or of requests that allow"
    " only some experts."
)


def lines(found: Observation) -> Iterator[str]:
    """Yield the report, line by line."""
    since = f" decided since {found.oldest:%Y-%m-%d %H:%M} UTC" if found.oldest else ""
    yield (
        f"Is it safe to turn it on? {found.looked_at:,} judged requests{since}; reference"
        f" {found.reference}, mode {found.mode}, target {words.percent(found.alpha)}, state"
        f" {found.state_version}."
    )
    if found.left_out:
        yield (
            f"{found.left_out:,} labels of the last 30 days count neither here nor for λ: a judge"
            " that they stand on is in quarantine (`steersman judge versions`)."
        )
    if found.waiting is not None:
        yield f"At the target in force: {found.waiting.text}."
    for one in found.outlooks:
        yield ""
        yield from _of(one, per_hour=found.labels_per_hour)
    if not found.outlooks:
        yield "Not yet: nothing has been learnt, so there is nothing to expect."
        return
    yield ""
    yield BASIS


def document(found: Observation) -> str:
    """Return the same figures for machines; readers refuse a format they do not know."""
    return as_json(KIND, FORMAT, basis=BASIS, observation=asdict(found))


def _of(one: Outlook, *, per_hour: float | None) -> Iterator[str]:
    yield f"Target {words.percent(one.alpha)}: {one.answer.upper()}. {one.because}"
    yield (
        f"    λ {words.threshold(one.threshold)} on"
        f" {one.effective_labels:.0f} effective labels; {_left(one, per_hour)}"
    )
    if one.risk is None:
        return
    weighted = "; π changed, so it is approximate" if one.is_weighted else ""
    yield (
        f"    unacceptable {words.interval(one.risk.rate)}: {one.risk.verdict}{weighted}; cost"
        f" {words.interval(one.cost_share)} of always asking the reference"
    )
    unjudged = f"; {one.unjudged:,} not judged there count as losses" if one.unjudged else ""
    served = ", ".join(f"{e.expert} {words.percent(e.share)}" for e in one.experts)
    yield f"    served by {served}{unjudged}"


def _left(one: Outlook, per_hour: float | None) -> str:
    if one.labels_to_floor is None:
        return "at this label_rate the labels never suffice: raise it, or age_half_life_requests"
    needed = one.labels_to_floor or one.labels_to_decide
    if not needed:
        return "no more labels are needed" if one.is_decided else _never()
    when = "how long is unknown, no labels came in the last day"
    if one.hours_left is not None:
        when = f"about {duration(one.hours_left)} at {per_hour or 0.0:,.0f} labels an hour"
    return f"about {needed:,} more labels, {when}"


def _never() -> str:
    return f"more labels may not decide it: it takes more than the {EVALUATED:,} looked at"
