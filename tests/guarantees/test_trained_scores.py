"""No label calibrates a score that it trained (promise.md section 1), and what happens if one does.

Synthetic prompts in 24 dimensions with 300 labels: few enough that a fit remembers them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from online.chance import jitter
from online.clusters import fit_centroids
from online.learn import JudgedRequest, LearnSettings, OnlineLearner
from online.route import jittered
from online.scorer import ScorerModel, excluded_fold, score
from recalibrate.crc import Feasible, crc_threshold
from recalibrate.losses import worst_in_set
from recalibrate.window import calibration_window, rescore
from store.policy import PolicySettings
from store.records import FOLDS, SAFE, ExpertId, Float32Array, FloatArray, RequestId
from tests.factories import sampled

pytestmark = pytest.mark.slow

ALPHA = 0.10
DIMENSION = 24
LABELS = 300
FRESH = 2_000
REFERENCE, CHEAP = ExpertId("reference"), ExpertId("cheap")
Fit = Callable[[Float32Array, FloatArray], Callable[[Float32Array], FloatArray]]


def prompts(rng: np.random.Generator, n: int) -> Float32Array:
    drawn = rng.normal(size=(n, DIMENSION))
    drawn[np.arange(n), rng.integers(0, 6, n)] += 4.0
    unit: Float32Array = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def acceptable(rng: np.random.Generator, x: Float32Array) -> FloatArray:
    """Three of six clusters are easy; the rest is noise that a fit can only remember."""
    level = 0.55 + 0.5 * (x[:, 0] + x[:, 1] + x[:, 2])
    return (rng.random(len(x)) < level).astype(np.float64)


def ridge(x: Float32Array, y: FloatArray) -> Callable[[Float32Array], FloatArray]:
    gram = x.T.astype(np.float64) @ x + 0.1 * np.eye(DIMENSION)
    weights = np.linalg.solve(gram, x.T @ (y - y.mean()))
    return lambda asked: np.asarray(asked @ weights + y.mean())


def table(x: Float32Array, y: FloatArray) -> Callable[[Float32Array], FloatArray]:
    """The shipped kind of table, with 64 clusters: nearest prompt of 64, its neighbours' mean."""
    centres = x[:64]
    nearest = np.argmax(x @ centres.T, axis=1)
    counts = np.bincount(nearest, minlength=64)
    means = (np.bincount(nearest, weights=y, minlength=64) + y.mean()) / (counts + 1.0)
    return lambda asked: np.asarray(means[np.argmax(asked @ centres.T, axis=1)])


def calibrated(scores: FloatArray, good: FloatArray, *, alpha: float = ALPHA) -> float:
    found = crc_threshold(
        worst_in_set(scores[:, None], good[:, None] == 1.0),
        np.ones(len(good)),
        test_weight=1.0,
        alpha=alpha,
    )
    return found.threshold if isinstance(found, Feasible) else SAFE


def measured(fit: Fit, *, in_sample: bool, runs: int = 150) -> tuple[float, float]:
    """Return the mean risk above α over fresh requests, and its standard error."""
    rng = np.random.default_rng(3)
    risks = []
    for run in range(runs):
        x, fresh = prompts(rng, LABELS), prompts(rng, FRESH)
        y, y_fresh = acceptable(rng, x), acceptable(rng, fresh)
        tie = jitter([RequestId(f"{run}-{i}") for i in range(LABELS)], [CHEAP])[:, 0]
        learnt = fit(x, y) if in_sample else None
        scores = np.empty(LABELS)
        fold = np.arange(LABELS) % FOLDS
        models = []
        for f in range(FOLDS):
            models.append(learnt or fit(x[fold != f], y[fold != f]))
            scores[fold == f] = models[f](x[fold == f])
        at = calibrated(scores + tie, y)
        served = np.arange(FRESH) % FOLDS
        seen = np.empty(FRESH)
        for f in range(FOLDS):
            seen[served == f] = models[f](fresh[served == f])
        risks.append(float(np.mean((seen > at) * (1.0 - y_fresh))))
    found = np.array(risks)
    return float(found.mean() - ALPHA), float(found.std(ddof=1) / np.sqrt(runs))


@pytest.mark.parametrize("fit", [ridge, table])
def test_labels_that_trained_the_score_break_the_promise_by_a_wide_margin(fit: Fit) -> None:
    over, error = measured(fit, in_sample=True)
    assert over > 0.015 + 3.0 * error


@pytest.mark.parametrize("fit", [ridge, table])
def test_scores_without_the_label_s_own_fold_hold_the_promise(fit: Fit) -> None:
    over, error = measured(fit, in_sample=False)
    assert over <= 3.0 * error


def judged(n: int, x: Float32Array, good: float, *, run: int) -> JudgedRequest:
    request = sampled(
        n + 1,
        request_id=RequestId(f"{run}-{n}"),
        fold=n % FOLDS,
        reference=REFERENCE,
        served_expert=REFERENCE,
        threshold=SAFE,
        embedding=x,
    )
    return JudgedRequest(
        request=request,
        scores={CHEAP: good, REFERENCE: 1.0},
        outcomes={CHEAP: int(good), REFERENCE: 1},
    )


def shipped(rng: np.random.Generator, run: int) -> tuple[ScorerModel, list[JudgedRequest]]:
    x = prompts(rng, LABELS)
    y = acceptable(rng, x)
    rows = [judged(n, x[n], float(y[n]), run=run) for n in range(LABELS)]
    settings = LearnSettings(
        columns=(REFERENCE, CHEAP), relative_costs=(1.0, 0.1), cost_weight=1.0, margin=0.05
    )
    learner = OnlineLearner(_centroids(), settings)
    for row in rows:
        learner.learn(row)
    return learner.frozen(), rows


@cache
def _centroids() -> Float32Array:
    x = prompts(np.random.default_rng(8), 400)
    return fit_centroids(x, [1 + i % 4 for i in range(400)])


def test_the_shipped_loop_of_learning_and_rescoring_holds_the_promise() -> None:
    """``OnlineLearner`` → ``rescore`` → λ; fresh requests served by ``excluded_fold(fold)``."""
    rng = np.random.default_rng(4)
    risks, levels = [], []
    for run in range(40):
        model, rows = shipped(rng, run)
        window = calibration_window(
            rescore(rows, model, ()),
            {CHEAP},
            last_seq=LABELS,
            from_seq=0,
            policy=PolicySettings(reference=REFERENCE),
        )
        found = crc_threshold(window.losses, np.ones(len(window)), test_weight=1.0, alpha=ALPHA)
        at = found.threshold if isinstance(found, Feasible) else SAFE
        fresh = prompts(rng, FRESH)
        y = acceptable(rng, fresh)
        losses = []
        for fold in range(FOLDS):
            part = slice(fold, None, FOLDS)
            ids = [RequestId(f"fresh-{run}-{n}") for n in range(FRESH)][part]
            quality = score(model, fresh[part], excluded=excluded_fold(fold)).quality
            seen = jittered(quality, ids, model.columns)[:, 1]
            losses.append((seen > at) * (1.0 - y[part]))
        risks.append(float(np.concatenate(losses).mean()))
        levels.append(at)
    found_risks = np.array(risks)
    error = float(found_risks.std(ddof=1) / np.sqrt(len(risks)))
    assert found_risks.mean() - ALPHA <= 3.0 * error
    assert found_risks.mean() >= ALPHA - 0.04
    assert all(at < SAFE for at in levels)
