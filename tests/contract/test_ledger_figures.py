"""The promises of ``store/facts.py`` on what is counted: costs of answers, labels that came."""

from __future__ import annotations

from dataclasses import replace

from store.ledger import Ledger
from store.records import PROBE, RequestId
from tests.contract.acts import R1, R2, decide
from tests.factories import CHEAP, ENCODER, NOON, STRONG, decided, label, later, response

DAY_S = 86_400.0


def test_costs_are_those_stated_of_served_and_shadow_answers(ledger: Ledger) -> None:
    decide(ledger, "r1", "r2", "r3")
    with ledger.begin() as tx:
        tx.responses.record([response("r1", cost_usd=0.5), response("r2", cost_usd=None)])
        tx.responses.record_shadow(response("r1", expert=STRONG, cost_usd=2.0))
        tx.responses.record_shadow(response("r1", expert=CHEAP, cost_usd=9.0))
        tx.responses.record_shadow(response("r3", expert=STRONG, cost_usd=3.0))
    with ledger.begin() as tx:
        assert tx.responses.costs([R1, R2, RequestId("nobody")]) == {
            (R1, CHEAP): 0.5,  # the served answer's
            (R1, STRONG): 2.0,
        }
        assert tx.responses.costs([]) == {}


def test_arrived_labels_are_counted_by_request_and_expert(ledger: Ledger) -> None:
    decide(ledger, "r1", "r2", "r3")
    with ledger.begin() as tx:
        tx.labels.add(
            [],
            [
                label("r1", labelled_at=later(10)),
                label("r1", expert=STRONG, labelled_at=later(10)),
                label("r2", labelled_at=later(20)),
                label("r2", expert=STRONG, purpose=PROBE, labelled_at=later(20)),
                label("r3", labelled_at=later(-10)),
            ],
        )
    with ledger.begin() as tx:
        found = tx.labels.arrived(since=NOON, encoder=ENCODER)
        assert (found.requests, found.first_at) == (2, later(10))
        assert found.by_expert == {CHEAP: 2, STRONG: 1}
        nothing = tx.labels.arrived(since=later(30), encoder=ENCODER)
        assert (nothing.requests, nothing.first_at, nothing.by_expert) == (0, None, {})


def test_labels_of_yesterdays_requests_are_among_the_arrived(ledger: Ledger) -> None:
    decide(ledger, "r1", decided_at=later(-DAY_S))
    with ledger.begin() as tx:
        tx.labels.add([], [label("r1", labelled_at=later(5))])
    with ledger.begin() as tx:
        assert tx.labels.arrived(since=NOON, encoder=ENCODER).requests == 1


def test_labels_of_another_encoder_and_of_erased_requests_have_not_arrived(ledger: Ledger) -> None:
    decide(ledger, "r1", "r2")
    decide(ledger, "r4", tenant="acme")
    with ledger.begin() as tx:
        tx.decisions.record([replace(decided("r3"), encoder_hash="another")])
        names = ("r1", "r2", "r3", "r4", "nobody")
        tx.labels.add([], [label(name, labelled_at=later(5)) for name in names])
        assert tx.labels.arrived(since=NOON, encoder=ENCODER).requests == 3
    with ledger.begin() as tx:
        tx.upkeep.erase(NOON.date(), tenant="acme", session_id=None, actor="ann", now=NOON)
        found = tx.labels.arrived(since=NOON, encoder=ENCODER)
        assert (found.requests, found.by_expert) == (2, {CHEAP: 2})
        assert tx.labels.arrived(since=NOON, encoder="another").requests == 1
