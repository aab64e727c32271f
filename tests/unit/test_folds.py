"""Folds: near-duplicates and sessions never straddle them, and they never change."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.clusters import CLUSTERS, fit_centroids, membership
from online.folds import fold_of, group_of, normalised
from online.scorer import excluded_fold
from store.records import FOLDS, Float32Array

WORDS = [f"word{i}" for i in range(4_000)]


def group(text: str, session: str | None = None, tenant: str = "default") -> str:
    return group_of(text, session, tenant=tenant)


def test_folds_are_fixed_for_ever() -> None:
    """A label stored years ago must never be scored by an entry that learnt from it."""
    known = {"session:s": 0, "text:t": 2, "": 4, "group 17": 1}
    assert {g: fold_of(g) for g in known} == known


def test_folds_are_even() -> None:
    counts = Counter(fold_of(f"group-{n}") for n in range(20_000))
    assert set(counts) == set(range(FOLDS))
    assert all(count == pytest.approx(4_000, abs=230) for count in counts.values())


@given(st.text(), st.text(), st.text())
def test_a_session_is_one_group_whatever_is_asked(one: str, other: str, session: str) -> None:
    assert group(one, session) == group(other, session)


def test_sessions_of_two_tenants_are_two_groups() -> None:
    assert group("?", "1", "a") != group("?", "1", "b")
    assert group("?", "c", "ab") != group("?", "bc", "a")


def test_a_session_and_a_text_are_never_one_group() -> None:
    assert group("abc", "abc").startswith("session:")
    assert group("abc").startswith("text:")


@given(st.text(max_size=300))
def test_any_text_has_a_group_and_the_same_one_each_time(text: str) -> None:
    assert group(text) == group(text)
    assert 0 <= fold_of(group(text)) < FOLDS


@pytest.mark.parametrize("other", ["  what IS  2 + 2?", "What is\n2 + 2?", "What is 2 + 2?"])
def test_case_spaces_and_unicode_forms_do_not_part_duplicates(other: str) -> None:
    assert normalised(other) == "what is 2 + 2?"
    assert group(other) == group("What is 2 + 2?")


def test_near_duplicates_share_a_group_as_often_as_the_one_band_says() -> None:
    """Jaccard .94 to the fourth power is .78; unrelated texts never meet."""
    rng = np.random.default_rng(0)
    shared, unrelated = 0, 0
    for _ in range(300):
        words = rng.choice(WORDS, 100).tolist()
        changed = [*words[:50], "changed", *words[51:]]
        shared += group(" ".join(words)) == group(" ".join(changed))
        unrelated += group(" ".join(words)) == group(" ".join(rng.choice(WORDS, 100).tolist()))
    assert shared / 300 == pytest.approx((95 / 101) ** 4, abs=0.075)
    assert unrelated == 0


def test_each_fold_is_scored_by_the_entry_without_it() -> None:
    assert [excluded_fold(f) for f in range(FOLDS)] == list(range(FOLDS))


@pytest.mark.parametrize("fold", [-1, 5])
def test_there_are_five_folds(fold: int) -> None:
    with pytest.raises(ValueError, match="fold"):
        excluded_fold(fold)


def unit(n: int, seed: int = 0) -> Float32Array:
    drawn = np.random.default_rng(seed).normal(size=(n, 6))
    rows: Float32Array = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return rows


def test_clusters_of_an_entry_never_saw_its_fold_nor_fold_zero() -> None:
    rows, folds = unit(200), [n % FOLDS for n in range(200)]
    fitted = fit_centroids(rows, folds)
    for hidden in range(FOLDS):
        changed = rows.copy()
        where = [n for n, f in enumerate(folds) if f in {0, hidden}]
        changed[where] = unit(len(where), seed=9)
        assert np.array_equal(fit_centroids(changed, folds)[hidden], fitted[hidden])


@pytest.mark.parametrize("distinct", [1, 3])
def test_traffic_of_one_template_still_has_clusters(distinct: int) -> None:
    rows = np.repeat(unit(distinct), 60 // distinct, axis=0)
    fitted = fit_centroids(rows, [n % FOLDS for n in range(60)])
    assert fitted.shape == (FOLDS, CLUSTERS, 6)
    for entry in range(FOLDS):
        weights = membership(rows, fitted[entry])
        assert np.all(np.isfinite(weights))
        assert weights.sum(axis=1) == pytest.approx(np.ones(60))


def test_traffic_of_one_session_still_has_clusters() -> None:
    """Everything in fold 2: entry 2 has nothing to learn from, and says so by zero rows."""
    fitted = fit_centroids(unit(60), [2] * 60)
    assert np.all(fitted[2] == 0.0)
    assert membership(unit(3), fitted[2]) == pytest.approx(np.full((3, CLUSTERS), 1 / CLUSTERS))
    assert np.linalg.norm(fitted[1], axis=1) == pytest.approx(np.ones(CLUSTERS))
