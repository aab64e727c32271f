"""How the loop turned, as lines of text."""

from __future__ import annotations

from recalibrate import words
from recalibrate.pace import ExpertJoined
from recalibrate.stream_facts import LabelTotals
from recalibrate.summary import Summary


def loop_facts(summary: Summary) -> list[tuple[str, str]]:
    """Return (name, fact) pairs on recalibrations, labels, experts that joined and alerts."""
    pace, labels = summary.recalibrations, summary.labels
    facts = [
        (
            "Recalibrations of λ",
            f"{pace.count:,}, of which {pace.feasible:,} found a feasible λ (the others chose"
            " SAFE)",
        ),
        (
            "New labels between two of them",
            f"at least {words.count(pace.min_new_labels)}, median"
            f" {words.count(pace.median_new_labels)}; 0 when the pool or the settings changed",
        ),
    ]
    if pace.median_took_ms is not None:
        took = f"median {pace.median_took_ms:,.0f} ms, longest {words.count(pace.max_took_ms)} ms"
        facts.append(("Time of one", took))
    facts += [
        (
            "Routing states that served",
            f"{pace.states_served:,} of {pace.count:,} versions, swapped while serving",
        ),
        ("Distinct gap confidences", f"{pace.distinct_gap_confidences:,}"),
        ("Labels", _labels(labels)),
    ]
    if labels.cost_usd is not None:
        facts.append(
            (
                "What the labels cost",
                f"{words.usd(labels.cost_usd)} (shadow answers"
                f" {words.usd(labels.shadow_cost_usd)}, judge {words.usd(labels.judge_cost_usd)})",
            )
        )
    facts += [
        (f"{e.expert}, added at request {e.joined_position:,}", _joined(e)) for e in summary.joined
    ]
    return [*facts, ("Alerts", f"{len(summary.alerts):,}")]


def _labels(labels: LabelTotals) -> str:
    calls = "" if labels.judge_calls is None else f" from {labels.judge_calls:,} judge calls"
    probes = "" if labels.probes is None else f"; {labels.probes:,} probes of new experts"
    return f"{labels.labels:,}{calls}{probes}"


def _joined(expert: ExpertJoined) -> str:
    first, certified = "never served", "not certified"
    if expert.requests_to_first_route is not None:
        why = f" ({expert.first_route_reason})" if expert.first_route_reason else ""
        took = _seconds(expert.seconds_to_first_route)
        first = f"first served after {expert.requests_to_first_route:,} requests{took}{why}"
    if expert.requests_to_certified is not None:
        took = _seconds(expert.seconds_to_certified)
        certified = f"certified after {expert.requests_to_certified:,} requests{took}"
    got = "" if expert.labels_got is None else f", {expert.labels_got:,} there"
    return f"{first}; {certified}; {expert.labels_needed:,} labels of sampled traffic needed{got}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f" ({value:,.1f} s)"
