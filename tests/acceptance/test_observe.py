"""What ``steersman observe`` expects is what follows once it is turned on, on real traffic."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from ingest.demo_traffic import GEMINI, LLAMA, MISTRAL, WARM
from ingest.local import LocalLoop, Served, request_price
from recalibrate.observing import Observation, observe
from recalibrate.realised import Verdict
from store.policy import PolicySettings
from tests.acceptance.story_runs import cost_share, encoder, regret, traffic_with

# The first test encodes every prompt of the demo, unless the cache has them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]
ALPHA = 0.10
OBSERVED = 2_000


@cache
def turned_on() -> tuple[Observation, list[Served], list[Served]]:
    """Observe the first requests, ask, turn it on, serve the rest."""
    traffic = traffic_with(None)
    ids = list(traffic.prompts)
    policy = PolicySettings(reference=GEMINI, alpha=ALPHA, label_rate=0.3, mode="observe")
    loop = LocalLoop(traffic, policy, encoder())
    for expert in (GEMINI, LLAMA, MISTRAL):
        loop.add_expert(expert, request_price(traffic, expert, ids[:WARM]))
    before = list(loop.serve(ids[:OBSERVED]))
    found = observe(loop.ledger, loop.clock)
    loop.set_policy(replace(policy, mode="apply"))
    loop.settle()
    return found, before, list(loop.serve(ids[OBSERVED:]))


def test_while_observing_the_reference_serves_everything() -> None:
    _, before, after = turned_on()
    assert {s.decision.expert for s in before} == {GEMINI}
    assert len({s.decision.expert for s in after}) > 1


def test_the_cost_and_the_risk_that_follow_lie_in_the_intervals() -> None:
    found, _, after = turned_on()
    [one] = [o for o in found.outlooks if o.alpha == ALPHA]
    assert found.looked_at > 500
    assert one.risk is not None
    assert one.risk.rate is not None
    assert one.cost_share is not None
    assert one.risk.rate.low <= regret(after) <= one.risk.rate.high
    assert one.cost_share.low <= cost_share(after) <= one.cost_share.high
    # Intervals that say nothing would hold anything.
    assert one.risk.rate.high - one.risk.rate.low < 0.10
    assert one.cost_share.high - one.cost_share.low < 0.35


def test_at_no_target_is_the_promise_expected_to_fail() -> None:
    found, _, _ = turned_on()
    for one in found.outlooks:
        assert one.risk is not None
        assert one.risk.verdict is not Verdict.NOT_HELD
        assert one.unjudged == 0
