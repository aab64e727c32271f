"""Changing what an expert declares that it can do; the same for HTTP and the command line."""

from __future__ import annotations

from store.ledger import Transaction
from store.needs import Capabilities, check_capabilities
from store.records import Baseline, Expert


def declare(tx: Transaction, expert: Expert, capabilities: Capabilities) -> None:
    """Store what an expert can do; in force with the next state.

    Its regression test starts over: from here on other requests are judged, and outcomes on them
    are no worse only because they are others. Raises ``EventRejected`` (``bad_capabilities``).
    """
    if check_capabilities(capabilities) != expert.capabilities:
        tx.experts.set_capabilities(expert.name, capabilities)
        tx.experts.set_baseline(expert.name, Baseline(seq=tx.decisions.last_seq()))
