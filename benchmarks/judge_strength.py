"""``python -m benchmarks.judge_strength --data DIR``: strengths from verdicts of real judges.

Reads ``h2oeval_*`` and ``alpacaeval_*`` (Parquet; not part of this repository): 45 prompts on which
12 models all met each other, and AlpacaEval's verdicts of five judges on models against a baseline.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
from scipy.stats import spearmanr  # type: ignore[import-untyped]  # ships no stubs

from benchmarks.given import recorded_in
from benchmarks.timing import table, verdict
from judge.intervals import Estimate, mean_by_group
from judge.strength import Comparisons, Strengths, strengths
from store.records import ExpertId

FILES = ("h2oeval_pairs", "h2oeval_responses", "alpacaeval_pairs", "alpacaeval_responses")
SUBSETS = 100
KEPT = (0.3, 0.7)
RECOVERED = COVERED = 0.95
WEIGHTED = "gpt4_turbo_weighted"
CONCISE, VERBOSE = "_concise", "_verbose"
SEED = 11


@dataclass(frozen=True, slots=True)
class Judged:
    """One recorded verdict."""

    judge: str
    prompt: str
    first: ExpertId
    second: ExpertId
    preference: float
    longer_by: int
    """Characters by which the first answer is longer."""


def main() -> None:
    """Print the tables, or why there are none."""
    data = recorded_in("judge_strength", __doc__, (f"{name}.parquet" for name in FILES))
    if data is None:
        return
    met, anchored = read(data, "h2oeval"), read(data, "alpacaeval")
    print(incomplete(met))
    print(length_control([one for one in anchored if one.judge == WEIGHTED]))
    print(agreement(anchored))
    print(longest([*anchored, *met]))


def read(data: Path, name: str) -> list[Judged]:
    """Return a set's verdicts with the lengths of the answers that they compare."""
    sizes = {
        (row["prompt_id"], row["model"]): len(row["response"] or "")
        for row in pyarrow.parquet.read_table(
            data / f"{name}_responses.parquet", columns=["prompt_id", "model", "response"]
        ).to_pylist()
    }
    columns = ["judge", "prompt_id", "model_a", "model_b", "preference"]
    rows = pyarrow.parquet.read_table(data / f"{name}_pairs.parquet", columns=columns).to_pylist()
    return [
        Judged(
            judge=row["judge"],
            prompt=row["prompt_id"],
            first=ExpertId(row["model_a"]),
            second=ExpertId(row["model_b"]),
            preference=row["preference"],
            longer_by=sizes[row["prompt_id"], row["model_a"]]
            - sizes[row["prompt_id"], row["model_b"]],
        )
        for row in rows
    ]


def incomplete(judged: Sequence[Judged]) -> str:
    """Fit random subsets of the verdicts and compare with the fit of all."""
    whole = _comparisons(judged, with_lengths=False)
    full = _fitted(whole)
    rows = []
    for kept in KEPT:
        rng = np.random.default_rng(SEED)
        found = [_against(full, _subset(whole, kept, rng)) for _ in range(SUBSETS)]
        rank, covered = np.array(found).T
        rows.append(
            (
                f"{100 * kept:.0f} %",
                f"{rank.mean():.3f}",
                f"{rank.min():.3f}",
                verdict(float(rank.mean()), RECOVERED, at_least=True),
                f"{100 * covered.mean():.1f} %",
                verdict(float(covered.mean()), COVERED, at_least=True),
            )
        )
    columns = ("verdicts kept", "Spearman, mean", "least", "target 0.95")
    return (
        f"\nBradley-Terry on {SUBSETS} random subsets of {len(judged):,} verdicts (12 models, 45"
        " prompts, gpt-4-0613) against the fit of all:\n"
        + table((*columns, "strengths of all inside the 95 % intervals", "target 95 %"), rows)
    )


def length_control(judged: Sequence[Judged]) -> str:
    """Compare variants of a model that were told to be concise or verbose."""
    (base,) = {one.second for one in judged}
    plain = _fitted(_comparisons(judged, with_lengths=False))
    level = _fitted(_comparisons(judged, with_lengths=True))
    names = {one.first for one in judged}
    models = sorted(n.removesuffix(VERBOSE) for n in names if n.endswith(VERBOSE))
    rows = []
    for model in models:
        short, long = ExpertId(model + CONCISE), ExpertId(model + VERBOSE)
        cells = [_gap(fit, long, short) for fit in (plain, level)]
        wins = [
            f"{100 * fit.against(n, base).value:.1f} %"
            for fit in (plain, level)
            for n in (short, long)
        ]
        shrinks = "yes" if abs(cells[1].value) < abs(cells[0].value) else "**no**"
        rows.append((model, *wins[:2], _figure(cells[0]), *wins[2:], _figure(cells[1]), shrinks))
    effect = level.length_effect
    columns = (
        *("model", "concise wins", "verbose wins", "gap, log-odds (95 %)"),
        *("concise, equal length", "verbose, equal length", "gap, equal length", "shrinks"),
    )
    return (
        f"\nLength control on {len(judged):,} verdicts of {WEIGHTED} on {len(names)} models against"
        f" {base}; length effect {_figure(effect) if effect else '?'} log-odds:\n"
        + table(columns, rows)
    )


def agreement(judged: Sequence[Judged]) -> str:
    """Say how often two judges prefer the same of two answers."""
    said: dict[str, dict[tuple[str, str, str], float]] = {}
    for one in judged:
        said.setdefault(one.judge, {})[one.prompt, one.first, one.second] = one.preference
    rows = []
    for a, b in itertools.combinations(sorted(said), 2):
        both = [
            pair
            for pair in said[a].keys() & said[b].keys()
            if 0.5 not in (said[a][pair], said[b][pair])
        ]
        if both:
            same = np.array([float((said[a][p] > 0.5) == (said[b][p] > 0.5)) for p in sorted(both)])
            found = mean_by_group(same, [p[0] for p in sorted(both)])
            rows.append((f"{a}, {b}", f"{len(both):,}", _percent(found)))
    columns = ("judges", "pairs, ties left out", "same preference (95 %, by prompt)")
    return "\nAgreement of judges on the same two answers:\n" + table(columns, rows)


def longest(judged: Sequence[Judged]) -> str:
    """Say how often "the longer answer is better" agrees with each judge."""
    rows = []
    for judge in sorted({one.judge for one in judged}):
        theirs = [x for x in judged if x.judge == judge and x.preference != 0.5 and x.longer_by]
        same = np.array([float((x.preference > 0.5) == (x.longer_by > 0)) for x in theirs])
        found = mean_by_group(same, [x.prompt for x in theirs])
        rows.append((judge, f"{len(theirs):,}", _percent(found)))
    columns = ("judge", "pairs", "agrees with the longer answer (95 %, by prompt)")
    return "\nThe baseline that prefers the longer answer:\n" + table(columns, rows)


def _comparisons(judged: Sequence[Judged], *, with_lengths: bool) -> Comparisons:
    experts = tuple(sorted({name for one in judged for name in (one.first, one.second)}))
    at = {name: i for i, name in enumerate(experts)}
    _, prompts = np.unique([one.prompt for one in judged], return_inverse=True)
    lengths = np.array([float(one.longer_by) for one in judged])
    return Comparisons(
        experts=experts,
        first=np.array([at[one.first] for one in judged]),
        second=np.array([at[one.second] for one in judged]),
        preference=np.array([one.preference for one in judged]),
        weight=np.ones(len(judged)),
        prompt=prompts,
        longer_by=lengths if with_lengths else None,
    )


def _subset(whole: Comparisons, kept: float, rng: np.random.Generator) -> Comparisons:
    chosen = rng.random(len(whole.first)) < kept
    return replace(
        whole,
        first=whole.first[chosen],
        second=whole.second[chosen],
        preference=whole.preference[chosen],
        weight=whole.weight[chosen],
        prompt=whole.prompt[chosen],
    )


def _fitted(pairs: Comparisons) -> Strengths:
    found = strengths(pairs, rng=np.random.default_rng(SEED))
    if found is None:
        raise ValueError("the verdicts do not connect all models")
    return found


def _against(full: Strengths, subset: Comparisons) -> tuple[float, float]:
    """Return the rank correlation with the full fit, and the share of its strengths covered."""
    part = _fitted(subset)
    rank = float(spearmanr(full.values, part.values).statistic)
    inside = [
        (one := part.strength(name)).low <= value <= one.high
        for name, value in zip(full.experts, full.values.tolist(), strict=True)
    ]
    return rank, float(np.mean(inside))


def _gap(fit: Strengths, long: ExpertId, short: ExpertId) -> Estimate:
    """Return by how much the verbose variant is stronger."""
    at, to = fit.experts.index(long), fit.experts.index(short)
    low, high = np.quantile(fit.resampled[:, at] - fit.resampled[:, to], [0.025, 0.975])
    value = float(fit.values[at] - fit.values[to])
    return Estimate(value=value, low=float(low), high=float(high))


def _figure(found: Estimate) -> str:
    return f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _percent(found: Estimate | None) -> str:
    if found is None:
        return ""
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


if __name__ == "__main__":
    main()
