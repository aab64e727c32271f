"""Cost-spectrum InfoNCE: the loss against formulas written here, and what a trained head finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from online.clusters import unit_rows
from online.cost_spectrum import (
    Descriptor,
    Head,
    Spectrum,
    cost_bands,
    loss,
    place,
    project,
    temperatures,
    train,
)
from online.retrieve import DescriptorIndex
from store.records import FloatArray

Labels = npt.NDArray[np.bool_]
PRINTED, TOLD = 0.5, -0.5
"""The sign of the paper's formula, and of its text."""


def drawn(seed: int, prompts: int = 7, experts: int = 5) -> tuple[FloatArray, Labels, FloatArray]:
    random = np.random.default_rng(seed)
    cosines = random.uniform(-1.0, 1.0, (prompts, experts))
    correct = random.random((prompts, experts)) < 0.5
    correct[0, 0] = True
    return cosines, correct, random.uniform(0.01, 1.0, experts)


def value(cosines: FloatArray, correct: Labels, costs: FloatArray, spectrum: Spectrum) -> float:
    return float(loss(torch.as_tensor(cosines), torch.as_tensor(correct), costs, spectrum))


def slope(
    cosines: FloatArray, correct: Labels, costs: FloatArray, spectrum: Spectrum
) -> FloatArray:
    at = torch.as_tensor(cosines).requires_grad_()
    torch.autograd.backward(loss(at, torch.as_tensor(correct), costs, spectrum))
    assert at.grad is not None
    return at.grad.numpy()


def plain_info_nce(cosines: FloatArray, correct: Labels, tau: float) -> float:
    """Eq. 6, over the prompts that somebody answers right."""
    terms = [
        -np.log(np.exp(row[right] / tau).sum() / np.exp(row / tau).sum())
        for row, right in zip(cosines, correct, strict=True)
        if right.any()
    ]
    return float(np.mean(terms))


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_one_band_without_a_penalty_is_plain_info_nce(seed: int, tau: float) -> None:
    cosines, correct, costs = drawn(seed)
    spectrum = Spectrum(bands=1, gamma_neg=0.0, tau_min=tau, tau_slope=0.0)
    expected = plain_info_nce(cosines, correct, tau)
    assert value(cosines, correct, costs, spectrum) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000), st.floats(-1.0, 1.0), st.integers(1, 6))
def test_the_loss_is_eq_8_and_its_slope_finite(seed: int, gamma: float, bands: int) -> None:
    cosines, correct, costs = drawn(seed)
    spectrum = Spectrum(bands=bands, gamma_neg=gamma)
    of, tau = cost_bands(costs, bands), temperatures(costs, cost_bands(costs, bands), spectrum)
    prompts = []
    for row, right in zip(cosines, correct, strict=True):
        terms = [
            -np.log(
                np.exp(row[right & (of == k)] / tau[k]).sum()
                / np.exp((row - gamma * costs) / tau[k]).sum()
            )
            for k in sorted(set(of[right]))
        ]
        prompts += [np.mean(terms)] if terms else []
    found = value(cosines, correct, costs, spectrum)
    assert found == pytest.approx(np.mean(prompts), rel=1e-9, abs=1e-9)
    assert np.all(np.isfinite(slope(cosines, correct, costs, spectrum)))


def test_bands_without_a_right_expert_are_left_out() -> None:
    costs = np.array([0.1, 0.2, 0.9, 1.0])
    spectrum = Spectrum(bands=2, gamma_neg=0.0, tau_min=1.0, tau_slope=0.0)
    cosines = np.zeros((2, 4))
    only_cheap = np.array([[True, False, False, False], [False] * 4])
    assert value(cosines, only_cheap, costs, spectrum) == pytest.approx(np.log(4.0))
    both = np.array([[True, True, True, False], [False] * 4])
    assert value(cosines, both, costs, spectrum) == pytest.approx((np.log(2.0) + np.log(4.0)) / 2)


def test_where_nobody_is_right_there_is_nothing_to_learn() -> None:
    cosines, correct, costs = drawn(1)
    nobody = np.zeros_like(correct)
    assert value(cosines, nobody, costs, Spectrum()) == 0.0
    assert np.all(slope(cosines, nobody, costs, Spectrum()) == 0.0)


def test_the_sign_of_the_penalty_says_which_wrong_expert_is_pushed_away() -> None:
    costs, correct = np.array([0.1, 0.1, 1.0]), np.array([[True, False, False]])
    for gamma, pushed in ((PRINTED, 1), (TOLD, 2)):
        found = slope(np.zeros((1, 3)), correct, costs, Spectrum(bands=1, gamma_neg=gamma))
        assert np.argmax(found[0]) == pushed


def test_bands_are_percentiles_and_ties_share_one() -> None:
    assert cost_bands(np.array([4.0, 1.0, 3.0, 2.0]), 2).tolist() == [1, 0, 1, 0]
    assert cost_bands(np.arange(1.0, 11.0), 5).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert cost_bands(np.array([0.2, 0.2, 0.2, 0.2, 0.9]), 5).tolist() == [2, 2, 2, 2, 4]
    assert cost_bands(np.array([0.1, 0.9, 0.9, 0.9]), 3).tolist() == [0, 1, 1, 1]
    assert len(set(cost_bands(np.full(3, 0.5), 5).tolist())) == 1
    assert cost_bands(np.array([0.5, 0.1]), 1).tolist() == [0, 0]


def test_a_dearer_band_is_warmer_and_an_empty_one_has_no_temperature() -> None:
    costs = np.array([0.1, 0.1, 0.1, 1.0])
    found = temperatures(costs, cost_bands(costs, 3), Spectrum(bands=3))
    assert found[~np.isnan(found)].tolist() == pytest.approx([0.075, 0.3])
    assert np.isnan(found).sum() == 1


def two_trades(prompts: int = 300) -> tuple[FloatArray, Labels, FloatArray]:
    """Two kinds of prompts; of four experts 0 and 2 can do the first kind, 1 and 3 the second."""
    random = np.random.default_rng(3)
    kind = np.arange(prompts) % 2
    centres = random.normal(size=(2, 16))
    embeddings = unit_rows(centres[kind] + 0.3 * random.normal(size=(prompts, 16)))
    correct = np.stack([kind == 0, kind == 1, kind == 0, kind == 1], axis=1)
    return embeddings, correct, np.array([0.1, 0.2, 0.9, 1.0])


def described(rows: FloatArray, kind: str = "profile") -> list[Descriptor]:
    return [Descriptor(kind, row) for row in rows]


PROFILES = described(unit_rows(np.array([[1, 0.1, 0], [0, 1, 0.1], [1, 0, 0.3], [0, 1, 0.5]])))


def trained(experts: Sequence[Descriptor] = PROFILES, gamma: float = PRINTED) -> Head:
    embeddings, correct, costs = two_trades()
    return train(
        embeddings, correct, costs, experts, Spectrum(bands=2, gamma_neg=gamma, epochs=150), seed=1
    )


@pytest.mark.parametrize("gamma", [PRINTED, 0.0, TOLD])
def test_a_trained_head_sends_prompts_to_experts_that_can_do_them(gamma: float) -> None:
    embeddings, correct, _ = two_trades()
    head = trained(gamma=gamma)
    nearest = np.argmax(project(embeddings, head) @ place(PROFILES, head).T, axis=1)
    assert correct[np.arange(len(nearest)), nearest].mean() > 0.95


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_index_serves_a_trained_head_from_the_nearest_to_the_cheapest(
    seed: int, k: int
) -> None:
    head = HEAD
    costs = np.random.default_rng(seed).uniform(0.01, 1.0, 4)
    placed, queries = place(PROFILES, head), project(two_trades()[0][seed % 200 :][:9], head)
    index = DescriptorIndex.build(placed, costs, routable=np.ones(4, dtype=bool))
    cosines = (queries @ placed.T).astype(np.float32)
    for query, near, cheap in zip(
        cosines,
        index.search(queries, cost_weight=0.0, k=k),
        index.search(queries, cost_weight=1e9, k=k),
        strict=True,
    ):
        assert query[near].tolist() == pytest.approx(np.sort(query)[::-1][:k].tolist(), abs=1e-5)
        assert cheap == np.argsort(costs)[:k].tolist()


def test_training_repeats_itself_bit_for_bit_and_leaves_threads_alone() -> None:
    threads = torch.get_num_threads()
    one, again = trained(), trained()
    assert np.array_equal(one.first, again.first)
    assert np.array_equal(one.second, again.second)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("cost", [0.0, -0.1, float("nan"), float("inf")])
def test_an_expert_without_a_positive_cost_is_rejected(cost: float) -> None:
    embeddings, correct, costs = two_trades(8)
    costs[1] = cost
    with pytest.raises(ValueError, match="cost"):
        train(embeddings, correct, costs, PROFILES, Spectrum(), seed=1)
    with pytest.raises(ValueError, match="cost"):
        train(embeddings, correct, np.ones(3), PROFILES, Spectrum(), seed=1)


def test_labels_of_another_shape_are_rejected() -> None:
    embeddings, correct, costs = two_trades(8)
    with pytest.raises(ValueError, match="one label for each"):
        train(embeddings, correct[:, :3], costs, PROFILES, Spectrum(), seed=1)


FOOTPRINTS = described(np.random.default_rng(2).normal(size=(2, 8)), "footprint")
MIXED = [*PROFILES[:2], *FOOTPRINTS]


def test_types_of_one_dimension_need_no_map() -> None:
    experts = [*PROFILES[:2], *(Descriptor("fingerprint", d.values) for d in PROFILES[2:])]
    head = trained(experts)
    assert np.allclose(place(experts, head), [d.values for d in experts])


def test_types_of_different_dimensions_meet_on_one_sphere() -> None:
    head = trained(MIXED)
    placed = place(MIXED, head)
    assert placed.shape == (4, 3)
    assert np.allclose(np.linalg.norm(placed, axis=1), 1.0)
    embeddings, correct, _ = two_trades()
    nearest = np.argmax(project(embeddings, head) @ placed.T, axis=1)
    assert correct[np.arange(len(nearest)), nearest].mean() > 0.95


@pytest.mark.parametrize("like", [0, 1, 2, 3])
def test_a_newcomer_of_a_known_type_joins_without_training(like: int) -> None:
    head = trained(MIXED)
    old = MIXED[like]
    noise = 0.02 * np.random.default_rng(like).normal(size=old.values.shape)
    (point,) = place([Descriptor(old.kind, old.values + noise)], head)
    others = np.arange(4) % 2 != like % 2
    index = DescriptorIndex.build(place(MIXED, head), np.ones(4), routable=others)
    grown = index.inserted(4, point, 1.0)
    embeddings, correct, _ = two_trades()
    found = grown.search(project(embeddings, head), cost_weight=0.0, k=1)
    served = np.array([row[0] == 4 for row in found])
    assert served[correct[:, like]].mean() > 0.95
    assert served[~correct[:, like]].mean() < 0.05


def test_a_descriptor_that_does_not_fit_is_rejected() -> None:
    head = HEAD
    with pytest.raises(ValueError, match="no map for footprint: trained on profile"):
        place(FOOTPRINTS, head)
    with pytest.raises(ValueError, match="a profile has 3 dimensions, got 4"):
        place([Descriptor("profile", np.ones(4))], head)
    embeddings, correct, costs = two_trades(8)
    odd = [*PROFILES[:3], Descriptor("profile", np.ones(4))]
    with pytest.raises(ValueError, match="a profile has 3 dimensions, got 4 too"):
        train(embeddings, correct, costs, odd, Spectrum(), seed=1)


HEAD = trained()
