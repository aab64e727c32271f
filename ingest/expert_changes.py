"""Changes of an expert by an operator that HTTP and the command line make alike."""

from __future__ import annotations

from datetime import datetime

from recalibrate.health import recovered
from store.errors import RequestConflict
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


def set_status(tx: Transaction, expert: Expert, after: ExpertStatus, *, now: datetime) -> None:
    """Pause, bring back to shadow, or retire an expert; a pause for failing calls ends with it.

    Retiring is for good: descriptors and probe answers are deleted with it.

    Raises
    ------
    RequestConflict
        It is the reference (``expert_is_reference``), or has just changed (``expert_changed``).
    EventRejected
        Its status does not lead there (``illegal_status``).
    """
    policy = tx.policies.current()
    if policy is not None and policy[1].reference == expert.name:
        raise RequestConflict(
            "expert_is_reference",
            f"{expert.name} is the reference, the safe fallback; set another one first:"
            " steersman policy set reference=…",
        )
    if expert.is_failing:
        health = recovered(expert.health, last_seq=tx.decisions.last_seq())
        if not tx.experts.set_health(expert.name, before=expert.health, after=health):
            raise _changed(expert)  # a probe was faster
        if after is ExpertStatus.PAUSED:
            return  # the pause is the operator's from here, and nothing but an operator ends it
    if not tx.experts.set_status(expert.name, before=expert.status, after=after, now=now):
        raise _changed(expert)
    if after is ExpertStatus.RETIRED:
        tx.describing.forget(expert.name)


def _changed(expert: Expert) -> RequestConflict:
    return RequestConflict("expert_changed", f"{expert.name} has just changed; look again")
