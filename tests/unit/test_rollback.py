"""Going back to an earlier scorer: λ never comes back with it unless it still means the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recalibrate.rollback import roll_back
from store.errors import NotFound, RequestConflict
from store.records import SAFE, Price
from tests.unit.loop_fakes import (
    SMALL,
    STRONG,
    TINY,
    TRAINED,
    cheap_share,
    policy,
    run,
    scorer_of,
    state_of,
    trained,
)

pytestmark = pytest.mark.usefixtures("few_cycles")


def test_a_rollback_holds_the_scorer_while_lambda_is_recomputed() -> None:
    made = trained(more=320)
    old = state_of(made)
    run(made, first=TRAINED, last=TRAINED + 160)
    newer = state_of(made)
    assert newer.model is not None
    assert old.model is not None
    assert newer.model.sha256() != old.model.sha256()
    version = roll_back(made.ledger, old.version, actor="test", clock=made.clock)
    made.settle()
    assert version == newer.version + 1
    run(made, first=TRAINED + 160)
    after = state_of(made)
    assert after.version > version
    assert scorer_of(made).sha256() == old.model.sha256()
    assert after.effective_labels != old.effective_labels
    made.set_policy(replace(after.policy, hold=False))
    made.settle()
    assert scorer_of(made).sha256() != old.model.sha256()


def test_a_rollback_over_a_change_of_reference_serves_the_reference() -> None:
    """λ of the old yardstick must not come back with the old scorer."""
    made = trained(more=64, reference=TINY)
    old = state_of(made)
    assert old.threshold < SAFE
    made.set_policy(policy(reference=STRONG))
    made.settle()
    roll_back(made.ledger, old.version, actor="test", clock=made.clock)
    made._watcher.step()
    assert state_of(made).threshold == SAFE
    assert state_of(made).policy.reference == STRONG
    assert cheap_share(run(made, first=TRAINED)) == 0.0


def test_a_held_scorer_that_never_knew_the_reference_is_put_aside() -> None:
    made = trained(more=64, experts=[STRONG, SMALL])
    made.set_policy(policy(hold=True))
    made.add_expert(TINY, Price(request_usd=0.05))
    assert TINY not in scorer_of(made).columns
    made.set_policy(policy(reference=TINY, hold=True))
    made.settle()
    assert state_of(made).model is None
    assert {s.decision.expert for s in run(made, first=TRAINED)} == {TINY}


def test_rolling_back_to_the_active_state_is_a_conflict() -> None:
    made = trained(16)
    with pytest.raises(RequestConflict):
        roll_back(made.ledger, state_of(made).version, actor="test", clock=made.clock)


def test_rolling_back_to_a_state_that_never_was_is_not_found() -> None:
    with pytest.raises(NotFound):
        roll_back((made := trained(16)).ledger, 99, actor="test", clock=made.clock)


def test_a_rollback_to_a_laxer_target_serves_the_reference_until_lambda_is_recomputed() -> None:
    made = trained()
    old = state_of(made)
    made.set_policy(policy(alpha=0.05))
    made.settle()
    roll_back(made.ledger, old.version, actor="test", clock=made.clock)
    made._watcher.step()
    assert state_of(made).threshold == SAFE
    assert state_of(made).policy.alpha == 0.05
