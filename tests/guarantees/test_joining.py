"""Experts that join: useless ones stay in their quota, good ones get through, copies do no harm.

Monte Carlo over the real handler, judge and learner in event time; seeds are fixed. Each statement
has a control that breaks the rule it rests on and must fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.timing import mean_with_interval
from online import learn
from online.chance import draw
from recalibrate import inputs, lifecycle
from store.records import ExpertStatus, Reason
from tests.newcomers import (
    ALPHA,
    BETTER,
    LABELS,
    MORE,
    NEW,
    USELESS,
    WINDOW,
    Run,
    drawn,
    joined,
    of_newcomer,
    recorded,
)
from tests.unit.loop_fakes import regret

pytestmark = pytest.mark.slow

QUOTA = 0.01
SEEDS = range(6)
SETTLED = 160
"""Requests after which the pool with a copy is compared with the pool without."""
HARM = 0.03
"""Regret that a copy may add or take away."""


@pytest.fixture(autouse=True)
def _few_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MIN_NEW_LABELS", 150)
    monkeypatch.setattr(learn, "_REFIT_EVERY", 56)


@pytest.mark.parametrize("restart_after", [None, 192], ids=["one life", "restarted in its ramp"])
def test_a_useless_newcomer_serves_no_request_outside_its_quota(restart_after: int | None) -> None:
    """Exactly: whom it serves, the request's own draw chose, in this process or the next."""
    served = quota = 0
    for seed in SEEDS:
        found = joined(seed, USELESS, price=0.001, restart_after=restart_after)
        assert ExpertStatus.RAMPING in found.statuses
        assert of_newcomer(found) <= drawn(found, QUOTA)
        for one in found.served:
            if one.decision.expert == NEW:
                assert (one.decision.reason, one.decision.propensity) == (Reason.RAMP, QUOTA)
        served += len(of_newcomer(found))
        quota += len(drawn(found, QUOTA))
    assert 0 < served <= quota
    n = len(SEEDS) * MORE
    assert served / n <= QUOTA + 3.0 * (QUOTA / n) ** 0.5


def test_a_quota_that_is_drawn_too_often_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("online.route.draw", lambda use, request: draw(use, request) ** 2)
    found = joined(0, USELESS, price=0.001)
    assert not of_newcomer(found) <= drawn(found, QUOTA)
    assert found.share() > QUOTA


def shares(seeds: Sequence[int]) -> list[float]:
    """Return the newcomer's share after its 300th label over its natural share, by run."""
    ratios = []
    for seed in seeds:
        found, known = joined(seed, BETTER), joined(seed, BETTER, is_old=True)
        at = found.at_labels(LABELS)
        assert at is not None
        natural = known.share(at, at + WINDOW)
        assert natural > 0.5
        ratios.append(found.share(at, at + WINDOW) / natural)
    return ratios


def test_a_better_and_cheaper_newcomer_has_more_than_half_its_natural_share_in_300_labels() -> None:
    """Natural: what it gets of the same requests where it was known from the first one. Probes are
    among its labels, and the window begins with the 300th.
    """
    found = shares(SEEDS[:4])
    assert min(found) > 0.5
    assert mean_with_interval(found)[1] > 0.5


def test_a_newcomer_that_is_never_certified_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "FLOOR", 10_000.0)
    found = joined(0, BETTER)
    assert found.share(found.at_labels(LABELS) or 0) < 0.1


def added_regret(seed: int, **changes: Any) -> float:
    """Return the regret with a copy of an expert in the pool less that without."""

    def of(found: Run) -> float:
        return regret(found.served[SETTLED:])

    return of(joined(seed, None, price=0.2, **changes)) - of(joined(seed, None, stays_out=True))


def test_a_copy_of_an_expert_does_not_change_the_regret() -> None:
    _, low, high = mean_with_interval([added_regret(seed) for seed in SEEDS])
    assert -HARM < low <= high < HARM


def test_a_copy_by_the_judge_s_word_alone_does() -> None:
    """The judge sees the answers of a copy; what it serves is useless."""
    found = []
    for seed in SEEDS[:3]:
        lying = joined(seed, USELESS, price=0.19, judged=recorded(seed, None))
        without = joined(seed, None, stays_out=True)
        found.append(regret(lying.served[SETTLED:]) - regret(without.served[SETTLED:]))
    assert mean_with_interval(found)[1] > HARM
    assert max(found) > ALPHA
