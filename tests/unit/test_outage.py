"""What an outage of one expert leaves in the window behind λ: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingest.local import LocalLoop
from recalibrate.health import paused, recovered
from store.records import ExpertStatus
from tests.unit.loop_fakes import SMALL, TRAINED, expert_of, run, state_of, trained

pytestmark = pytest.mark.usefixtures("few_cycles")
OUTAGE = 96


def after_an_outage(*, is_remembered: bool) -> LocalLoop:
    """A trained loop whose best cheap expert was out for some judged requests and is back."""
    made = trained(more=OUTAGE)
    before = expert_of(made, SMALL)
    assert before.status is ExpertStatus.CERTIFIED
    now = made.clock.now()
    with made.ledger.begin() as tx:
        health = paused(before, error="timeout", judged_to=tx.decisions.last_seq(), now=now)
        tx.experts.set_status(SMALL, before=before.status, after=ExpertStatus.PAUSED, now=now)
        tx.experts.set_health(SMALL, before=before.health, after=health)
    made.settle()
    served = run(made, first=TRAINED)
    assert SMALL not in {s.decision.expert for s in served}
    gone = expert_of(made, SMALL)
    with made.ledger.begin() as tx:
        back = recovered(gone.health, last_seq=tx.decisions.last_seq())
        if not is_remembered:
            back = replace(back, absences=())
        assert tx.experts.recover(gone, health=back, now=made.clock.now())
    made.settle()
    return made


def test_an_expert_that_was_out_is_certified_again_at_once_and_costs_no_other() -> None:
    made = after_an_outage(is_remembered=True)
    assert expert_of(made, SMALL).status is ExpertStatus.CERTIFIED
    assert SMALL in state_of(made).members
    assert state_of(made).safe_reason is None


def test_counting_the_outage_as_losses_would_have_closed_the_set() -> None:
    """The negative control: the same loop, had it not kept when the expert was out."""
    kept, lost = (state_of(after_an_outage(is_remembered=r)).threshold for r in (True, False))
    assert lost > kept
