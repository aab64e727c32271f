"""``python -m benchmarks.live_newcomers --data DIR``: what a few probes tell of a new expert.

Experts are split at random: two thirds are learnt from, the rest is routed by 0 to 192 probes of
each. Prompts are split by near-duplicates; settings are chosen on validation prompts, by hiding
some of the seen experts; the figures are of test prompts and unseen experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from benchmarks.areas import RESAMPLES, aiq, areas, choices, points, qnc, resampled, zero_router
from benchmarks.given import recorded_in
from benchmarks.newcomer_methods import FIXED, METHODS
from benchmarks.newcomer_sets import ALPACA, FILES, MMLU, ROUTERBENCH, TEST, Recorded, read
from benchmarks.newcomer_split import PROBES, TRAINED_ON, Maps, Split, clustered, drawn
from benchmarks.timing import table
from online.cost_spectrum import Spectrum
from store.records import FloatArray

SETS = (MMLU, ALPACA, ROUTERBENCH)
SPLITS = 5
SHOWN = 64
"""Probes at which AIQ, QNC and peak are shown."""
GAMMAS = (-0.5, -0.2, 0.0, 0.2, 0.5)
GAMMA_EPOCHS = 60
SEEDS = 3
SEED = 31
ZERO = "zero router, knowing the results"
OURS, CSCR, MAP = "the router's own path", "CSCR", "cluster map (UniRoute)"
Choices = npt.NDArray[np.int64]


@dataclass(slots=True)
class Found:
    """What one method made of the unseen experts with one number of probes, split by split."""

    areas: list[FloatArray] = field(default_factory=list)
    """float64[1 + B] each: on the test prompts, then on their resamples."""
    aiqs: list[float] = field(default_factory=list)
    qncs: list[float | None] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    @property
    def resamples(self) -> FloatArray:
        """The areas as float64[S, 1 + B]."""
        return np.stack(self.areas)


def main() -> None:
    """Print the tables, or why there are none."""
    data = recorded_in("live_newcomers", __doc__, (f for name in SETS for f in FILES[name]))
    if data is None:
        return
    for name in SETS:
        recorded = read(data, name)
        maps = clustered(recorded)
        print(newcomers(recorded, maps), flush=True)
        if name == ROUTERBENCH:
            print(signs(recorded, maps), flush=True)


def newcomers(data: Recorded, maps: Maps) -> str:
    """Route unseen experts of a set by every method."""
    rows = data.rows(TEST)
    weights = resampled(np.unique(data.groups[rows], return_inverse=True)[1], SEED)
    splits = [drawn(data, maps, SEED + number) for number in range(SPLITS)]
    found: dict[tuple[str, int], Found] = {}
    for split in splits:
        pool = split.pool(split.unseen, rows)
        zero = found.setdefault((ZERO, SHOWN), Found())
        zero.areas.append(zero_router(pool, weights))
        for name, method in METHODS.items():
            for count in PROBES if name not in FIXED else PROBES[:1]:
                scores = method(split, split.unseen, rows, count)
                chosen = choices(scores, pool.expected)
                held = found.setdefault((name, count), Found())
                held.areas.append(areas(pool, chosen, weights))
                _add_others(held, split, chosen)
    for name in FIXED:
        found |= {(name, count): found[name, PROBES[0]] for count in PROBES}
    return _about(data, splits) + _levels(found) + "\n" + _differences(found) + _settings(splits)


def signs(data: Recorded, maps: Maps) -> str:
    """Train on all experts of a set with γ of either sign."""
    rows = data.rows(TEST)
    weights = resampled(np.unique(data.groups[rows], return_inverse=True)[1], SEED)
    split = replace(drawn(data, maps, SEED), seen=np.arange(len(data.experts)))
    pool, known = split.pool(split.seen, rows), split.profiles(split.seen, PROBES[-1])
    made: dict[float, list[tuple[FloatArray, float, float]]] = {gamma: [] for gamma in GAMMAS}
    for gamma in GAMMAS:
        settings = Spectrum(gamma_neg=gamma, epochs=GAMMA_EPOCHS)
        for seed in range(SEEDS):
            head = split.head(known, settings, seed)
            chosen = choices(split.cosines(head, known, rows), pool.expected)
            cost, quality = points(pool, chosen, weights[:1])
            dearest = float(pool.cost.mean(axis=0).max())
            made[gamma].append(
                (areas(pool, chosen, weights), float(cost[0, -1]) / dearest, float(quality[0, -1]))
            )
    plain = np.mean([area for area, _, _ in made[0.0]], axis=0)
    lines = []
    for gamma, runs in made.items():
        area = np.mean([a for a, _, _ in runs], axis=0)
        spread = " to ".join(f"{f(a[0] for a, _, _ in runs):.3f}" for f in (min, max))
        cells = [f"{np.mean([run[i] for run in runs]):.3f}" for i in (1, 2)]
        against = _interval(area - plain) if gamma else ""
        lines.append((f"{gamma:+.1f}", *cells, f"{area[0]:.3f} ({spread})", against))
    columns = (
        *("gamma (+ as printed, − as told)", "cost at weight 0, of the dearest's", "quality there"),
        *("area (by seed)", "less gamma = 0 (95 %)"),
    )
    return (
        f"\n**{data.name}, the sign of gamma.** All {len(data.experts)} experts seen, the paper's"
        f" other settings, {GAMMA_EPOCHS} epochs, means of {SEEDS} seeds, test prompts:\n"
        + table(columns, lines)
    )


def _add_others(held: Found, split: Split, chosen: Choices) -> None:
    pool = split.pool(split.unseen, split.data.rows(TEST))
    singles = pool.cost.mean(axis=0)
    costs, qualities = (x[0] for x in points(pool, chosen, np.ones((1, len(chosen)))))
    best = int(np.argmax(pool.quality.mean(axis=0)))
    held.aiqs.append(aiq(costs, qualities, float(singles.min()), float(singles.max())))
    held.qncs.append(qnc(costs, qualities, (singles[best], pool.quality[:, best].mean())))
    held.peaks.append(float(qualities.max()))


def _about(data: Recorded, splits: Sequence[Split]) -> str:
    quality = data.quality[data.rows(TEST)].mean(axis=0)
    return (
        f"\n**{data.name}.** {len(data.experts)} experts ({len(splits[0].seen)} seen,"
        f" {len(splits[0].unseen)} unseen, {SPLITS} splits), prompts that all answered: "
        + ", ".join(
            f"{len(data.rows(part)):,} {name}"
            for part, name in enumerate(("training", "validation", "test"))
        )
        + f". Mean quality of an expert {quality.min():.3f} to {quality.max():.3f}; the dearest"
        f" costs {1 / data.expected[0]:.0f} times the cheapest. Area on test prompts, mean of the"
        " splits (95 % by prompt; standard deviation over splits):\n"
    )


def _levels(found: dict[tuple[str, int], Found]) -> str:
    rows = []
    for name in METHODS:
        cells = [_area(found[name, count]) for count in PROBES]
        held = found[name, SHOWN]
        reached = [q for q in held.qncs if q is not None]
        qncs = f"{100 * np.median(reached):.0f} % " if reached else ""
        rows.append(
            (
                name,
                *(["", "", "", cells[0]] if name in FIXED else cells),
                f"{np.mean(held.aiqs):.3f}",
                f"{qncs}({len(reached)}/{len(held.qncs)})",
                f"{np.mean(held.peaks):.3f}",
            )
        )
    rows.append((ZERO, "", "", "", _area(found[ZERO, SHOWN]), "", "", ""))
    columns = ("method", *(f"{count} probes" for count in PROBES))
    at = (f"AIQ at {SHOWN}", f"QNC at {SHOWN} (reached)", f"peak at {SHOWN}")
    return table((*columns, *at), rows)


def _differences(found: dict[tuple[str, int], Found]) -> str:
    pairs = [(CSCR, other) for other in METHODS if other not in (CSCR, "oracle")]
    rows = []
    for first, second in [*pairs, (OURS, MAP)]:
        cells = []
        for count in PROBES:
            less = found[first, count].resamples - found[second, count].resamples
            wins = int((less[:, 0] > 0.0).sum())
            cells.append(f"{_interval(less.mean(axis=0))}, {wins}/{len(less)}")
        rows.append((f"{first} less {second}", *cells))
    columns = ("difference of areas", *(f"{count} probes" for count in PROBES))
    return (
        f"\nMean over splits, 95 % interval of {RESAMPLES:,} paired resamples of groups of prompts,"
        " splits in which the first is better; bold where the interval has the first behind:\n"
        + table(columns, rows)
    )


def _settings(splits: Sequence[Split]) -> str:
    chosen = "; ".join(
        ", ".join(f"{f.name} {getattr(split.settings, f.name):g}" for f in fields(Spectrum))
        for split in splits
    )
    return f"\n\nChosen for CSCR (≤ {TRAINED_ON:,} prompts), split by split: {chosen}.\n"


def _area(held: Found) -> str:
    made = held.resamples
    low, high = np.quantile(made.mean(axis=0)[1:], [0.025, 0.975])
    return f"{made[:, 0].mean():.3f} ({low:.3f} to {high:.3f}; {made[:, 0].std(ddof=1):.3f})"


def _interval(values: FloatArray) -> str:
    """Return the first value with the interval of the rest, bold if all of it is below 0."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    text = f"{values[0]:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"**{text}**" if high < 0.0 else text


if __name__ == "__main__":
    main()
