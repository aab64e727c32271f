"""Corrected figures cover the truth when the judge errs; the judge's own do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.judge_noise import HIGH, LOW, NAMES, NOISES, UNCORRECTED, Noise, coverage

RUNS = 500
SLACK = 3.0 * math.sqrt(0.05 * 0.95 / RUNS)
"""Three standard errors; ``benchmarks/judge_noise.py`` takes the 2,000 runs of the figure."""


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_intervals_cover_the_truth_in_spite_of_the_judge(noise: Noise) -> None:
    found = coverage(noise, runs=RUNS, rng=np.random.default_rng(7))
    alone, *corrected, e1 = (found[name] for name in NAMES)
    assert alone < UNCORRECTED
    assert all(LOW - SLACK <= covered <= HIGH + SLACK for covered in corrected), found
    assert e1 >= 0.95 - SLACK


@pytest.mark.slow
def test_a_judge_without_errors_needs_no_correction() -> None:
    """The negative control's own control: what fails above fails because of the noise."""
    found = coverage(Noise(0.85, 1.0, 1.0), runs=RUNS, rng=np.random.default_rng(7))
    assert found["judge alone"] >= LOW - SLACK
