"""The pictures of a report: what is drawn of a summary, and what stands under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from recalibrate.phases import Baseline, PhaseSummary
from recalibrate.rolling import FLOOR
from recalibrate.summary import Summary
from recalibrate.svg import BAD, BAND, INK, MUTED, SERIES, drawn
from store.records import SAFE, ExpertId

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGET = "target \N{GREEK SMALL LETTER ALPHA}"
_NAME = 28
"""Longest name in a picture; the tables have it in full."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the report."""

    title: str
    caption: str
    svg: str


def pictures(summary: Summary) -> list[Picture]:
    """Return the pictures of a summary in reading order; none of an empty stream."""
    if not summary.series.in_force:
        return []
    window = summary.series.rolling_requests
    made = [
        _picture(
            "Realised regret along the stream",
            f"Share of unacceptable answers among the last {window} requests, with its 95 %"
            " interval. The dashed line is the target. A window may cross it: the promise is"
            " about the average over the traffic.",
            _regret,
            summary,
        ),
        _picture(
            "Threshold λ along the stream",
            "An expert cheaper than the reference may answer if its predicted quality is above λ."
            " In the shaded stretches λ is at SAFE: the reference answers everything.",
            _threshold,
            summary,
        ),
        _picture("Who answered", "Share of the traffic by expert.", _traffic, summary),
    ]
    if summary.has_costs:
        made.append(
            _picture(
                "Cost against quality and regret",
                "Cheaper is left. Always asking one expert, the router, and the best fixed λ that"
                " somebody who knew every score in advance could have set.",
                _tradeoff,
                summary,
                height=3.3,
            )
        )
    made += [
        _picture(
            "Effective labels behind λ",
            f"How much fresh evidence λ rested on. Below {FLOOR:.0f} the reference answers"
            " everything.",
            _labels,
            summary,
        ),
        _picture(
            "Gap confidence",
            "How sure the router was that its first choice is acceptable against its second."
            + (f" Left of {summary.tau:g} a comparator is asked." if summary.tau else ""),
            _confidence,
            summary,
        ),
    ]
    return made


def expert_colours(summary: Summary) -> dict[ExpertId, str]:
    """Return a colour for every expert that is drawn, the same in every picture."""
    named = {b.expert for b in summary.overall.baselines} | set(summary.series.experts)
    ordered = sorted(named, key=lambda name: (name != summary.reference, name))
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(ordered)}


def _picture(
    title: str,
    caption: str,
    draw: Callable[[Figure, Summary], None],
    summary: Summary,
    *,
    height: float = 2.6,
) -> Picture:
    svg = drawn(lambda figure: draw(figure, summary), name=draw.__name__.strip("_"), height=height)
    return Picture(title, caption, svg)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _regret(figure: Figure, summary: Summary) -> None:
    axes = figure.subplots()
    lines = summary.series.rolling_regret
    x = [p.position for p in lines]
    low, high = [p.rate.low for p in lines], [p.rate.high for p in lines]
    axes.fill_between(x, low, high, color=SERIES[1], alpha=0.22, linewidth=0, label="95 % interval")
    axes.plot(x, [p.rate.value for p in lines], color=SERIES[1], linewidth=1.6, label="regret")
    axes.axhline(summary.alpha, color=INK, linewidth=1.2, linestyle="--", label=TARGET)
    axes.set_ylim(0.0, max([*high, 1.6 * summary.alpha]) * 1.05)
    axes.yaxis.set_major_formatter(_percent)
    _along(figure, axes, summary)


def _threshold(figure: Figure, summary: Summary) -> None:
    axes = figure.subplots()
    points = summary.series.in_force
    top = max([p.threshold for p in points if p.threshold < SAFE], default=1.0)
    y = [p.threshold if p.threshold < SAFE else float("nan") for p in points]
    axes.plot(
        [p.position for p in points],
        y,
        drawstyle="steps-post",
        color=SERIES[1],
        linewidth=1.6,
        label="λ",
    )
    is_labelled = False
    for here, after in pairwise(points):
        if here.threshold >= SAFE:
            label = None if is_labelled else "SAFE"
            axes.axvspan(here.position, after.position, color=BAND, linewidth=0, label=label)
            is_labelled = True
    axes.set_ylim(0.0, max(1.0, top) * 1.02)
    _along(figure, axes, summary)


def _traffic(figure: Figure, summary: Summary) -> None:
    axes = figure.subplots()
    lines, colours = summary.series, expert_colours(summary)
    order = sorted(range(len(lines.experts)), key=lambda i: lines.experts[i] != summary.reference)
    edges = [*(t.first_position for t in lines.traffic), lines.traffic[-1].last_position + 1]
    stacked = [[*(t.shares[i] for t in lines.traffic), lines.traffic[-1].shares[i]] for i in order]
    axes.stackplot(
        edges,
        stacked,
        step="post",
        labels=[_short(lines.experts[i]) for i in order],
        colors=[colours[lines.experts[i]] for i in order],
        linewidth=0,
    )
    axes.set_ylim(0.0, 1.0)
    axes.grid(visible=False)
    axes.yaxis.set_major_formatter(_percent)
    _along(figure, axes, summary)


def _labels(figure: Figure, summary: Summary) -> None:
    axes = figure.subplots()
    points = summary.series.in_force
    axes.plot(
        [p.position for p in points],
        [p.effective_labels for p in points],
        drawstyle="steps-post",
        color=SERIES[1],
        linewidth=1.6,
        label="effective labels",
    )
    axes.axhline(FLOOR, color=INK, linewidth=1.2, linestyle="--", label="floor")
    axes.set_ylim(bottom=0.0)
    _along(figure, axes, summary)


def _confidence(figure: Figure, summary: Summary) -> None:
    axes = figure.subplots()
    counts = summary.series.gap_confidences
    width = 1.0 / len(counts)
    first = next((i for i, n in enumerate(counts) if n), 0)
    axes.bar([(i + 0.5) * width for i in range(len(counts))], counts, 0.92 * width, color=SERIES[1])
    if summary.tau is not None:
        axes.axvline(summary.tau, color=INK, linewidth=1.2, linestyle="--", label="τ")
        figure.legend(loc="outside lower center")
    axes.set_xlim(min(first * width, 0.5), 1.0)
    axes.set_xlabel("gap confidence")
    axes.set_ylabel("decisions")
    axes.grid(visible=False, axis="x")


@dataclass(frozen=True, slots=True)
class _Mark:
    colour: str
    marker: str
    size: float
    edge: str | None = None


_ROUTER = _Mark(BAD, "*", 14.0)
_HINDSIGHT = _Mark("none", "D", 9.0, edge=INK)


def _tradeoff(figure: Figure, summary: Summary) -> None:
    quality, regret = figure.subplots(1, 2)
    overall, colours = summary.overall, expert_colours(summary)
    best = overall.hindsight
    if best is not None and best.cost_share is not None:
        x = best.cost_share.value
        _point(quality, x, best.quality, _HINDSIGHT, label="best λ in hindsight")
        _point(regret, x, best.regret, _HINDSIGHT)
    for base in overall.baselines:
        if base.cost_share is not None:
            mark = _Mark(colours[base.expert], "o", 8.0)
            x = base.cost_share.value
            _point(quality, x, base.quality, mark, label=_policy(base))
            _point(regret, x, base.regret.value, mark)
    _router(quality, regret, overall)
    regret.axhline(summary.alpha, color=INK, linewidth=1.2, linestyle="--", label=TARGET)
    quality.set_ylabel("mean judged quality")
    regret.set_ylabel("unacceptable answers")
    regret.yaxis.set_major_formatter(_percent)
    for axes in (quality, regret):
        axes.set_xlabel("cost, share of always asking the reference")
        axes.xaxis.set_major_formatter(_percent)
        axes.set_xlim(left=min(-0.03, axes.get_xlim()[0]))
    figure.legend(loc="outside lower center", ncols=3)


def _policy(base: Baseline) -> str:
    kind = " (reference)" if base.is_reference else " (cheapest)" if base.is_cheapest else ""
    return f"always {_short(base.expert)}{kind}"


def _router(quality: Axes, regret: Axes, overall: PhaseSummary) -> None:
    cost, rate = overall.cost_share, overall.regret.rate
    if cost is None or rate is None or overall.quality is None:
        return
    wide = [[cost.value - cost.low], [cost.high - cost.value]]
    tall = [[rate.value - rate.low], [rate.high - rate.value]]
    quality.errorbar([cost.value], [overall.quality], xerr=wide, color=BAD)
    regret.errorbar([cost.value], [rate.value], xerr=wide, yerr=tall, color=BAD)
    _point(quality, cost.value, overall.quality, _ROUTER, label="the router")
    _point(regret, cost.value, rate.value, _ROUTER)


def _point(axes: Axes, x: float, y: float, mark: _Mark, *, label: str | None = None) -> None:
    axes.plot(
        [x],
        [y],
        linestyle="none",
        color=mark.colour,
        marker=mark.marker,
        markersize=mark.size,
        markeredgecolor=mark.edge or mark.colour,
        label=label,
    )


def _percent(value: float, _: float) -> str:
    return f"{100.0 * value:.0f} %"


def _along(figure: Figure, axes: Axes, summary: Summary) -> None:
    """Finish a plot over the stream: phases, injected faults, alerts, legend."""
    starts = summary.series.phase_starts
    last = summary.series.traffic[-1].last_position + 1
    axes.set_xlim(starts[0].position, last)
    axes.set_xlabel("requests")
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    ends = [*(s.position for s in starts[1:]), last]
    for start, end in zip(starts, ends, strict=True):
        if start.position > starts[0].position:
            axes.axvline(start.position, color=MUTED, linewidth=0.8, linestyle=":")
        fits = int(110 * (end - start.position) / (last - starts[0].position))
        name = start.name if len(start.name) <= fits else f"{start.name[: max(fits - 1, 0)]}…"
        if fits >= 4:
            place = axes.get_xaxis_transform()
            axes.text(start.position, 1.02, f" {name}", transform=place, color=MUTED, fontsize=8)
    for i, fault in enumerate(summary.injected):
        label = None if i else "fault injected by the driver"
        axes.axvline(fault.position, color=BAD, linewidth=1.6, label=label)
    for i, raised in enumerate(summary.alerts):
        axes.plot(
            [raised.position],
            [0.0],
            marker="^",
            markersize=8,
            color=BAD,
            linestyle="none",
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            label=None if i else "alert",
        )
    figure.legend(loc="outside lower center", ncols=5)
