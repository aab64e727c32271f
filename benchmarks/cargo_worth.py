"""What CARGO's regressors predict, what a category adds to it, and what is taken for what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet

from benchmarks.cargo_streams import UNKNOWN, Stream
from benchmarks.newcomer_sets import FILES, MMLU, PARETO, Rows
from benchmarks.timing import mean_with_interval, table
from online.categories import NAMES, Categories, fit
from online.category_examples import EXAMPLES
from online.encode import Encoder
from online.regress import RegressorModel, score
from store.records import FloatArray

KNOWN_KINDS = (
    (PARETO, "gsm8k", "mathematics"),
    (MMLU, "math", "mathematics"),
    (PARETO, "mbpp", "coding"),
    (MMLU, "computer science", "coding"),
    (PARETO, "arc_challenge", "reasoning"),
    (PARETO, "mmlu", "reasoning"),
    (MMLU, "law", "reasoning"),
    (MMLU, "history", "reasoning"),
)
"""Source tasks and what the paper's own grouping of sources would call them."""


def worth(drawn: dict[str, list[Stream]], count: int) -> str:
    """Compare the regressor over all, the mixture with the categories' and the experts' means."""
    rows = []
    for name, runs in drawn.items():
        found = np.array([_worth(stream, count) for stream in runs])
        mean, over_all, mixed, best, picked, picked_mixed, half, none = found.mean(axis=0)
        gain = mean_with_interval(found[:, 2] - found[:, 1])
        pick = mean_with_interval(found[:, 4] - found[:, 3])
        rows.append(
            (
                f"`{name}`",
                f"{mean:.4f}",
                f"{over_all:.4f}",
                f"{mixed:.4f}",
                _signed(gain),
                f"{best:.3f}",
                f"{picked:.3f}",
                f"{picked_mixed:.3f}",
                _signed(pick),
                f"{half:.3f}",
                f"{none:.3f}",
            )
        )
    columns = (
        "set",
        "squared error, means",
        "over all",
        "mixed",
        "mixed less over all (95 %)",
        "quality, best single",
        "pick, over all",
        "pick, mixed",
        "over all less single (95 %)",
        "win rate, ties half",
        "ties nothing",
    )
    return (
        f"\nAfter {count:,} judged prompts, on all others; the pick is the highest predicted score,"
        " costs apart; the best single is the best on what was learnt; the win rate is the mean"
        " over experts, own picks as half, ties as said; intervals over orders:\n"
        + table(columns, rows)
    )


def _worth(stream: Stream, count: int) -> list[float]:
    model = stream.learnt(count).frozen()
    seen, quality = stream.quality[:count], stream.quality[count:]
    over_all = _scores(model, stream, count, np.full(len(quality), UNKNOWN))
    mixed = _scores(model, stream, count, stream.categories[count:])
    errors = [float(np.mean((s - quality) ** 2)) for s in (seen.mean(axis=0), over_all, mixed)]
    single = float(quality[:, seen.mean(axis=0).argmax()].mean())
    picked = over_all.argmax(axis=1), mixed.argmax(axis=1)
    made = [float(quality[np.arange(len(quality)), pick].mean()) for pick in picked]
    experts = range(quality.shape[1])
    rates = [
        float(np.mean([win_rate(picked[0], quality, m, tie=tie) for m in experts]))
        for tie in (0.5, 0.0)
    ]
    return [*errors, single, *made, *rates]


def _scores(model: RegressorModel, stream: Stream, count: int, categories: Rows) -> FloatArray:
    return score(model, stream.embeddings[count:], categories)


def win_rate(picked: Rows, quality: FloatArray, expert: int, *, tie: float) -> float:
    """Return how often a router's picks win against one expert (CARGO, algorithms.md 1.5).

    Parameters
    ----------
    picked
        int64[n]: the column picked for each prompt; the expert itself counts half.
    quality
        float64[n, M]
    tie
        What another expert's equal quality counts: 0 in the published code, 0.5 is even-handed.
    """
    theirs, ours = quality[:, expert], quality[np.arange(len(picked)), picked]
    drawn = np.where(ours > theirs, 1.0, np.where(ours == theirs, tie, 0.0))
    return float(np.where(picked == expert, 0.5, drawn).mean())


def kinds(data: Path, encoder: Encoder, categories: Categories) -> str:
    """Count which category the prompts of tasks fall into whose kind is plain from their source."""
    rows: list[tuple[str, ...]] = []
    for name, task, of in KNOWN_KINDS:
        found = categories.of(_vectors(data, name, task))
        shares = np.bincount(found, minlength=len(NAMES)) / len(found)
        rows.append((f"`{name}`, {task}: {of}", f"{len(found):,}", *(f"{s:.2f}" for s in shares)))
    for name, shares in _left_out(encoder).items():
        rows.append((f"examples: {name}", str(len(EXAMPLES[name])), *(f"{s:.2f}" for s in shares)))
    return (
        f"\nCategories by the nearest of five centroids of {sum(map(len, EXAMPLES.values()))} own"
        f" examples, unknown below a cosine of {categories.limit:.3f}; the examples each left out"
        " of their centroids:\n" + table(("task: its kind", "prompts", *NAMES), rows)
    )


def _vectors(data: Path, name: str, task: str) -> FloatArray:
    columns = ["prompt_id", "task"]
    rows = pyarrow.parquet.read_table(data / FILES[name][0], columns=columns).to_pydict()
    of = dict(zip(rows["prompt_id"], rows["task"], strict=True))
    with np.load(data / FILES[name][-1]) as held:
        chosen = [of[str(prompt)] == task for prompt in held["ids"]]
        return np.asarray(held["e"][chosen], dtype=np.float64)


def _left_out(encoder: Encoder) -> dict[str, FloatArray]:
    groups = [encoder.encode(texts) for texts in EXAMPLES.values()]
    shares = {}
    for number, rows in enumerate(groups):
        found = []
        for i in range(len(rows)):
            others = [np.delete(g, i, 0) if g is rows else g for g in groups]
            found.append(int(fit(others).of(rows[[i]])[0]))
        shares[NAMES[number]] = np.bincount(found, minlength=len(NAMES)) / len(found)
    return shares


def _signed(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
