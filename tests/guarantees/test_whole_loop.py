"""The promise end to end: handler, judge, learner and publisher over the memory ledger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from judge.port import Judge
from judge.recorded import InvertedJudge, PositionBiasedJudge, RecordedJudge
from online import learn
from recalibrate import inputs
from tests.unit.loop_fakes import TRAINED, cheap_share, loop, regret, run, traffic

pytestmark = pytest.mark.slow

ALPHA = 0.2
REQUESTS = 160


@pytest.fixture(autouse=True)
def _few_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MIN_NEW_LABELS", 300)
    monkeypatch.setattr(learn, "_REFIT_EVERY", 56)


def risks(runs: int, *, judge: str = "honest", **changes: Any) -> tuple[list[float], list[float]]:
    """Return regret and share of cheap experts after training, per independent run."""
    found, cheap = [], []
    for seed in range(runs):
        recorded = traffic(TRAINED + REQUESTS, start=10_000 * seed, seed=seed)
        honest = RecordedJudge(recorded, margin=0.05)
        judges: dict[str, Judge] = {
            "honest": honest,
            "inverted": InvertedJudge(honest),
            "positions": PositionBiasedJudge(),
        }
        made = loop(recorded, judge=judges[judge], **changes)
        served = run(made)[TRAINED:]
        found.append(regret(served))
        cheap.append(cheap_share(served))
    return found, cheap


def standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": ALPHA},
        {"alpha": ALPHA, "cost_weight": 100.0, "epsilon": 0.05},
        {"alpha": ALPHA, "label_discount": 0.995, "cost_weight": 100.0},
    ],
    ids=["default", "cheapest and exploring", "discounted"],
)
def test_served_regret_stays_within_the_target_on_average(changes: dict[str, Any]) -> None:
    found, cheap = risks(10, **changes)
    assert np.mean(found) <= ALPHA + 3.0 * standard_error(found)
    assert np.mean(cheap) > 0.3


def test_a_useless_judge_leaves_no_more_than_the_target_to_cheap_experts() -> None:
    """Every label is a loss, so C_λ may be non-empty on a share α of the requests, no more."""
    _, cheap = risks(6, judge="positions", alpha=ALPHA)
    assert np.mean(cheap) <= ALPHA + 3.0 * standard_error(cheap)


def test_a_lying_judge_breaks_the_true_promise() -> None:
    """The negative control: every guarantee is with respect to the judge. A judge that prefers
    the worse answer sends traffic to the worst expert, and only canaries can tell.
    """
    found, _ = risks(4, judge="inverted", alpha=ALPHA)
    assert np.mean(found) > ALPHA + 3.0 * standard_error(found)
