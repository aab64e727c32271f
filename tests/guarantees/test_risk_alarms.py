"""Alarms about risk by Monte Carlo: how seldom they are false, and how soon they come."""

from __future__ import annotations

import numpy as np
import pytest

from recalibrate.drift import (
    FROZEN_THRESHOLD,
    RISK_TOLERANCE,
    SERVED_THRESHOLD,
    evidence,
    evidence_of_excess,
)
from store.records import FloatArray

pytestmark = pytest.mark.slow

ALPHA = 0.10
BEFORE = 500
"""Labels at a risk that holds, before the change."""


def losses(rng: np.random.Generator, risk: float, *shape: int) -> FloatArray:
    return (rng.random(shape) < risk).astype(np.float64)


def first_above(path: FloatArray, level: float) -> FloatArray:
    """Return float64[runs]: labels until the process gets there, the path's length if it never
    does.
    """
    above = path >= level
    found = np.where(above.any(axis=1), above.argmax(axis=1) + 1.0, path.shape[1])
    return np.asarray(found, dtype=np.float64)


def run_length(null: float, level: float) -> tuple[float, float]:
    """Return the mean labels until an alarm, cut off at ten times the level, and three errors."""
    found = first_above(
        evidence(losses(np.random.default_rng(1), ALPHA + RISK_TOLERANCE, 400, 10_000), level=null),
        level,
    )
    return float(found.mean()), 3.0 * float(found.std() / np.sqrt(len(found)))


def test_at_the_edge_of_the_null_false_alarms_are_as_rare_as_said() -> None:
    """At a smaller A than the shipped one, for it takes A labels to see one."""
    mean, error = run_length(ALPHA + RISK_TOLERANCE, 1_000.0)
    assert mean >= 1_000.0 - error


def test_a_process_against_the_target_itself_alarms_too_often() -> None:
    """The negative control: no tolerance, at a risk within the tolerance."""
    mean, error = run_length(ALPHA, 1_000.0)
    assert mean < 1_000.0 - error


@pytest.mark.parametrize(("risk", "most"), [(0.225, 120), (0.20, 180), (0.16, 500)])
def test_half_of_the_alarms_come_within_so_many_labels(risk: float, most: int) -> None:
    """At the A of a frozen λ, after a time without fault."""
    assert np.median(delays(risk)) <= most


def test_a_risk_within_the_tolerance_is_no_alarm() -> None:
    """But for the rate that is allowed, over runs of 1,500 labels."""
    assert np.mean(delays(ALPHA + RISK_TOLERANCE) < 1_000) <= 1_500 / FROZEN_THRESHOLD


def test_both_processes_together_use_half_of_one_alarm_in_5_000_labels() -> None:
    assert pytest.approx(0.5 / 5_000) == 1.0 / FROZEN_THRESHOLD + 1.0 / SERVED_THRESHOLD


def delays(risk: float) -> FloatArray:
    """Return float64[1000]: labels from the change to the alarm; 1,000 where none came."""
    rng = np.random.default_rng(2)
    path = evidence_of_excess(
        np.concatenate(
            [losses(rng, 0.8 * ALPHA, 1_000, BEFORE), losses(rng, risk, 1_000, 1_000)], axis=1
        ),
        alpha=ALPHA,
    )
    return first_above(path[:, BEFORE:], FROZEN_THRESHOLD)
