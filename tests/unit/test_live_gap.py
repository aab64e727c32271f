"""The measure of the gap confidence."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gap_tables import BINS, bins, calibration_error, floor


def test_the_error_is_the_mean_distance_over_bins_of_as_many_prompts() -> None:
    said = np.repeat([0.2, 0.8], 50)
    holds = np.zeros(100)
    holds[50:] = np.tile([1.0, 0.0], 25)
    assert [len(b) for b in bins(said)] == [100 // BINS] * BINS
    # .2 where nothing came in one half, .3 too much in the other.
    assert calibration_error(said, holds) == pytest.approx(0.5 * 0.2 + 0.5 * 0.3)


def test_what_came_as_often_as_said_is_no_error_but_for_chance() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(4_000)
    came = (rng.random(4_000) < said).astype(np.float64)
    expected = floor(said, rng)
    assert 0.0 < expected < 0.03
    assert calibration_error(said, came) < 2.0 * expected
    assert calibration_error(1.0 - said, came) > 10.0 * expected
