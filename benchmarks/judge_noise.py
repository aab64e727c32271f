"""``python -m benchmarks.judge_noise``: do corrected figures cover the truth of a judge that errs.

Everything is simulated, so the truth is known: a judge that accepts acceptable answers with one
probability and bad ones with another, people who look at some pairs, and the estimates that
``steersman audit report`` prints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.timing import heading, table
from judge.corrected import Sample, human_first, rogan_gladen
from judge.intervals import Estimate, Share, share
from store.records import FloatArray

RUNS = 2_000
JUDGED, AUDITED = 5_000, 400
ELSEWHERE = 0.5
"""Share of acceptable answers in the other traffic that Rogan-Gladen's audit is drawn from."""
ACCEPTED_RATE, REJECTED_RATE = 0.06, 0.24
"""Probabilities of the two-phase audit, by what the judge said."""
LOW, HIGH, UNCORRECTED = 0.935, 0.965, 0.80
NAMES = (
    "judge alone",
    "people first, uniform audit",
    "people first, two-phase audit",
    "Rogan-Gladen, audit of other traffic",
    "upper limit of e1, two-phase audit",
)


@dataclass(frozen=True, slots=True)
class Noise:
    """A population and a judge."""

    acceptable: float
    sensitivity: float
    specificity: float


NOISES = (Noise(0.85, 0.92, 0.75), Noise(0.90, 0.97, 0.50), Noise(0.70, 0.85, 0.85))


def main() -> None:
    """Print the table."""
    print(heading("python -m benchmarks.judge_noise"))
    print(
        f"\n{RUNS:,} runs each: {JUDGED:,} judged pairs, about {AUDITED} of them audited. Share of"
        " runs in which the 95 % interval (for e1 the one-sided 95 % limit, where more is right)"
        f" covers the truth; wanted {100 * LOW:.1f} to {100 * HIGH:.1f} %, without correction under"
        f" {100 * UNCORRECTED:.0f} %:"
    )
    columns = ("acceptable, sensitivity, specificity", *NAMES)
    rows = []
    for noise in NOISES:
        found = coverage(noise, runs=RUNS, rng=np.random.default_rng(7))
        name = f"{noise.acceptable:g}, {noise.sensitivity:g}, {noise.specificity:g}"
        rows.append((name, *(f"{100 * found[name]:.1f} %" for name in NAMES)))
    print(table(columns, rows))


def coverage(noise: Noise, *, runs: int, rng: np.random.Generator) -> dict[str, float]:
    """Return by estimate the share of runs whose interval covers the truth."""
    hits = np.array([_run(noise, rng) for _ in range(runs)], dtype=bool)
    return dict(zip(NAMES, (float(column) for column in hits.mean(axis=0)), strict=True))


def _run(noise: Noise, rng: np.random.Generator) -> tuple[bool, ...]:
    truth, judged = _drawn(noise, noise.acceptable, JUDGED, rng)
    everything = Sample(judged, np.ones(JUDGED))
    uniform = rng.choice(JUDGED, AUDITED, replace=False)
    rate = np.where(judged == 1.0, ACCEPTED_RATE, REJECTED_RATE)
    phased = np.flatnonzero(rng.random(JUDGED) < rate)
    said = share(np.ones(int(judged.sum())), np.ones(int(JUDGED - judged.sum())))
    there = _drawn(noise, ELSEWHERE, AUDITED, rng)
    transported = rogan_gladen(
        said, sensitivity=_rate(*there, of=1.0), specificity=_rate(*there, of=0.0)
    )
    bad = phased[truth[phased] == 0.0]
    accepted = judged[bad] == 1.0
    e1 = share(1.0 / rate[bad][accepted], 1.0 / rate[bad][~accepted])
    return (
        _covers(said, noise.acceptable),
        _covers(_first(truth, judged, uniform, everything), noise.acceptable),
        _covers(_first(truth, judged, phased, everything, 1.0 / rate), noise.acceptable),
        _covers(transported, noise.acceptable),
        e1.at_most >= 1.0 - noise.specificity,
    )


def _drawn(
    noise: Noise, acceptable: float, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return truth and the judge's word, float64[n] of 0 and 1."""
    is_good = rng.random(n) < acceptable
    accepts = rng.random(n) < np.where(is_good, noise.sensitivity, 1.0 - noise.specificity)
    return is_good.astype(np.float64), accepts.astype(np.float64)


def _first(
    truth: FloatArray,
    judged: FloatArray,
    audited: np.ndarray,
    everything: Sample,
    weights: FloatArray | None = None,
) -> Estimate | None:
    known = np.ones(len(audited)) if weights is None else weights[audited]
    return human_first(Sample(truth[audited], known), Sample(judged[audited], known), everything)


def _rate(truth: FloatArray, judged: FloatArray, *, of: float) -> Share:
    among = judged[truth == of]
    right = int((among == of).sum())
    return share(np.ones(right), np.ones(len(among) - right))


def _covers(found: Estimate | None, truth: float) -> bool:
    return found is not None and found.low <= truth <= found.high


if __name__ == "__main__":
    main()
