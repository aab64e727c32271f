"""The soak's rules tell a leak and a growing queue from noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.figures import BENCHMARKS, PAGE, PAGES
from benchmarks.soak_rules import BACKLOG, FLAT, memory_growth, queue_growth

SECONDS = np.arange(0.0, 1_800.0, 5.0)
RNG = np.random.default_rng(3)


def test_memory_that_settles_during_warm_up_is_flat() -> None:
    resident = 300e6 - 100e6 * np.exp(-SECONDS / 60.0) + RNG.normal(0.0, 1e6, len(SECONDS))
    early, late, growth = memory_growth(SECONDS, resident)
    assert early == pytest.approx(300e6, rel=0.02)
    assert late == pytest.approx(300e6, rel=0.02)
    assert growth < FLAT


def test_a_leak_of_a_tenth_in_the_run_is_found() -> None:
    assert memory_growth(SECONDS, 300e6 * (1.0 + 0.1 * SECONDS / 1_800.0))[2] > FLAT


def test_a_queue_that_swings_or_peaks_does_not_grow() -> None:
    length = RNG.poisson(8.0, len(SECONDS)).astype(np.float64)
    length[200:210] = 500.0
    assert queue_growth(SECONDS, length) <= BACKLOG
    assert queue_growth(SECONDS, np.zeros(len(SECONDS))) == 0.0


def test_a_queue_that_gains_two_messages_a_minute_grows() -> None:
    length = RNG.poisson(8.0, len(SECONDS)) + SECONDS / 30.0
    assert queue_growth(SECONDS, length) > BACKLOG


JUDGES = ("judge_replay", "judge_strength", "judge_noise", "judge_canaries", "judge_queue")
LIVE = (
    *("live_newcomers", "live_descriptors", "live_joining", "live_index"),
    *("live_cargo", "live_gap"),
)


@pytest.mark.parametrize(
    ("page", "names"),
    [(PAGE, (*BENCHMARKS, "soak")), (PAGES["judge"], JUDGES), (PAGES["live"], LIVE)],
)
def test_a_page_has_a_place_for_each_benchmark(page: Path, names: tuple[str, ...]) -> None:
    text = page.read_text(encoding="utf-8")
    for name in names:
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1
