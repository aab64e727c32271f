"""What benchmarks say of a few runs."""

from __future__ import annotations

import numpy as np

from benchmarks.timing import mean_with_interval


def test_the_interval_of_a_few_runs_holds_the_truth_as_often_as_it_says() -> None:
    runs = np.random.default_rng(1).normal(size=(2_000, 6))
    intervals = [mean_with_interval(row) for row in runs]
    assert all(low < mean < high for mean, low, high in intervals)
    assert 0.935 < np.mean([low < 0.0 < high for _, low, high in intervals]) < 0.965
