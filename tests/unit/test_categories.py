"""Categories by the nearest centroid of our examples; what is near none of them is unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.categories import LEFT_OUT, NAMES, UNKNOWN, Categories, fit, from_examples, left_out
from online.category_examples import EXAMPLES
from store.records import Float32Array

D = 24


class Topical:
    """Vectors near an axis of the category that the example is of."""

    identity = "topical-0123"
    dimension = D

    def encode(self, texts: Sequence[str]) -> Float32Array:
        axes = [next(i for i, of in enumerate(EXAMPLES.values()) if t in of) for t in texts]
        return around(axes, seed=len(texts[0]))


def around(axes: Sequence[int], *, seed: int, noise: float = 0.15) -> Float32Array:
    rows = np.eye(D)[axes] + noise * np.random.default_rng(seed).normal(size=(len(axes), D))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_the_five_of_the_paper_and_the_unknown() -> None:
    assert NAMES == (
        "mathematics",
        "coding",
        "reasoning",
        "summarisation",
        "creative writing",
        UNKNOWN,
    )


def test_no_example_is_in_two_categories() -> None:
    texts = [text for of in EXAMPLES.values() for text in of]
    assert len(set(texts)) == len(texts)
    assert {len(of) for of in EXAMPLES.values()} == {16}


def test_a_prompt_like_the_examples_of_a_category_is_of_it() -> None:
    found = from_examples(Topical())
    axes = [0, 1, 2, 3, 4] * 20
    np.testing.assert_array_equal(found.of(around(axes, seed=5, noise=0.08)), axes)


def test_a_prompt_like_none_of_them_is_unknown() -> None:
    found = from_examples(Topical())
    (unknown,) = {*found.of(around([*range(5, D)], seed=5, noise=0.05)).tolist()}
    assert NAMES[unknown] == UNKNOWN


@given(st.integers(0, 2**32 - 1))
def test_the_limit_leaves_out_its_share_of_the_examples(seed: int) -> None:
    groups = [around([axis] * 16, seed=seed + axis, noise=0.5) for axis in range(5)]
    found = fit(groups)
    cosines = np.concatenate([left_out(rows) for rows in groups])
    assert (cosines < found.limit).mean() == pytest.approx(LEFT_OUT, abs=1 / 80)


def test_an_example_does_not_vouch_for_itself() -> None:
    """Of two opposite examples each has its centroid against it, though their own sum is neither's
    enemy: cosines to a centroid that holds the example would be flattering.
    """
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(left_out(rows), [-1.0, -1.0])


def test_the_cosine_at_the_limit_is_near_enough() -> None:
    found = Categories(np.eye(2, 3, dtype=np.float32), 0.5)
    rows = np.array([[0.5, 0.0, 0.866], [0.499, 0.0, 0.867], [0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(found.of(rows), [0, 2, 1])


def test_one_example_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two examples"):
        fit([around([0], seed=1), around([1, 1], seed=1)])
