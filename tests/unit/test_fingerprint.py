"""Fingerprints and profiles: the formula, what is missing, and what has no direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from online import fingerprint as fingerprints
from online.descriptors import profile, stacked, unit
from online.fingerprint import LONGEST, fingerprint, fingerprint_of
from store.records import FloatArray


class Letters:
    """A scorer to which each letter is a token that costs its place in the alphabet."""

    def log_losses(self, texts: Sequence[str], *, at_most: int) -> list[FloatArray]:
        return [np.array([float(ord(c) - ord("a")) for c in t[:at_most]]) for t in texts]


def test_coordinates_are_standardised_mean_losses() -> None:
    found = fingerprint(["a", "bd", "g", "aj"], Letters(), batch=3)
    losses = np.array([0.0, 2.0, 6.0, 4.5])
    standard = (losses - losses.mean()) / losses.std()
    np.testing.assert_allclose(found, standard / np.linalg.norm(standard), atol=1e-12)


@given(arrays.arrays(np.float64, 12, elements=st.floats(0.0, 20.0)))
def test_it_is_of_unit_length_and_mean_zero_or_refused(losses: FloatArray) -> None:
    if losses.std() < 1e-6:
        with pytest.raises(ValueError, match="read the same"):
            fingerprint_of(losses)
        return
    found = fingerprint_of(losses)
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-9)
    assert found.mean() == pytest.approx(0.0, abs=1e-9)


def test_an_empty_answer_says_nothing() -> None:
    with_gaps = fingerprint(["a", "", "g", None], Letters())
    assert with_gaps[1] == with_gaps[3] == 0.0
    whole = fingerprint(["a", "g"], Letters())
    np.testing.assert_allclose(with_gaps[[0, 2]], whole)


def test_half_of_the_answers_are_needed() -> None:
    with pytest.raises(ValueError, match="2 of 5 probes have an answer"):
        fingerprint(["a", "", "g", None, ""], Letters())
    with pytest.raises(ValueError, match="0 of 0"):
        fingerprint([], Letters())


def test_of_a_long_answer_only_the_begin_is_read() -> None:
    short = fingerprint(["b" * LONGEST, "g"], Letters())
    assert np.array_equal(short, fingerprint(["b" * LONGEST + "z" * 900, "g"], Letters()))


def test_an_expert_that_always_says_the_same_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="read the same"):
        fingerprint(["no"] * 8, Letters())


def test_progress_is_told_after_every_pass() -> None:
    told: list[int] = []
    fingerprint(list("abcdefghij"), Letters(), batch=4, progress=told.append)
    assert told == [4, 8, 10]


def test_the_name_changes_with_probes_and_scorer() -> None:
    names = {fingerprints.identity(p, s) for p in (["x"], ["y"]) for s in ("one", "two")}
    assert len(names) == 4


def test_a_profile_is_quality_by_cluster_shrunk_to_the_mean() -> None:
    outcomes = np.array([1.0, 1.0, 0.0, np.nan])
    membership = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    mean = 2.0 / 3.0
    rates = np.array([(2.0 + mean) / 3.0, mean / 2.0])
    np.testing.assert_allclose(
        profile(outcomes, membership, prior=1.0), rates / np.linalg.norm(rates)
    )


@pytest.mark.parametrize(
    ("outcomes", "problem"),
    [([np.nan, np.nan], "at least one label"), ([0.0, 0.0], "not all zero"), ([1.0], "as many")],
)
def test_a_profile_of_nothing_is_refused(outcomes: list[float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        profile(np.array(outcomes), np.eye(2))


def test_descriptors_of_a_pool_have_one_dimension() -> None:
    rows = stacked([np.array([3.0, 4.0]), np.array([0.0, 2.0])])
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 1.0]])
    with pytest.raises(ValueError, match="one dimension"):
        stacked([np.ones(2), np.ones(3)])


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_only_a_finite_direction_is_a_descriptor(values: list[float]) -> None:
    with pytest.raises(ValueError, match="a descriptor needs"):
        unit(np.array(values), dimension=2)
