"""What ``live_gap`` saw, as tables and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.newcomer_sets import Rows
from benchmarks.timing import mean_with_interval, table, verdict
from store.records import FloatArray

BINS = 10
TARGET = 0.05
SEED = 20_261_201


@dataclass(frozen=True, slots=True)
class Seen:
    """What was said of n prompts before their labels, and what the labels say."""

    confidence: FloatArray
    reversed: FloatArray
    """The confidence with the gap's sign turned round."""
    holds: FloatArray
    """1 where the first was acceptable against the second."""
    asked: FloatArray
    """1 where the comparator is asked."""
    changed: FloatArray
    """1 where it prefers the second."""
    quality: FloatArray
    """By which the second is better, judged."""
    cost: FloatArray
    """By which it is dearer, over the reference's cost."""

    def gain(self, cost_weight: float) -> tuple[float, float, float]:
        """Return what its changes add per prompt: quality, cost, and quality minus cost."""
        quality = float(np.mean(self.changed * self.quality))
        cost = float(np.mean(self.changed * self.cost))
        return quality, cost, quality - cost_weight * cost


def bins(said: FloatArray) -> list[Rows]:
    """Return ten groups of as many prompts, by confidence."""
    return [b for b in np.array_split(np.argsort(said, kind="stable"), BINS) if len(b)]


def calibration_error(said: FloatArray, holds: FloatArray) -> float:
    """Return the expected calibration error over ``bins``: mean |share − mean confidence|."""
    off = [len(b) * abs(float(np.mean(holds[b]) - np.mean(said[b]))) for b in bins(said)]
    return sum(off) / len(said)


def floor(said: FloatArray, rng: np.random.Generator, *, times: int = 50) -> float:
    """Return the mean error that a perfect confidence would show on so many prompts."""
    drawn = [(rng.random(len(said)) < said).astype(np.float64) for _ in range(times)]
    return float(np.mean([calibration_error(said, one) for one in drawn]))


Runs = dict[tuple[str, float], list[Seen]]
"""By set with pool, and cost weight."""


def calibration(runs: Runs) -> str:
    """Compare what was said with what came, over the orders."""
    rng = np.random.default_rng(SEED)
    rows = []
    for (where, cost_weight), found in runs.items():
        mean, low, high = mean_with_interval(
            [calibration_error(one.confidence, one.holds) for one in found]
        )
        perfect = np.mean([floor(one.confidence, rng) for one in found])
        control = np.mean([calibration_error(one.reversed, one.holds) for one in found])
        share = np.mean([np.mean(one.holds) for one in found])
        each = (where, f"{cost_weight:g}", f"{len(found[0].holds):,}", f"{share:.3f}")
        errors = (f"{mean:.3f} ({low:.3f} to {high:.3f})", f"{perfect:.3f}", f"{control:.3f}")
        rows.append((*each, *errors, verdict(mean, TARGET)))
    columns = ("set, pool", "cost weight", "prompts an order", "first acceptable", "error (95 %)")
    others = ("a perfect one's", "gap turned round", f"target {TARGET:g}")
    return (
        f"\nExpected calibration error of the gap confidence, {BINS} bins of as many prompts,"
        f" {len(found)} random orders (intervals over orders):\n" + table((*columns, *others), rows)
    )


def reliability(runs: Runs) -> str:
    """Show the bins of all orders together: what was said, what came."""
    columns, rows = ["set, pool", "cost weight"], []
    for (where, cost_weight), found in runs.items():
        said = np.concatenate([one.confidence for one in found])
        holds = np.concatenate([one.holds for one in found])
        pairs = [f"{np.mean(said[b]):.2f} → {np.mean(holds[b]):.2f}" for b in bins(said)]
        rows.append((where, f"{cost_weight:g}", *pairs))
    columns += [f"bin {i}" for i in range(1, BINS + 1)]
    return "\nReliability, said → came, all orders together:\n" + table(columns, rows)


def comparison(runs: Runs) -> str:
    """Show what the comparator's changes are worth, where λ admits both experts."""
    rows = []
    for (where, cost_weight), found in runs.items():
        asked = 100.0 * np.mean([np.mean(one.asked) for one in found])
        changed = 100.0 * np.mean([np.mean(one.changed) for one in found])
        gains = np.array([one.gain(cost_weight) for one in found])
        shown = [
            "{:+.4f} ({:+.4f} to {:+.4f})".format(*mean_with_interval(column)) for column in gains.T
        ]
        rows.append((where, f"{cost_weight:g}", f"{asked:.0f} %", f"{changed:.1f} %", *shown))
    columns = ("set, pool", "cost weight", "asked", "changes the choice", "judged quality", "cost")
    return (
        "\nThe comparator on against off, per prompt, with both experts admitted (its largest"
        " effect); cost in reference calls:\n" + table((*columns, "quality - cost"), rows)
    )


def draw(runs: Runs, path: Path) -> None:
    """Write what was said against what came as SVG, all orders of a pool in one line."""
    pools = sorted({where for where, _ in runs})
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, where in zip(figure.subplots(1, len(pools), sharey=True), pools, strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for cost_weight in sorted({weight for _, weight in runs}):
            found = runs[where, cost_weight]
            said = np.concatenate([one.confidence for one in found])
            holds = np.concatenate([one.holds for one in found])
            points = [(said[b].mean(), holds[b].mean()) for b in bins(said)]
            axes.plot(*zip(*points, strict=True), marker=".", label=f"cost weight {cost_weight:g}")
        axes.set(title=where, xlabel="said", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.axes[0].set_ylabel("came")
    figure.axes[0].legend(fontsize=7, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
