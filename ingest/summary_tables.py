"""The summary as tables for the terminal; names are text, never markup."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from recalibrate import words
from recalibrate.loop_words import loop_facts
from recalibrate.phases import PhaseSummary
from recalibrate.realised import Verdict
from recalibrate.summary import Summary

DECIDED = (
    ("safe mode: λ at SAFE, or an error", "safe_mode"),
    ("no expert above λ", "no_candidate"),
    ("explored", "explored"),
    ("ramp quota", "ramp"),
    ("comparator asked", "comparator_asked"),
    ("comparator decided", "comparator_decided"),
    ("degraded", "degraded"),
    ("pinned", "pinned"),
    ("mode observe or off", "not_routed"),
    ("judged", "sampled"),
)
COLOURS = {Verdict.HELD: "green", Verdict.NOT_HELD: "red", Verdict.NOT_DECIDED: "yellow"}


def blocks(summary: Summary) -> list[RenderableType]:
    """Return what is printed, in reading order."""
    overall = summary.overall
    setup = ", ".join(summary.setup_phases)
    counted = f"{overall.requests:,} requests" + (f", without the setup ({setup})" if setup else "")
    verdict = words.verdict(overall.regret, summary.alpha)
    return [
        Text(f"{summary.title}: {counted}", style="bold"),
        Text(f"Promised. {words.promise(summary)}"),
        *_judge(summary),
        Text(f"Realised. {verdict}", style=COLOURS[overall.regret.verdict]),
        *_not_covered(summary),
        Text(f"Saved. {words.savings(summary)}"),
        *(Text(f"Injected. {words.found_after(fault)}") for fault in summary.injected),
        _promise(summary),
        _savings(summary),
        _decided(summary),
        _answered(summary),
        _compared(summary),
        _loop(summary),
        _timeline(summary),
        Text(
            "With respect to the judge, on average over traffic; mode mean holds by simulation,"
            " not by a theorem, for labels of all folds. Each interval is a 95 % interval of its"
            " own."
        ),
    ]


def _judge(summary: Summary) -> list[RenderableType]:
    if summary.judge is None:
        return []
    return [Text(f"Judge. {words.true_risk(summary.judge, summary.alpha)}")]


def _not_covered(summary: Summary) -> list[RenderableType]:
    said = words.not_covered(summary)
    return [] if said is None else [Text(f"Not covered. {said}")]


def _table(title: str, *names: str) -> Table:
    """Return a table whose first column is text and whose others are figures."""
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for i, name in enumerate(names):
        table.add_column(
            name, justify="right" if i else "left", overflow="fold", no_wrap=i > 0 and "%" in name
        )
    return table


def _rows(summary: Summary) -> list[PhaseSummary]:
    return [*summary.phases, summary.overall]


def _add(table: Table, *cells: str, style: str | None = None) -> None:
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _promise(summary: Summary) -> Table:
    table = _table(
        f"Promise: at most {words.percent(summary.alpha)} unacceptable",
        *("Phase", "Requests", "Unacceptable", "Share (95 %)", "Verdict", "Labels needed"),
    )
    for row in _rows(summary):
        _add(
            table,
            row.name,
            words.count(row.requests),
            words.count(row.regret.unacceptable),
            words.interval(row.regret.rate),
            row.regret.verdict,
            words.count(row.regret.labels_needed),
        )
    return table


def _savings(summary: Summary) -> Table:
    costs = ("Cost", "Reference", "Cost share (95 %)") if summary.has_costs else ()
    table = _table("Quality and cost", "Phase", "Quality", "Reference", *costs)
    for row in _rows(summary):
        cells = [row.name, words.grade(row.quality), words.grade(row.reference_quality)]
        if summary.has_costs:
            cells += [words.usd(row.cost_usd), words.usd(row.reference_cost_usd)]
            cells.append(words.interval(row.cost_share))
        _add(table, *cells)
    return table


def _decided(summary: Summary) -> Table:
    """Return shares by phase, the phases as columns: their names are longer than the figures."""
    rows = [(row.name, row.shares) for row in _rows(summary) if row.shares is not None]
    table = _table("How requests were decided", "Share of requests", *(name for name, _ in rows))
    for name, field in DECIDED:
        _add(table, name, *(words.percent(getattr(shares, field)) for _, shares in rows))
    return table


def _answered(summary: Summary) -> Table:
    table = _table("Who answered", "Phase")
    table.add_column("Experts", overflow="fold")
    for row in _rows(summary):
        _add(table, row.name, words.served_by(row))
    return table


def _compared(summary: Summary) -> Table:
    overall, costs = summary.overall, summary.has_costs
    names = ("Cost of 1,000", "Cost share (95 %)") if costs else ()
    table = _table("Compared with", "Policy", "Quality", "Unacceptable", *names)
    for base in overall.baselines:
        kind = " (reference)" if base.is_reference else " (cheapest)" if base.is_cheapest else ""
        cells = [words.grade(base.quality), words.interval(base.regret)]
        cells += [words.usd_per_thousand(base.cost_usd), words.interval(base.cost_share)]
        _add(table, f"always {base.expert}{kind}", *(cells if costs else cells[:2]))
    if best := overall.hindsight:
        cells = [words.grade(best.quality), words.percent(best.regret)]
        cells += [words.usd_per_thousand(best.cost_usd), words.interval(best.cost_share)]
        _add(table, f"best fixed λ in hindsight ({words.threshold(best.threshold)})", *cells)
    cells = [words.grade(overall.quality), words.interval(overall.regret.rate)]
    if costs and overall.cost_usd is not None:
        cells.append(words.usd_per_thousand(overall.cost_usd / overall.requests))
        cells.append(words.interval(overall.cost_share))
    _add(table, "the router", *cells, style="bold")
    return table


def _loop(summary: Summary) -> Table:
    table = _table("How the loop turned", "What")
    table.add_column("Fact", overflow="fold")
    for name, fact in loop_facts(summary):
        _add(table, name, fact)
    return table


def _timeline(summary: Summary) -> Table:
    table = _table("What happened when")
    table.add_column("Request", justify="right")
    table.add_column("Kind")
    table.add_column("Event", overflow="fold")
    for entry in summary.timeline:
        style = "red" if entry.kind in {"injected", "alert"} else None
        _add(table, f"{entry.position:,}", entry.kind, entry.text, style=style)
    return table
