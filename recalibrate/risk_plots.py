"""The pictures of a risk report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recalibrate.plots import TARGET, Picture
from recalibrate.risk_report import RiskReport
from recalibrate.svg import BAD, INK, MUTED, SERIES, drawn
from store.records import SAFE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TOP = 1.05
"""Where SAFE is drawn."""


def risk_pictures(found: RiskReport) -> list[Picture]:
    """Return the pictures in reading order."""
    made = [
        Picture(
            "Realised risk by day",
            "Estimated share of requests with an unacceptable answer, with its 95 % interval. The"
            " dashed line is the target. A day may lie above it: the promise is about the average"
            " over the period.",
            drawn(lambda figure: _days(figure, found), name="days", height=2.6),
        )
    ]
    if found.calibrations:
        made.append(
            Picture(
                "Threshold λ",
                "An expert may answer in the reference's place if its predicted quality is above λ."
                " At the top, SAFE, the reference answers everything.",
                drawn(lambda figure: _thresholds(figure, found), name="lambda", height=2.2),
            )
        )
    return made


def _days(figure: Figure, found: RiskReport) -> None:
    axes = figure.subplots()
    seen = [(one.name, one.risk.rate) for one in found.days if one.risk.rate is not None]
    for place, (_, rate) in enumerate(seen):
        axes.plot([place, place], [100 * rate.low, 100 * rate.high], color=SERIES[1], linewidth=2)
        axes.plot([place], [100 * rate.value], marker="o", color=SERIES[1])
    axes.axhline(100 * found.alpha, color=BAD, linestyle="--", linewidth=1, label=TARGET)
    step = max(1, len(seen) // 10)
    axes.set_xticks(range(0, len(seen), step), [name for name, _ in seen][::step])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("unacceptable, %")
    axes.legend(loc="upper right")


def _thresholds(figure: Figure, found: RiskReport) -> None:
    axes = figure.subplots()
    since = found.period.since
    at = [(one.calibrated_at - since).total_seconds() / 86_400 for one in found.calibrations]
    shown = [min(one.threshold, _TOP) for one in found.calibrations]
    axes.step(at, shown, where="post", color=INK, linewidth=1.2)
    safe = [t for t, one in zip(at, found.calibrations, strict=True) if one.threshold >= SAFE]
    axes.plot(safe, [_TOP] * len(safe), ".", color=MUTED, label="SAFE")
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("λ")
    axes.set_xlabel(f"days from {since:%Y-%m-%d %H:%M} UTC")
    if safe:
        axes.legend(loc="lower right")
