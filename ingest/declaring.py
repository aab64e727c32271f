"""Changes of an expert by an operator that HTTP and the command line make alike."""

from __future__ import annotations

from recalibrate.health import recovered
from store.ledger import Transaction
from store.needs import Capabilities, check_capabilities
from store.records import Baseline, Expert, ExpertStatus


def declare(tx: Transaction, expert: Expert, capabilities: Capabilities) -> None:
    """Store what an expert can do; in force with the next state.

    Its regression test starts over: from here on other requests are judged, and outcomes on them
    are no worse only because they are others. Raises ``EventRejected`` (``bad_capabilities``).
    """
    if check_capabilities(capabilities) != expert.capabilities:
        tx.experts.set_capabilities(expert.name, capabilities)
        tx.experts.set_baseline(expert.name, Baseline(seq=tx.decisions.last_seq()))


def take_over(tx: Transaction, expert: Expert, after: ExpertStatus) -> bool:
    """End a pause for failing calls because an operator sets a status; True when that is all: the
    pause is the operator's from here, and nothing but an operator ends it.
    """
    if not expert.is_failing:
        return False
    health = recovered(expert.health, last_seq=tx.decisions.last_seq())
    tx.experts.set_health(expert.name, before=expert.health, after=health)
    return after is ExpertStatus.PAUSED
