"""Go, no-go or not yet, with the reason in words for somebody who has never seen the system."""

from __future__ import annotations

from enum import StrEnum

from recalibrate.realised import Interval, Realised, Verdict
from recalibrate.words import percent


class Answer(StrEnum):
    """Whether to turn it on at a risk target."""

    GO = "go"
    NO_GO = "no-go"
    NOT_YET = "not yet"


def answer_of(
    alpha: float,
    *,
    is_short: bool,
    is_safe: bool,
    risk: Realised | None,
    cost: Interval | None,
    labels_to_floor: int | None,
    labels_to_decide: int | None,
) -> tuple[Answer, str]:
    """Return the answer and its reason: the first thing that stands in the way, or none.

    Parameters
    ----------
    is_short
        Too few labels for λ, in all or without one fold.
    is_safe
        λ by the rule in force is SAFE though there are labels: no threshold meets the target.
    """
    target = f"{100.0 * alpha:g} %"
    if is_short:
        return Answer.NOT_YET, _short(labels_to_floor)
    if is_safe:
        return Answer.NO_GO, (
            f"No threshold keeps unacceptable answers at {target} or less: the reference would"
            " answer everything, and nothing would be saved."
        )
    if risk is None or risk.rate is None or cost is None:
        return Answer.NOT_YET, "No judged request can be looked at yet."
    if risk.verdict is Verdict.NOT_HELD or cost.low >= 1.0:
        return Answer.NO_GO, _against(risk.rate, cost, target, is_held=cost.low >= 1.0)
    if risk.verdict is Verdict.NOT_DECIDED or cost.high >= 1.0:
        return Answer.NOT_YET, _undecided(risk, cost, target, labels_to_decide)
    return Answer.GO, (
        f"{percent(risk.rate.value)} of the requests would get an unacceptable answer"
        f" ({_between(risk.rate)}), all of it within {target}, for {percent(cost.value)} of the"
        " reference's cost."
    )


def _short(labels_to_floor: int | None) -> str:
    few = "Too few answers have been judged to set a threshold"
    if labels_to_floor is None:
        return f"{few}, and at this label rate old ones fade before enough come together."
    return f"{few}: about {labels_to_floor:,} more are needed."


def _against(rate: Interval, cost: Interval, target: str, *, is_held: bool) -> str:
    if is_held:
        return (
            f"It would save nothing: the answers would cost {percent(cost.value)} of always asking"
            " the reference."
        )
    return (
        f"{percent(rate.value)} of the requests would get an unacceptable answer, and even the low"
        f" end of what that may really be ({_between(rate)}) is above {target}."
    )


def _undecided(risk: Realised, cost: Interval, target: str, labels_to_decide: int | None) -> str:
    if risk.rate is None or risk.verdict is not Verdict.NOT_DECIDED:
        return (
            "The answers would be good enough, but whether it saves money is not decided: they"
            f" would cost {_between(cost)} of always asking the reference."
        )
    more = (
        "it is so close to the target that more labels may not decide it"
        if labels_to_decide is None
        else f"about {labels_to_decide:,} more labels would decide it"
    )
    return (
        f"{percent(risk.rate.value)} of the requests would get an unacceptable answer, but that"
        f" may really be anything from {_between(risk.rate)}, on both sides of {target}; {more}."
    )


def _between(found: Interval) -> str:
    return f"{100.0 * found.low:.1f} to {100.0 * found.high:.1f} %"
