"""The benchmark of unseen experts: nothing it is judged on has been learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.newcomer_methods import METHODS
from benchmarks.newcomer_sets import SHARES, TEST, TRAIN, VALIDATION, Recorded, near_duplicates
from benchmarks.newcomer_sets import parts as parts_of
from benchmarks.newcomer_split import PROBES, Split, clustered, drawn
from online.clusters import unit_rows

PROMPTS, EXPERTS = 500, 9


def recorded() -> Recorded:
    """Two kinds of prompts; the dearer half of the experts is good at the second kind too."""
    random = np.random.default_rng(4)
    kind = np.arange(PROMPTS) % 2
    able = np.array([0.6] * 4 + [0.9] * 5)
    chance = np.where(kind[:, None] == 0, 0.9, able - 0.5 * (np.arange(EXPERTS) < 4))
    groups = np.arange(PROMPTS) // 2
    return Recorded(
        name="made",
        embeddings=unit_rows(
            random.normal(size=(2, 12))[kind] + 0.3 * random.normal(size=(PROMPTS, 12))
        ).astype(np.float32),
        experts=tuple(f"expert-{i}" for i in range(EXPERTS)),
        quality=(random.random((PROMPTS, EXPERTS)) < chance).astype(float),
        cost=np.tile(np.linspace(0.1, 1.0, EXPERTS), (PROMPTS, 1)),
        expected=np.linspace(0.1, 1.0, EXPERTS),
        groups=groups,
        folds=groups % 5,
        part=parts_of(groups),
    )


@pytest.fixture(scope="module")
def split() -> Split:
    data = recorded()
    return drawn(data, clustered(data), seed=1)


def test_near_duplicates_are_one_group_and_stay_in_one_part() -> None:
    words = [f"word{i}" for i in range(60)]
    texts = [" ".join(words), "another question", " ".join(words).upper() + " please", "a third"]
    groups = near_duplicates(texts)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3
    many = np.repeat(np.arange(200), 3)
    part = parts_of(many).reshape(200, 3)
    assert np.all(part == part[:, :1])
    assert np.bincount(part[:, 0]) / 200 == pytest.approx(np.array(SHARES), abs=0.01)


def test_seen_and_unseen_share_no_expert_and_probes_are_training_prompts(split: Split) -> None:
    assert sorted([*split.seen, *split.unseen]) == list(range(EXPERTS))
    assert len(split.seen) == 6
    assert len(set(split.probes.tolist())) == PROBES[-1]
    assert set(split.probes.tolist()) <= set(split.data.rows(TRAIN).tolist())
    assert set(split.trained_on.tolist()) <= set(split.data.rows(TRAIN).tolist())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "oracle"])
def test_no_method_looks_at_what_it_is_judged_on(split: Split, name: str) -> None:
    data, rows = split.data, split.data.rows(TEST)
    hidden = data.quality.copy()
    hidden[rows] = 1.0 - hidden[rows]
    others = np.setdiff1d(data.rows(TRAIN), split.probes[:16])
    unprobed = np.concatenate([others, data.rows(VALIDATION)])
    hidden[np.ix_(unprobed, split.unseen)] = 1.0 - hidden[np.ix_(unprobed, split.unseen)]
    blind = drawn(
        Recorded(**{f: getattr(data, f) for f in Recorded.__slots__} | {"quality": hidden}),
        split.maps,
        seed=1,
    )
    one, other = (METHODS[name](s, split.unseen, rows, 16) for s in (split, blind))
    assert np.array_equal(one, other)
    assert np.all(np.isfinite(one))


def test_without_probes_the_routers_path_knows_nothing_and_cscr_the_price(split: Split) -> None:
    rows = split.data.rows(TEST)
    assert np.all(METHODS["the router's own path"](split, split.unseen, rows, 0) == 0.0)
    assert np.ptp(METHODS["CSCR"](split, split.unseen, rows, 0), axis=1).max() > 0.0
